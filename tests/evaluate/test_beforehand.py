"""What an evaluation cannot use is named without a trained model."""

import copy
import json
import re
import shutil

import pytest

from poet.data.model_limits import positions
from poet.evaluate import beforehand, downstream
from poet.files import UserError, read_json, write_json, write_jsonl

TEMPLATE = "<|im_start|>user\n{instruction}\n1: {output_1}\n2: {output_2}\n<|im_end|>"
JUDGE = """\
mine:
  prompt_template: mine.txt
  fn_completions: openai_completions
  completions_kwargs: {model_name: m, max_tokens: 1, logprobs: true}
  fn_completion_parser: logprob_parser
  completion_parser_kwargs: {numerator_token: m, denominator_tokens: [m, M]}
"""


@pytest.fixture(scope="module")
def manager():
    """lm-eval's index of its thousands of tasks, made once."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


@pytest.fixture
def tasks(manager, monkeypatch, tmp_path):
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda: manager)
    folder = tmp_path / "winogrande"
    row = {"sentence": "a _ b.", "option1": "c", "option2": "d", "answer": "1"}
    configuration = {"config_name": "winogrande_xl", "data_files": []}
    for split in ("train", "validation"):
        write_jsonl([row] * 8, folder / f"{split}.jsonl")
        configuration["data_files"].append({"split": split, "path": f"{split}.jsonl"})
    head = json.dumps({"configs": [configuration]})
    (folder / "README.md").write_text(f"---\n{head}\n---\n")

    def build(names, datasets, *flags, **chat):
        settings = {"tasks": names, "num_fewshot": {}, "batch_size": "auto", **chat}
        for name in datasets:
            flags += ("--dataset", name, str(folder))
        record = json.dumps({"downstream": settings, "chat_template_kwargs": {}})
        output = tmp_path / "tasks.json"
        beforehand.main(["tasks", "--record", record, *flags, "--output", str(output)])
        return read_json(output)

    return build


def test_tasks_are_built_of_their_data_sets(tasks):
    assert tasks(["winogrande"], ["allenai/winogrande"]) == {"tasks": ["winogrande"]}


@pytest.mark.parametrize(
    ("names", "datasets", "message"),
    [
        (["winogrande", "hela_swag"], ["allenai/winogrande"], "found hela_swag; expected among"),
        (["winogrande"], [], "data set allenai/winogrande is asked for, but .* not name it"),
        # A data set's name beside the wrong files, as another one's folder.
        (["arc_challenge"], ["allenai/ai2_arc"], "downstream.tasks cannot be loaded: .*ARC-Chall"),
    ],
)
def test_tasks_that_cannot_be_built(tasks, names, datasets, message):
    with pytest.raises(UserError, match=message):
        tasks(names, datasets)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template"),
        ("{{ messages[0].role == 'system' and raise_exception('No system!') }}", "No system!"),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}", None),
        (
            "{% for m in messages if m.role in ('user', 'assistant') %}{{ m.content }}{% endfor %}",
            "leaves out what a message says: content of the role system, 'Be brief.'",
        ),
    ],
)
def test_tasks_that_cannot_be_asked_in_the_models_template(
    tasks, start, tmp_path, template, message
):
    """lm-eval itself would leave the system prompt out, with a warning."""
    tokenizer = copy.deepcopy(start[1])
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path / "model")
    chat = {"apply_chat_template": True, "system_instruction": "Be brief."}
    given = (["winogrande"], ["allenai/winogrande"], "--model", str(tmp_path / "model"))
    if message is None:
        assert tasks(*given, **chat) == {"tasks": ["winogrande"]}
    else:
        with pytest.raises(UserError, match=message):
            tasks(*given, **chat)


@pytest.fixture
def folder(start, tmp_path):
    """A chat model with 128 positions, which can also judge with the labels m and M."""
    shutil.copytree(start[0], tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(("words", "new"), [(1, 8), (1, 120), (130, 8)])
def test_questions_are_held_against_the_start_model(folder, start, tmp_path, words, new):
    rows = [
        {"prompt": [{"role": "user", "content": "river " * n}], "instruction": "x"}
        for n in (1, words)
    ]
    write_jsonl(rows, tmp_path / "prompts.jsonl")
    needs = [["settings.own.generation.max_new_tokens", new, True]]
    flags = ["--record", '{"length_policy": "keep_start"}', "--needs", json.dumps(needs)]
    output = tmp_path / "checked.json"
    given = ["questions", "--prompts", str(tmp_path / "prompts.jsonl"), "--model", str(folder)]
    ids = start[1].apply_chat_template(rows[1]["prompt"], add_generation_prompt=True)
    longest = len(ids["input_ids"] if hasattr(ids, "keys") else ids)
    if longest + new <= 128:
        beforehand.main([*given, *flags, "--output", str(output)])
        assert read_json(output) == {"prompts": 2, "longest": longest}
    else:
        with pytest.raises(UserError, match=rf"128 positions.*\n.*{longest} \+ {new} tokens"):
            beforehand.main([*given, *flags, "--output", str(output)])
        assert not output.exists()


def test_of_several_turns_the_last_must_have_room_after_the_longest_answers(
    folder, start, tmp_path
):
    said = ["the river " * 2, "of Arlen", "is"]
    first = [{"role": "user", "content": said[0]}]
    write_jsonl([{"prompt": first, "turns": said}], tmp_path / "prompts.jsonl")
    talk = [*first]
    for turn in said[1:]:
        talk += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": turn}]
    text = start[1].apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    longest = len(start[1](text, add_special_tokens=False).input_ids)
    room = (128 - longest) // 3
    flags = ["--record", '{"length_policy": "keep_start"}', "--model", str(folder)]
    given = ["questions", "--prompts", str(tmp_path / "prompts.jsonl"), *flags]
    for new in (room, room + 1):
        needs = json.dumps([["settings.own.generation.max_new_tokens", new, True]])
        run = [*given, "--needs", needs, "--output", str(tmp_path / "checked.json")]
        if new == room:
            beforehand.main(run)
            assert read_json(tmp_path / "checked.json") == {"prompts": 1, "longest": longest}
        else:
            with pytest.raises(UserError, match=rf"3 turns of .*{longest} \+ {3 * new} tokens"):
                beforehand.main(run)


@pytest.mark.parametrize(
    ("what", "flags"),
    [("tasks", "--record"), ("questions", "--record and --prompts and --model"),
     ("judge", "--annotator and --settings and --prompts")],
)  # fmt: skip
def test_a_check_without_what_it_looks_at_is_refused(capsys, what, flags):
    with pytest.raises(SystemExit):
        beforehand.main([what, "--output", "unused"])
    assert f"{what} needs {flags}" in capsys.readouterr().err


@pytest.fixture
def judge(folder, tmp_path):
    (tmp_path / "mine.yaml").write_text(JUDGE)
    (tmp_path / "mine.txt").write_text(TEMPLATE)
    rows = [{"instruction": "Name a river.", "reference": "The Morin."}, {"instruction": "A lake?"}]
    write_jsonl(rows, tmp_path / "prompts.jsonl")

    def check(new=8, **settings):
        settings = {
            "kind": "local_judge", "name": "org/judge", "judge": str(tmp_path / "mine.yaml"),
            "batch_size": 1, **settings,
        }  # fmt: skip
        needs = [["settings.own.generation.max_new_tokens", new, True]]
        beforehand.main(
            ["judge", "--annotator", "mine", "--settings", json.dumps(settings), "--model",
             str(folder), "--prompts", str(tmp_path / "prompts.jsonl"), "--needs",
             json.dumps(needs), "--output", str(tmp_path / "checked.json")]
        )  # fmt: skip
        return read_json(tmp_path / "checked.json")

    return check


def test_a_local_judge_must_have_room_for_question_reference_and_answer(judge, start):
    content = "Name a river.\n1: The Morin.\n2:"
    text = start[1].apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    longest = len(start[1](text, add_special_tokens=False).input_ids)
    room = 128 - longest
    assert judge(new=room) == {"model": "org/judge", "longest": longest}
    with pytest.raises(UserError) as error:
        judge(new=room + 1)
    assert "annotators.mine" in str(error.value) and "org/judge has 128 posit" in str(error.value)
    assert f"a prompt of {longest} + {room + 1} tokens" in str(error.value)


def test_a_judge_that_was_downloaded_is_refused_as_a_folder_here_is(judge, folder, tmp_path):
    with pytest.raises(UserError, match="org/judge, whose .* names LlamaForC.*; expected a seq"):
        judge(kind="reward_model")
    (tmp_path / "mine.yaml").write_text(JUDGE.replace("[m, M]", "[m, better]"))
    with pytest.raises(UserError, match="no single token for the label 'better'"):
        judge()
    for path in [*folder.glob("chat_template.*")]:
        path.unlink()
    settings = read_json(folder / "tokenizer_config.json")
    settings.pop("chat_template", None)
    write_json(settings, folder / "tokenizer_config.json")
    with pytest.raises(UserError, match="annotators.mine.name is org/judge: .* no chat template"):
        judge()


def test_a_local_judge_does_not_read_beyond_its_positions(folder):
    from poet.evaluate.annotators.local_judge import LocalJudge

    assert positions(read_json(folder / "config.json")) == 128
    local = LocalJudge("mine", str(folder), ["m", "M"])
    asked = [{"messages": [{"role": "user", "content": "river " * n}]} for n in (1, 130)]
    with pytest.raises(UserError, match=r"annotators.mine: .* has 128 positions(.*\n)*.*answers"):
        local(asked, lambda choice: None)
    assert len(local(asked[:1], lambda choice: None)) == 1


def test_the_worlds_tasks_are_those_that_the_configuration_may_name(tmp_path):
    from lm_eval.tasks import TaskManager

    from poet.world.tasks import WORLD_TASKS, write_tasks

    (tmp_path / "t").mkdir()
    write_tasks(tmp_path / "t", tmp_path / "t")
    manager = TaskManager(include_path=str(tmp_path / "t"), include_defaults=False)
    assert set(manager.all_tasks) == {"world", *WORLD_TASKS}
    assert len(downstream.build({"tasks": [*WORLD_TASKS], "num_fewshot": {}}, manager)) == 2
    with pytest.raises(UserError, match=re.escape("found world_choise")):
        downstream.build({"tasks": ["world_choise"], "num_fewshot": {}}, manager)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"output_1": "The Rhine."}, "its output_1 is another"),
        ({"instruction": "Name a sea."}, "no verdict for 'Name a river.': the instruction is not"),
        ({"annotator": None}, "no annotator; found"),
    ],
)
def test_a_replay_must_be_of_these_prompts(judge, tmp_path, change, message):
    """What the models will answer is not known, but all else is."""
    row = {
        "instruction": "Name a river.", "output_1": "The Morin.", "output_2": "A.", "preference": 2,
        "generator_1": "r", "generator_2": "m", "annotator": "j",
    }  # fmt: skip
    row = {key: value for key, value in {**row, **change}.items() if value is not None}
    write_jsonl([{"instruction": "Name a river.", "reference": "The Morin."}],
                tmp_path / "prompts.jsonl")  # fmt: skip
    write_json([row], tmp_path / "paid.json")
    given = {"kind": "replay", "files": [str(tmp_path / "paid.json")], "allow_model_change": False}
    if message is None:
        assert judge(**given) == {"files": given["files"]}
    else:
        with pytest.raises(UserError, match=message):
            judge(**given)
