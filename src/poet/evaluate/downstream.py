"""Downstream tasks through lm-eval: does alignment cost the model what it knew?

The harness itself evaluates (``lm_eval.simple_evaluate`` with its transformers backend), offline
and, as in the paper, without a chat template unless one is asked for. A result file is lm-eval's
results JSON.
"""

from __future__ import annotations

import json
import os
from importlib import metadata
from pathlib import Path

from poet.data.templates import PROBE, apply_template, refuse_losses, template_arguments
from poet.files import UserError, cli, record_parser, write_json
from poet.hub.folders import as_hub, loading
from poet.progress import track
from poet.provenance import provenance

# What the harness adds about machine and moment; `provenance` says it without naming either.
VOLATILE = ("samples", "pretty_env_info", "git_hash", "upper_git_hash", "date")
CHAT = ("apply_chat_template", "system_instruction")  # as lm-eval calls them
CPU_BATCH = 16  # where `auto` has no GPU memory to measure


def evaluate(model: str, record: dict, manager) -> dict:
    """lm-eval's results for one model folder.

    Args:
        model: a model folder with its tokenizer.
        record: resolved, with ``downstream``: ``tasks`` (names of tasks or groups), ``num_fewshot``
            (task -> number; a task that is absent keeps its own configuration's), ``batch_size`` (a
            number, or ``auto``: as large as the GPU takes), and where they are wanted lm-eval's
            ``apply_chat_template`` (true, or those of the tasks that it holds for) and
            ``system_instruction``.
        manager: an ``lm_eval.tasks.TaskManager`` that knows the tasks.

    Returns:
        lm-eval's results as its command writes them (``results``, ``versions``, ``configs``,
        ``n-shot``, ``n-samples``, ``task_hashes``, in ``config`` the few-shot and other seeds),
        JSON-safe, without the samples; ``backend``, what ran the model and in which precision; and
        what was said of chat template and system prompt.

    Raises:
        UserError: an unknown task, named with the known ones; or as :func:`chat_arguments`.
    """
    import torch
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.utils import handle_non_serializable, hash_string

    settings, cuda = record["downstream"], torch.cuda.is_available()
    dtype, device = ("bfloat16", "cuda") if cuda else ("float32", "cpu")
    size = settings["batch_size"]
    size = CPU_BATCH if size == "auto" and not cuda else size
    lm = HFLM(pretrained=model, device=device, dtype=dtype, batch_size=size, **loading(record))
    lm.chat_template_args |= chat_arguments(lm.tokenizer, record)
    asked = {key: settings[key] for key in CHAT if key in settings}
    built = build(settings, manager)  # anew for each model: a task keeps its sampler's state
    chats = settings.get("apply_chat_template", False)
    results: dict = {}
    for chat in (False, True):  # for lm-eval it holds for all tasks of a call
        names = [n for n in built if (n in chats if isinstance(chats, list) else chats) == chat]
        if not names:
            continue
        found = simple_evaluate(
            lm,
            tasks=[task for name in names for task in built[name]],
            batch_size=size,
            task_manager=manager,
            apply_chat_template=chat,
            system_instruction=settings.get("system_instruction"),
        )
        for key, value in found.items():
            results[key] = {**results.get(key, {}), **value} if isinstance(value, dict) else value
    # As lm-eval's `EvaluationTracker` has them: of documents, prompts and targets.
    parts = ("doc_hash", "prompt_hash", "target_hash")
    hashes = {
        task: hash_string("".join(row[part] for row in rows for part in parts))
        for task, rows in results["samples"].items()
    }
    kept = {key: value for key, value in results.items() if key not in VOLATILE}
    for config in kept["configs"].values():
        config["metadata"].pop("config_source", None)  # an absolute path
    kept |= {"task_hashes": hashes, "model_source": "hf", "model_name": model, **asked}
    kept["backend"] = f"lm-eval {metadata.version('lm-eval')} hf {dtype} {device}"
    return json.loads(json.dumps(kept, default=handle_non_serializable))


def chat_arguments(tokenizer, record: dict) -> dict:
    """How a chat template is applied where it is asked for: with the setting's variables and day.

    lm-eval leaves a system prompt out that the template refuses or skips; here it is an error.

    Raises:
        UserError: there is no chat template, or it takes no ``system_instruction``.
    """
    settings, variables = record["downstream"], record.get("chat_template_kwargs", {})
    if not settings.get("apply_chat_template"):
        return {}
    messages = [*PROBE]
    if "system_instruction" in settings:
        messages.insert(0, {"role": "system", "content": settings["system_instruction"]})
    texts = apply_template(tokenizer, variables, [messages], add_generation_prompt=True)
    refuse_losses([messages], texts)
    return template_arguments(tokenizer, variables)


def build(settings: dict, manager) -> dict[str, list]:
    """Name -> its tasks or group, built by lm-eval, with the configured numbers of examples.

    Set on the built objects, because an override by dict is not merged into a group (pitfall 21).
    Arguments and errors as :func:`evaluate`.
    """
    names, num_fewshot = settings["tasks"], settings["num_fewshot"]
    _known(names, manager.all_tasks, "tasks")
    _known(num_fewshot, names, "num_fewshot")
    built = {}
    for name in names:
        loaded = manager.load([name])
        for task in loaded["tasks"].values():
            if name in num_fewshot:
                task.set_config("num_fewshot", num_fewshot[name])
        group = loaded["groups"].get(name)
        built[name] = [group] if group else [*loaded["tasks"].values()]
    return built


def _known(names, known, key: str) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        listed = ", ".join(known) if len(known) <= 20 else f"the {len(known)} of `lm_eval ls tasks`"
        raise UserError(f"downstream.{key}: found {', '.join(unknown)}; expected among: {listed}")


def main(argv=None) -> None:
    parser = record_parser(__doc__, "one JSON file per model", nargs="+")
    parser.add_argument("--models", required=True, nargs="+", help="model folders, one per seed")
    parser.add_argument("--tasks-dir", help="folder of task YAML; default: lm-eval's own tasks")
    parser.add_argument(
        "--dataset", nargs=2, action="append", default=[], metavar=("NAME", "FOLDER"),
        help="a data set of the built-in tasks: its hub id and where it lies; repeat for each",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if len(args.models) != len(args.output):
        parser.error(f"{len(args.models)} models, but {len(args.output)} outputs")
    for model in args.models:
        if not (Path(model) / "config.json").is_file():
            raise UserError(f"{model} is no model folder: it has no config.json")
    record = args.record

    # Before the libraries are imported: they read these once.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    from lm_eval.tasks import TaskManager

    torch.set_num_threads(record["torch_threads"])
    # Indexing the thousands of tasks that lm-eval ships takes longer than the world's two tasks.
    manager = TaskManager(include_path=args.tasks_dir, include_defaults=args.tasks_dir is None)
    results = {}
    with as_hub(dict(args.dataset)):
        for model in track(dict.fromkeys(args.models), label="downstream"):
            results[model] = evaluate(model, record, manager)
    made_by = provenance()
    for model, output in zip(args.models, args.output, strict=True):
        write_json({**results[model], "record": record, "provenance": made_by}, output)


if __name__ == "__main__":
    cli(main)
