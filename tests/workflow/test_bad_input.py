"""Bad input ends with a message of one screen and exit code 1, before any job starts."""

import copy
import json

import pytest

GOOD = {"prompt": "Name a river.", "chosen": "The Morin.", "rejected": "A lake."}


def changed(config, path, value):
    config = copy.deepcopy(config)
    *parents, last = path.split(".")
    node = config
    for key in parents:
        node = node[key]
    node[last] = value
    return config


def assert_refused(workflow, result, *parts):
    assert result.returncode == 1
    message = result.stderr + result.stdout
    for part in parts:
        assert part in message
    assert len(message.splitlines()) < 25 and "Traceback" not in message
    assert not (workflow.folder / "results").exists()
    lines = message.splitlines()
    first = next(i for i, line in enumerate(lines) if "Error in" in line) + 1
    last = next(i for i, line in enumerate(lines) if i > first and line.startswith("  File"))
    return "\n".join(lines[first:last])


@pytest.mark.parametrize(
    ("path", "value", "parts"),
    [
        ("sedes", [1], ("unknown key sedes", "known keys", "seeds")),
        ("settings.world.preference.bata", 1, ("settings.world.preference", "unknown key bata")),
        ("settings.world.data.pears", 3, ("settings.world.data", "unknown key pears")),
        ("grid.world", ["sft", "dpo-peot"], ("unknown method", "dpo-peot", "dpo-poet")),
        ("methods.dpo.objective", "ppo", ("methods.dpo.objective", "ppo", "simpo")),
        ("settings.world.preference.per_device_batch_size", 5, ("32", "(5) does not divide")),
        ("seeds", "three", ("seeds", "three", "array")),
    ],
)
def test_configuration(workflow, small_config, path, value, parts, planted):
    run = workflow(changed(small_config, path, value))
    seen = assert_refused(run, run(), *parts)
    planted(f"configuration: `{path}: {value}`", seen, "no job starts")


def lines(*rows):
    return "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (lines(GOOD, {"prompt": "a", "chosen": "b"}), ("line 2", "rejected")),
        (lines(GOOD, {**GOOD, "chosen": " "}), ("line 2", "empty")),
        (lines(GOOD, {**GOOD, "rejected": GOOD["chosen"]}), ("line 2", "chosen")),
        (lines(GOOD, '{"prompt": "broken\n'), ("line 2", "JSON")),
        (lines(GOOD, {**GOOD, "system": "Be kind."}), ("line 2", "column system", "format: orca")),
        (
            lines(*({**GOOD, "prompt": f"Name river {n}."} for n in range(20))),
            ("evaluation prompts would be left", "Set test_fraction to"),
        ),
        (lines(GOOD).replace("Morin", "Mörin").encode("latin-1"), ("line 1", "expected UTF-8")),
        ("", ("pairs.jsonl", "empty")),
        (None, ("pairs.jsonl", "no such file")),
    ],
)
def test_pairs_file(workflow, own_config, content, parts, planted):
    run = workflow(own_config)
    if content is not None:
        content = content if isinstance(content, bytes) else content.encode()
        (run.folder / "pairs.jsonl").write_bytes(content)
    seen = assert_refused(run, run("--config", "pairs=pairs.jsonl"), *parts)
    planted(f"pairs file: {', '.join(parts)}", seen, "no job starts")


def test_no_pairs_file_given(workflow, own_config):
    run = workflow(own_config)
    assert_refused(run, run(), "--config pairs=FILE")
