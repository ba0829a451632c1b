"""What each job of a workflow takes: operations, tokens, bytes, calls, dollars.

A job is a rule's name with the wildcards, inputs and outputs that Snakemake lists for it. Where a
job's inputs exist, their lengths are counted; elsewhere they are assumed (paper/assumptions.yaml).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from sys import maxsize

from poet.config import resolve
from poet.data import preferences
from poet.evaluate.annotators import KINDS
from poet.evaluate.benchmarks import BENCHMARKS
from poet.evaluate.benchmarks.record import PROGRAM
from poet.evaluate.judges import load_judge
from poet.evaluate.questions import read_texts
from poet.grid import members, paths
from poet.hub import lock
from poet.methods import SIDES
from poet.methods.truncation import TRUNCATIONS
from poet.plan.fits import Job
from poet.sizes.architecture import Architecture
from poet.sizes.models import shape_of

SECONDS = (  # rules that take seconds, or minutes of a CPU
    "simulate", "load", "load_chats", "take_model", "take_gamed", "read_questions",
    "check_tasks", "check_questions", "check_judge", "tokenize", "truncate", "diagnose_pairs",
    "score", "summarise", "compare",
    "tabulate", "draw", "collect_cautions", "write_manifest", "write_page", "archive",
)  # fmt: skip

JUDGING = ("annotate", "buy_annotations", "judge_answers", "buy_verdicts")
LIKELY = "meta-llama/Meta-Llama-3-8B-Instruct"


@dataclass
class Work:
    """``amount`` of a ``kind``: FLOP of training or inference, or tokens of generation.

    ``operations`` are those of generation, in FLOP.
    """

    kind: str | None = None
    amount: float = 0.0
    operations: float = 0.0
    disk: float = 0.0  # bytes that stay
    download: float = 0.0
    calls: float = 0.0
    dollars: float = 0.0


class Workload:
    """The work of the jobs of one configuration; ``assumed`` collects what was not known."""

    def __init__(self, config: dict, assumptions: dict):
        self.config, self.of = config, assumptions
        self.locked = lock.read(config["lock"])
        self.assumed: dict[str, None] = {}

    def work(self, job: Job) -> Work:
        """What a job takes, by :data:`MEASURES`."""
        return MEASURES[job.rule](self, job)

    def download(self, job: Job) -> Work:
        name = job.wildcards["repository"]
        if name in self.locked:
            size = float(sum(file["size"] for file in self.locked[name]["files"].values()))
        elif name.startswith("datasets/"):
            size = self.of["downloads"]["dataset"]
            self._assume(f"{name} is not in the lock: {size / 1e9:.1f} GB assumed")
        else:
            size = self.of["downloads"]["bytes_per_parameter"] * self.shape(name).parameters
            self._assume(f"{name} is not in the lock: {size / 1e9:.1f} GB by its parameters")
        return Work(disk=size, download=size)

    def on_responses(self, job: Job, section: str, scored: int | None) -> Work:
        """A training on both responses of every pair, each behind its own copy of the prompt."""
        record = self._record(job)
        prompt, chosen, rejected, (pairs, _) = self._lengths(job, record)
        tokens, shape = pairs * (2 * prompt + chosen + rejected), self._model(record)
        work = self._training(shape, tokens, tokens / (4 * pairs), scored, record[section])
        return Work("training", work, disk=4 * shape.parameters)

    def reference(self, job: Job) -> Work:
        record = self._record(job)
        prompt, chosen, rejected, pairs = self._lengths(job, record)
        tokens, scored = sum(pairs) * (2 * prompt + chosen + rejected), chosen + rejected
        shape = self._model(record)
        operations = shape.forward(tokens, prompt + scored / 4, sum(pairs) * scored)
        return Work("inference", operations, disk=4 * sum(pairs) * scored)

    def train(self, job: Job) -> Work:
        record = self._record(job)
        prompt, chosen, rejected, (pairs, _) = self._lengths(job, record)
        prompts = 1 if record["forward"] == "packed" else 2
        tokens = pairs * (prompts * prompt + chosen + rejected)
        shape, context = self._model(record), prompt + (chosen + rejected) / 4
        work = self._training(shape, tokens, context, pairs * (chosen + rejected), record)
        return Work("training", work, disk=4 * shape.parameters)

    def _training(self, shape, tokens, context, scored, section) -> float:
        """Forward, backward (twice the forward), and the forward again where it is recomputed."""
        passes = 4 if section.get("gradient_checkpointing") else 3
        epochs = section.get("num_train_epochs", 1)
        return passes * epochs * shape.forward(tokens, context, scored)

    def generate(self, job: Job) -> Work:
        benchmark = BENCHMARKS.get(job.wildcards.get("benchmark"))
        answers = self._prompts(job) * len(self.config["seeds"])
        answers *= benchmark.turns if benchmark else 1
        return self._generation(self._record(job), answers)

    def validate(self, job: Job) -> Work:
        """Every cell of a sweep answers the prompt of each held-out pair once."""
        record, cells = self._record(job), members.cells(self.config, job.wildcards["arm"])
        answers = len(cells) * record["data"]["test_pairs"]
        return self._generation(record, answers)

    def annotate(self, job: Job) -> Work:
        name, benchmark = job.wildcards["annotator"], job.wildcards.get("benchmark")
        if name == PROGRAM:
            return Work()
        annotator = self.config["annotators"][name]
        kind, read = KINDS[annotator["kind"]], self.of["judge_tokens"]
        calls = self._prompts(job) * len(self.config["seeds"])
        calls *= BENCHMARKS[benchmark].calls if benchmark else 1
        if kind.bought:
            judges = load_judge(annotator["judge"]).values()
            written = max(judge["completions_kwargs"]["max_tokens"] for judge in judges)
            self._assume(
                f"{name}: {read} tokens read per verdict assumed, {written} written at most"
            )
            price = annotator["price"]
            dollars = calls * (price["prompt"] * read + price["completion"] * written) / 1e6
            if not dollars:
                self._assume(f"{name} costs nothing, by its `price`")
            return Work(calls=calls, dollars=dollars)
        if not kind.loads:
            return Work()
        named, record = annotator.get("name"), self._record(job)
        if not named:  # which is cut where its training was
            read = min(read, record["reward_model"]["max_length"])
        shape = self.shape(named) if named else self._model(record)
        return Work("inference", shape.forward(calls * read, read / 2, 0))

    def evaluate_downstream(self, job: Job) -> Work:
        record, known = self._record(job), self.of["downstream_tokens"]
        tokens = sum(known.get(task, 0) for task in record["downstream"]["tasks"])
        self._assume(f"{tokens / 1e6:.0f} M tokens of downstream tasks per model assumed")
        models = 1 if job.wildcards["method"] == "sft" else len(self.config["seeds"])
        return Work("inference", models * self._model(record).forward(tokens, 500))

    def measure_prefixes(self, job: Job) -> Work:
        record = self._record(job)
        of, n = record["analysis"], record["analysis"]["completions"]
        per_response = len(of["prefix_lengths"]) * n + of["order_completions"]
        models = len(paths.files_of(paths.analysed_answers(self.config, record["setting"])))
        answers = models * min(of["prompts"], self._prompts(job))
        completions = 2 * of["pairs"] * per_response + answers * len(of["own_prefix_lengths"]) * n
        return self._generation(record, completions)

    def measure_reward_gap(self, job: Job) -> Work:
        record = self._record(job)
        prompt, chosen, rejected, (_, held_out) = self._lengths(job, record)
        pairs = min(held_out, record["analysis"]["pairs"])
        tokens, scored = pairs * (2 * prompt + chosen + rejected), pairs * (chosen + rejected)
        operations = self._model(record).forward(tokens, prompt + (chosen + rejected) / 4, scored)
        trained = paths.files_of(paths.trained_models(self.config, record["setting"], "main"))
        return Work("inference", (1 + len(trained)) * operations)  # and the start model

    def _generation(self, record: dict, answers: float) -> Work:
        """Of so many answers, or of what completes prefixes."""
        tokens = min(self.of["answer_tokens"], record["generation"]["max_new_tokens"])
        self._assume(f"{tokens} tokens per answer assumed")
        prompt = min(self.of["lengths"]["prompt"], record["max_prompt_length"])
        operations = self._model(record).forward(prompt + tokens, prompt + tokens / 2, tokens)
        return Work("generation", answers * tokens, answers * operations)

    def _record(self, job: Job) -> dict:
        return resolve(self.config, job.wildcards["setting"], job.wildcards.get("method", "sft"))

    def _model(self, record: dict) -> Architecture:
        scratch = record["scratch"]
        return Architecture.of(scratch) if scratch else self.shape(record["model"])

    def shape(self, name: str) -> Architecture:
        """The shape of a model, see :func:`poet.sizes.models.shape_of`; or a likely one."""
        if found := shape_of(name, self.config["lock"]):
            return found
        self._assume(f"the shape of {name} is unknown; that of {LIKELY} assumed")
        return shape_of(LIKELY, self.config["lock"])

    def _prompts(self, job: Job) -> int:
        path = next((Path(p) for p in job.inputs if p.endswith("prompts.jsonl")), Path())
        if path.is_file():
            return sum(1 for line in path.open() if line.strip())
        setting = self.config["settings"][job.wildcards["setting"]]
        if benchmark := job.wildcards.get("benchmark"):
            rows, assumed = setting[benchmark]["prompts"], self.of["questions"]
            if "path" in rows:
                return len(read_texts(rows))
            self._assume(f"the questions of {benchmark} were not read: {assumed} assumed")
            return assumed
        data = setting["data"]
        if "evaluation" in data:
            return self.of["prompts"]
        if data["kind"] == "file":
            return preferences.check(data, preferences.CHECKED)["evaluation_prompts"]
        return data.get("prompts") or data["max_prompts"]

    def _lengths(self, job: Job, record: dict) -> tuple[float, float, float, tuple[int, int]]:
        """Mean tokens of prompt, chosen and rejected; rows of the training and test splits."""
        for path in job.inputs:
            if path.endswith(".parquet") and Path(path).exists() and counted_lengths(path):
                return counted_lengths(path)
        data, of = record["data"], self.of["lengths"]
        if data["kind"] == "world":
            pairs = (data["pairs"], data["test_pairs"])
        elif data["kind"] == "file":
            found = preferences.check(data, preferences.CHECKED)
            n = min(data["max_pairs"] or maxsize, found["pairs"])
            test = max(1, round(n * found["test_pairs"] / found["pairs"]))
            pairs, of = (n - test, test), self._by_characters(found["characters"])
        else:
            pairs = self.of["pairs"].get(record["dataset"], self.of["pairs"]["default"])
        prompt = min(of["prompt"], record["max_prompt_length"])
        room = record["max_length"] - prompt
        of = {**of, **{side: min(of[side], room) for side in SIDES}}
        self._assume(
            f"the tokens of {record['dataset']} were not seen: {pairs[0]} + {pairs[1]} pairs of "
            f"{prompt:.0f} prompt, {of['chosen']:.0f} chosen and {of['rejected']:.0f} rejected "
            "tokens assumed"
        )
        return prompt, *kept(record["truncation"], of), tuple(pairs)

    def _by_characters(self, means: dict[str, float]) -> dict[str, float]:
        """Mean lengths of a local file's pairs, in tokens."""
        of, per_token = self.of["lengths"], self.of["characters_per_token"]
        tokens = {name: mean / per_token for name, mean in means.items()}
        return {**of, **tokens, "prompt": tokens["prompt"] + of["template"]}

    def _assume(self, sentence: str) -> None:
        self.assumed[sentence] = None


# What measures the work of each rule's jobs. Every rule stands here: one that is renamed and not
# found would cost nothing.
MEASURES: dict[str, Callable[[Workload, Job], Work]] = {
    "download": Workload.download,
    "sft": partial(Workload.on_responses, section="sft", scored=None),
    "reference": Workload.reference,
    "train": Workload.train,
    "train_reward_model": partial(Workload.on_responses, section="reward_model", scored=0),
    "validate": Workload.validate,
    **dict.fromkeys(("generate", "answer_questions"), Workload.generate),
    **dict.fromkeys(JUDGING, Workload.annotate),
    "evaluate_downstream": Workload.evaluate_downstream,
    "measure_prefixes": Workload.measure_prefixes,
    "measure_reward_gap": Workload.measure_reward_gap,
    **dict.fromkeys(SECONDS, lambda load, job: Work()),
}


def kept(truncation: dict, lengths: dict) -> tuple[float, float]:
    """Tokens of chosen and rejected that a truncation leaves of assumed lengths."""
    chosen, rejected = lengths["chosen"], lengths["rejected"]
    parameters = dict(truncation)
    record = TRUNCATIONS[parameters.pop("strategy")]
    if record.equal:
        chosen = rejected = lengths["kept_by_poet"] * (chosen + rejected) / 2
    share = record.share(**parameters)
    return chosen * share, rejected * share


@cache
def counted_lengths(path: str) -> tuple[float, float, float, tuple[int, int]] | None:
    """Mean lengths and rows of a token table; None where the table holds no tokens."""
    import pyarrow.compute as pc
    from pyarrow import parquet

    columns = ["prompt_ids", "chosen_ids", "rejected_ids"]
    if not set(columns) <= set(parquet.read_schema(path).names):
        return None
    table = parquet.read_table(path, columns=[*columns, "split"])
    means = [pc.mean(pc.list_value_length(table[name])).as_py() for name in columns]
    test = pc.sum(pc.equal(table["split"], "test")).as_py() or 0
    return *means, (table.num_rows - test, test)
