"""Learning rates said as `auto`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poet.train.rates import PREFERENCE, REWARD_MODEL, STEPS, learning_rate


def settings(rate):
    return {"learning_rate": rate, "num_train_epochs": 1, "global_batch_size": 4}


@pytest.mark.parametrize(
    ("recipe", "parameters", "steps", "rate"),
    [
        # Published: SmolLM2-135M and zephyr-7b by DPO on 61,135 pairs at 128 a step.
        (PREFERENCE, 134_515_008, 955, 1e-6),
        (PREFERENCE, 7_241_732_096, 500, 5e-7),
        (PREFERENCE, 134_515_008, 100, 5e-6),
        (PREFERENCE, 134_515_008, 8, 3e-5),
        (REWARD_MODEL, 494_032_768, 1000, 1e-5),
        (REWARD_MODEL, 8_030_261_248, 250, 4e-6),
        (REWARD_MODEL, 134_515_008, 9, 5e-5),
    ],
)
def test_the_recipe_of_the_size(recipe, parameters, steps, rate, capsys):
    found = learning_rate(settings("auto"), recipe, parameters, 4 * steps - 3)
    assert found == pytest.approx(rate, rel=0.05)
    assert f"learning rate {found:g}: " in capsys.readouterr().err


@given(st.floats(1e-9, 1), st.integers(1, 10**11), st.integers(1, 10**6))
def test_a_rate_that_is_said_is_taken(asked, parameters, steps):
    assert learning_rate(settings(asked), PREFERENCE, parameters, steps) == asked


@given(st.integers(1, 10**11), st.integers(1, 10**6))
def test_the_way_is_the_recipes_where_the_limit_allows_it(parameters, steps):
    rate = learning_rate(settings("auto"), PREFERENCE, parameters, 4 * steps)
    recipe = PREFERENCE.small if parameters < 3e9 else PREFERENCE.large
    assert recipe <= rate * 1.01 and rate <= 30 * recipe * 1.01
    if recipe < rate < 30 * recipe:
        assert rate * steps == pytest.approx(recipe * STEPS, rel=0.01)
