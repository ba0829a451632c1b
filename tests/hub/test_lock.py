"""The lock file: only `make lock` writes it, and nothing may differ from what it says."""

import copy

import pytest
import yaml

from poet import config as poet_config
from poet.files import UserError
from poet.hub import download as hub
from poet.hub import lock, wanted
from poet.plan import lock as program

A, B = "a" * 40, "b" * 40
MODEL, PAIRS = "org/model", "datasets/org/pairs"
ENTRY = {"revision": A, "files": {"config.json": {"size": 2, "sha256": "0" * 64}}}


@pytest.fixture
def config(pytestconfig, tmp_path, monkeypatch):
    """Own data on the hub with a hub model, raw; the lock lies in the working directory."""
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((pytestconfig.rootpath / "config/own-data.yaml").read_text())
    own = config["settings"]["own"]
    own["data"] = {
        "kind": "hub", "dataset": "org/pairs", "revision": "unpinned", "splits": {"train": "train"}
    }  # fmt: skip
    own["model"] = {"name": MODEL, "revision": "unpinned"}
    return config


def written(tmp_path, **entries):
    path = tmp_path / "hub.lock.yaml"
    path.write_text(lock.HEADER + yaml.safe_dump(entries))
    return path


def test_what_a_configuration_asks_for(pytestconfig):
    config = poet_config.read(pytestconfig.rootpath / "config/paper.yaml")
    asked = wanted.repositories(config)
    models = {setting["model"]["name"] for setting in config["settings"].values()}
    assert models < set(asked)
    evaluation = "datasets/tatsu-lab/alpaca_eval"
    assert asked[evaluation]["files"] == ("alpaca_eval_gpt4_baseline.json", "df_gamed.csv")
    tasks = {name for name in asked if name.startswith("datasets/")} - {evaluation}
    pairs = {f"datasets/{setting['data']['dataset']}" for setting in config["settings"].values()}
    assert pairs < tasks and len(tasks - pairs) == 6
    assert all(entry["revision"] == "unpinned" for entry in asked.values())
    assert not any("*.py" in entry["files"] for entry in asked.values())


def test_chats_of_the_start_model_are_asked_for(config):
    config["settings"]["own"]["sft"] |= {"dataset": "org/chats", "revision": A}
    asked = wanted.repositories(poet_config.load(config))
    assert asked["datasets/org/chats"] == {"revision": A, "files": lock.DATA_FILES}


def test_the_scorer_of_an_analysis_is_asked_for(config):
    """Also where it is none of the setting's annotators."""
    config["annotators"]["scorer"] = {"kind": "reward_model", "name": "org/scorer"}
    config["settings"]["own"]["analysis"]["annotator"] = "scorer"
    assert "org/scorer" in wanted.repositories(poet_config.load(config))


def test_unpinned_revisions_are_those_of_the_lock(config, tmp_path):
    loaded = poet_config.load(config)
    record = poet_config.resolve(loaded, "own", "dpo")
    assert (record["model_revision"], record["dataset_revision"]) == ("unpinned", "unpinned")
    written(tmp_path, **{MODEL: ENTRY, PAIRS: {**ENTRY, "revision": B}})
    record = poet_config.resolve(poet_config.load(config), "own", "dpo")
    assert (record["model_revision"], record["dataset_revision"]) == (A, B)


@pytest.mark.parametrize("section", ["data", "model"])
def test_another_revision_than_the_locks_is_refused_before_any_job(config, tmp_path, section):
    written(tmp_path, **{MODEL: ENTRY, PAIRS: ENTRY})
    config["settings"]["own"][section]["revision"] = B
    with pytest.raises(UserError, match=f"my.yaml asks for revision {B} of .* has {A}"):
        wanted.check(poet_config.load(config), "my.yaml")
    config["settings"]["own"][section]["revision"] = A
    wanted.check(poet_config.load(config), "my.yaml")


def test_two_revisions_of_one_repository_are_refused(config):
    other = copy.deepcopy(config["settings"]["own"])
    other["model"]["revision"] = B
    config["settings"]["other"] = other
    with pytest.raises(UserError, match=f"two revisions of {MODEL} are asked for"):
        wanted.repositories(poet_config.load(config))


def test_code_needs_a_full_revision(config):
    model = config["settings"]["own"]["model"]
    model["trust_remote_code"] = True
    with pytest.raises(UserError, match="trust_remote_code needs a full commit hash"):
        poet_config.load(config)
    model["revision"] = A
    loaded = poet_config.load(config)
    assert "*.py" in wanted.repositories(loaded)[MODEL]["files"]
    assert poet_config.resolve(loaded, "own", "dpo")["trust_remote_code"] is True


@pytest.mark.parametrize(
    "text",
    ["a: [1", "- 1", "org/model: {revision: main, files: {}}", "org/model: {revision: 1}",
     f"org/model: {{revision: {A}, files: {{x: {{size: 1, sha256: abc}}}}}}"],
)  # fmt: skip
def test_a_damaged_lock_is_named(tmp_path, text):
    path = tmp_path / "hub.lock.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="not a lock file as `make lock` writes it"):
        lock.read(path)


def test_make_lock_adds_what_is_missing_and_keeps_the_rest(config, tmp_path, monkeypatch):
    asked = []

    def describe(name, revision, patterns):
        asked.append((name, revision))
        return {**ENTRY, "revision": revision or B}

    monkeypatch.setattr(hub, "describe", describe)
    path = written(tmp_path, **{MODEL: ENTRY, "org/of-another-configuration": ENTRY})
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(config))
    program.main(["--configfile", "my.yaml"])
    assert asked == [(PAIRS, None)]
    entries = lock.read(path)
    assert {name: found["revision"] for name, found in entries.items()} == {
        MODEL: A, "org/of-another-configuration": A, PAIRS: B,
    }  # fmt: skip
    # A revision that the configuration names is looked up; a model may come from the command line.
    asked.clear()
    config["settings"]["own"]["data"]["revision"] = A
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(config))
    program.main(["--configfile", "my.yaml", "--config", "model=org/other"])
    assert sorted(asked) == [(PAIRS, A), ("org/other", None)]
    assert lock.read(path)[PAIRS]["revision"] == A


@pytest.mark.parametrize("name", ["smol", "./models/smol", "a/b/smol"])
@pytest.mark.parametrize("place", ["model", "annotator", "command line"])
def test_a_mistyped_folder_is_not_locked(config, tmp_path, monkeypatch, name, place):
    """It is no hub's name and nothing was asked for it: the lock was written, with exit code 0."""
    monkeypatch.setattr(hub, "describe", lambda *asked: pytest.fail(f"asked for {asked}"))
    if place == "model":
        config["settings"]["own"]["model"] = {"name": name}
    elif place == "annotator":
        config["annotators"]["reward_model"]["name"] = name
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(config))
    given = ["--config", f"model={name}"] if place == "command line" else []
    with pytest.raises(UserError, match=f"name is {name}: no such folder"):
        program.main(["--configfile", "my.yaml", *given])
    assert not (tmp_path / "hub.lock.yaml").exists()


def test_hub_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local" / "model").mkdir(parents=True)
    ids = {"org/model": True, "local/model": False, "./org/model": False, "model": False,
           "/org/model": False, "a/b/c": False, "": False}  # fmt: skip
    assert {name: lock.is_hub_id(name) for name in ids} == ids
