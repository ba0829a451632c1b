"""Who judges: a record per kind of annotator. Importing them loads no model's library."""

from poet.evaluate.annotators.api import API
from poet.evaluate.annotators.local_judge import LOCAL_JUDGE
from poet.evaluate.annotators.oracle import ORACLE
from poet.evaluate.annotators.replay import REPLAY
from poet.evaluate.annotators.reward_model import REWARD_MODEL

KINDS = {kind.name: kind for kind in (ORACLE, REWARD_MODEL, LOCAL_JUDGE, API, REPLAY)}
