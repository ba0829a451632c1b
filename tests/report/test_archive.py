"""What is taken from an archive, what is written anew, and what is refused."""

import json

import pytest
import yaml

from poet.files import UserError, read_jsonl
from poet.report import archive


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


ROWS = [
    {"index": i, "instruction": f"Question {i}?", "output_1": f"Reference {i}.", "output_2": "A."}
    for i in (1, 0, 2)
]


@pytest.fixture
def folders(tmp_path):
    write(tmp_path / "archive/annotations/world/judge/dpo/seed-1.json", ROWS)
    write(tmp_path / "archive/models/world/dpo/seed-1/train.json", {})
    (tmp_path / "archive/models/world/dpo/seed-1/model.safetensors").write_bytes(b"weights")
    return tmp_path / "archive", tmp_path / "results"


def run(folders, tmp_path) -> dict:
    config = tmp_path / "default.yaml"
    config.write_text("seeds: [7]\n")
    target = tmp_path / "config.yaml"
    archive.main(
        ["--from", str(folders[0]), "--into", str(folders[1]), "--config", str(config),
         "--write-config", str(target)]
    )  # fmt: skip
    return yaml.safe_load(target.read_text())


def test_models_stay_and_prompts_follow_from_annotations(folders, tmp_path):
    assert run(folders, tmp_path) == {"seeds": [7]}
    taken = {str(p.relative_to(folders[1])) for p in folders[1].rglob("*") if p.is_file()}
    assert taken == {
        "annotations/world/judge/dpo/seed-1.json", "models/world/dpo/seed-1/train.json",
        "data/world/prompts.jsonl",
    }  # fmt: skip
    prompts = read_jsonl(folders[1] / "data/world/prompts.jsonl")
    assert [(p["index"], p["instruction"], p["reference"]) for p in prompts] == [
        (i, f"Question {i}?", f"Reference {i}.") for i in range(3)
    ]


def test_the_manifests_configuration_is_the_runs(folders, tmp_path):
    write(folders[0] / "manifest.json", {"config": {"seeds": [1, 2]}})
    assert run(folders, tmp_path) == {"seeds": [1, 2]}


def test_again_takes_nothing(folders):
    assert len(archive.take(*folders)) == 2
    assert archive.take(*folders) == []


def test_what_an_older_version_made_of_verdicts_is_named(folders, tmp_path, capsys):
    write(folders[0] / "safety/world/guard/rates.json", {})
    write(folders[0] / "safety/world/guard/dpo/seed-1.json", [])
    run(folders, tmp_path)
    assert not (folders[1] / "safety").exists()
    said = capsys.readouterr().err
    assert "safety/world/guard/rates.json is an older version's" in said and "summarise" in said


def test_two_runs_do_not_mix(folders):
    write(folders[1] / "annotations/world/judge/dpo/seed-1.json", ROWS[:1])
    with pytest.raises(
        UserError, match=r"seed-1\.json differs from the archive's \(1 such files\)"
    ):
        archive.take(*folders)
    assert not (folders[1] / "models").exists()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="no scores/ and no annotations/ in it"):
        archive.take(tmp_path / "other", tmp_path / "results")
