"""A folder to run the real workflow in, with the embedded default cut small."""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from poet.files import read_json, write_json

ROOT = Path(__file__).parents[2]


class Workflow:
    """Runs Snakemake on the project's Snakefile in a folder of its own."""

    def __init__(self, folder: Path, config: dict):
        self.folder = folder
        self.config = folder / "config.yaml"
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))

    def command(self, *arguments: str) -> list[str]:
        return [
            sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"),
            "--directory", str(self.folder), "--cores", "2", "--rerun-incomplete",
            "--configfile", str(self.config), *arguments,
        ]  # fmt: skip

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, cwd=self.folder
        )

    def tables(self) -> dict[str, bytes]:
        tables = sorted((self.folder / "results" / "tables").iterdir())
        return {path.name: path.read_bytes() for path in tables}


def small(config: dict) -> dict:
    """The embedded default with little data and a tiny model: the same rules in a minute."""
    config = copy.deepcopy(config)
    world = config["settings"]["world"]
    world["data"] |= {"sft_examples": 200, "pairs": 32, "test_pairs": 8, "prompts": 30}
    world["model"]["scratch"] |= {"hidden_size": 32, "intermediate_size": 64}
    world["sft"] |= {"num_train_epochs": 1, "torch_threads": 1}
    world["generation"]["max_new_tokens"] = 24
    config["seeds"] = [1, 2]
    return config


@pytest.fixture(scope="session")
def default_config() -> dict:
    return yaml.safe_load((ROOT / "config.yaml").read_text())


@pytest.fixture(scope="session")
def small_config(default_config) -> dict:
    return small(default_config)


@pytest.fixture
def workflow(tmp_path):
    """Make a workflow of a configuration in a fresh folder."""
    return lambda config: Workflow(tmp_path, config)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, small_config) -> Workflow:
    """The small default, run once to its end."""
    workflow = Workflow(tmp_path_factory.mktemp("finished"), small_config)
    result = workflow()
    assert result.returncode == 0, result.stderr[-5000:]
    (workflow.folder / "stderr.log").write_text(result.stderr)
    return workflow


@pytest.fixture
def clone(tmp_path) -> Path:
    """A copy of the tracked files with this environment, as a user's checkout."""
    folder = tmp_path / "clone"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    for name in tracked:
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            # Hard links keep the times, so that make does not install again.
            os.link(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)
    return folder


@pytest.fixture
def own_config() -> dict:
    """config/own-data.yaml cut small."""
    config = yaml.safe_load((ROOT / "config" / "own-data.yaml").read_text())
    own = config["settings"]["own"]
    own["model"]["scratch"] |= {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64}
    own["sft"] |= {"torch_threads": 1}
    own["generation"]["max_new_tokens"] = 24
    config["seeds"] = [1]
    config["grid"] = {"own": ["sft", "dpo-poet"]}
    return config


@pytest.fixture
def own_model_config() -> dict:
    """config/own-model.yaml cut small."""
    config = yaml.safe_load((ROOT / "config" / "own-model.yaml").read_text())
    config["settings"]["own"]["generation"]["max_new_tokens"] = 24
    config["grid"] = {"own": ["sft", "dpo-poet"]}
    return config


@pytest.fixture
def chat_model(start, tmp_path) -> Path:
    """A folder of a tiny chat model whose positions are enough for config/own-model.yaml."""
    folder = tmp_path / "a chat model"
    shutil.copytree(start[0], folder)
    config = read_json(folder / "config.json")
    write_json({**config, "max_position_embeddings": 1024}, folder / "config.json")
    return folder
