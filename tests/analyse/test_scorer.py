"""Which annotator scores an analysis, and configurations that have none."""

import pytest
import yaml

from poet import config as poet_config
from poet.config_checks import scorer_of
from poet.files import UserError


@pytest.fixture
def default(pytestconfig):
    return yaml.safe_load((pytestconfig.rootpath / "config.yaml").read_text())


@pytest.fixture
def own(pytestconfig):
    config = yaml.safe_load((pytestconfig.rootpath / "config" / "own-data.yaml").read_text())
    return {**config, "pairs": "pairs.jsonl"}


def test_the_first_scalar_annotator_scores(default):
    default["annotators"]["judge"] = {"kind": "local_judge", "name": "a/b"}
    default["settings"]["world"]["annotators"] = ["judge", "oracle"]
    assert scorer_of(poet_config.load(default), "world") == "oracle"


def test_a_named_annotator_scores_though_it_judges_nothing(own):
    own["annotators"]["other"] = {"kind": "reward_model", "name": "some/folder"}
    own["settings"]["own"]["analysis"]["annotator"] = "other"
    assert scorer_of(poet_config.load(own), "own") == "other"


def test_without_rewards_there_is_no_analysis(default):
    default["annotators"]["judge"] = {"kind": "local_judge", "name": "a/b"}
    default["settings"]["world"]["annotators"] = ["judge"]
    with pytest.raises(UserError, match="settings.world.analysis needs an annotator of kind"):
        poet_config.load(default)


def test_an_unknown_annotator_is_named(default):
    default["settings"]["world"]["analysis"]["annotator"] = "orakle"
    with pytest.raises(UserError, match="orakle.*known: oracle"):
        poet_config.load(default)


def test_the_oracle_knows_the_world_only(own):
    own["annotators"]["oracle"] = {"kind": "oracle"}
    own["settings"]["own"]["analysis"]["annotator"] = "oracle"
    with pytest.raises(UserError, match="the oracle knows the embedded world only"):
        poet_config.load(own)


def test_defaults_are_the_papers_lengths(default):
    default["settings"]["world"]["analysis"] = {}
    section = poet_config.load(default)["settings"]["world"]["analysis"]
    assert section["pairs"] == 1000
    assert section["prefix_lengths"] == [2, 4, 8, 16, 32, 64, 128, 256]
    assert section["own_prefix_lengths"] == [2, 4, 8, 16, 32]
