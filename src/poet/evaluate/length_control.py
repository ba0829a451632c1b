"""alpaca-eval's length control: its own regression offline, and refits of it for intervals.

alpaca-eval's ``lc_standard_error`` is the spread of the predictions at equal length and leaves out
the coefficients' error; a refit on every draw has both.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from scipy import special

# alpaca-eval's names of its regression, with and without the gamed rows and difficulty
V1, MINIMAL = "length_controlled_v1", "length_controlled_minimal"
GAMED_COLUMNS = (
    "model", "preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline",
)  # fmt: skip
# alpaca-eval's regularize_to_baseline_lambda, shared by its two gamed baselines (glm_winrate.py)
GAMED_WEIGHT = 0.2 / 2


@contextmanager
def offline_regression(gamed, n_prompts: int) -> Iterator[tuple]:
    """alpaca-eval's metric with ``df_gamed.csv`` from here, and a list of the models that it fits.

    The name ``hf_hub_download`` is replaced in alpaca-eval's module. A hub cache laid out on disk
    would do too, but only where the offline switch is set before huggingface_hub is imported; else
    it asks the network first. alpaca-eval is pinned; without the name this would fail loudly.
    """
    import pandas as pd

    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        from alpaca_eval.metrics import glm_winrate as module

        path = Path(folder) / "df_gamed.csv"
        if gamed is None:  # only looked up and never used: the formula has no difficulty
            gamed = pd.DataFrame({column: 0.0 for column in GAMED_COLUMNS}, index=range(n_prompts))
            gamed["index"] = range(n_prompts)
        gamed.to_csv(path, index=False)
        download, fit = module.hf_hub_download, module.fit_LogisticRegressionCV
        fitted = []

        def recording_fit(*args, **kwargs):
            fitted.append(fit(*args, **kwargs))
            return fitted[-1]

        module.hf_hub_download = lambda **_: str(path)
        module.fit_LogisticRegressionCV = recording_fit
        try:
            yield module.get_length_controlled_winrate, fitted
        finally:
            module.hf_hub_download, module.fit_LogisticRegressionCV = download, fit


def draw_prompts(n_prompts: int, n_draws: int, seed: int = 0) -> np.ndarray:
    """Bootstrap draws: how often each prompt is drawn, [n_draws, n_prompts]."""
    chances = np.full(n_prompts, 1 / n_prompts)
    return np.random.default_rng(seed).multinomial(n_prompts, chances, size=n_draws)


def refit(preference, delta, counts, C: float, gamed=None) -> np.ndarray:
    """Length-controlled win rates, percent, [draws]: alpaca-eval's regression on draws of prompts.

    The objective that alpaca-eval 0.6.6 gives to liblinear, with C held, for all draws at once. A
    draw of a prompt draws its gamed rows too.

    Args:
        preference: [P], the judge's probability that the model is better.
        delta: [P], length of the reference minus length of the model's output, in characters.
        counts: [draws, P], how often each prompt is drawn.
        C: inverse strength of the L1 penalty.
        gamed: what :func:`poet.evaluate.benchmark.read_gamed` returns, or None for the regression
            without those rows and without difficulty.
    """
    n_draws, n_prompts = counts.shape
    mean = counts @ delta / n_prompts
    spread = np.sqrt((counts * (delta - mean[:, None]) ** 2).sum(-1) / (n_prompts - 1))
    spread[spread == 0] = np.inf  # a draw of one prompt only, where there are few: no length effect
    length = np.tanh(delta / spread[:, None])
    weights, target = counts.astype(float), preference
    if gamed is None:
        difficulty = np.zeros(n_prompts)  # a feature that is never used keeps the coefficient 0
    else:
        difficulty = gamed["instruction_difficulty"].to_numpy()[:n_prompts]  # see read_gamed
    own = [length, *np.broadcast_arrays(difficulty, np.ones((n_draws, n_prompts)))]
    features = np.stack(own, axis=-1)
    if gamed is not None:
        lengths, index = np.tanh(gamed["std_delta_len"]), gamed["index"]
        fixed = np.stack([lengths, difficulty[index], np.zeros(len(gamed))], axis=-1)
        fixed = np.broadcast_to(fixed, (n_draws, *fixed.shape))
        features = np.concatenate([features, fixed], axis=1)
        judged = gamed["preference"].notna().to_numpy()
        weights = np.concatenate([weights, GAMED_WEIGHT * judged * counts[:, index]], axis=1)
        target = np.concatenate([target, gamed["preference"].fillna(0.5)])
    coefficients = _fit_logistic_l1(features, target, C * weights)
    equal_length = difficulty * coefficients[:, 1:2] + coefficients[:, 2:]
    return 100 * (counts * special.expit(equal_length)).sum(-1) / n_prompts


def _fit_logistic_l1(features, target, weights, tolerance: float = 1e-7) -> np.ndarray:
    """Minimise |w|_1 + sum of weighted log losses, for all draws at once, by proximal Newton steps.

    Shapes: features [draws, rows, k], target [rows] in [0, 1], weights [draws, rows]; w [draws, k].
    """

    def objective(w):
        logit = (features @ w[..., None])[..., 0]
        loss = (weights * (np.logaddexp(0, logit) - target * logit)).sum(-1)
        return loss + np.abs(w).sum(-1)

    w = np.zeros((features.shape[0], features.shape[-1]))
    value = objective(w)
    for _ in range(100):
        p = special.expit((features @ w[..., None])[..., 0])
        gradient = ((weights * (p - target))[:, None] @ features)[:, 0]
        curved = features * (weights * p * (1 - p))[..., None]
        step = _proximal_newton_step(w, gradient, curved.swapaxes(1, 2) @ features)
        for _ in range(30):  # halve the steps that overshoot
            proposed = objective(w + step)
            worse = proposed > value + 1e-9 * np.abs(value)
            if not worse.any():
                break
            step[worse] /= 2
        w, value = w + step, proposed
        if np.abs(step).max() < tolerance:
            break
    return w


def _proximal_newton_step(w, gradient, hessian) -> np.ndarray:
    """argmin_d g.d + d.H.d / 2 + |w + d|_1, [draws, k], by coordinate descent; H [draws, k, k]."""
    step = np.zeros_like(w)
    diagonal = np.maximum(np.diagonal(hessian, axis1=1, axis2=2), 1e-9)
    for _ in range(200):
        before = step.copy()
        for k in range(w.shape[-1]):
            slope = gradient[:, k] + (hessian[:, k] * step).sum(-1)
            free = w[:, k] + step[:, k] - slope / diagonal[:, k]
            shrunk = np.sign(free) * np.maximum(np.abs(free) - 1 / diagonal[:, k], 0)
            step[:, k] = shrunk - w[:, k]
        if np.abs(step - before).max() < 1e-9:
            break
    return step
