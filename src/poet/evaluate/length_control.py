"""Length control: alpaca-eval's own regression offline, ours for own data, and refits of both.

AlpacaEval's is alpaca-eval's ``length_controlled_v1``, with the gamed rows and difficulty. Its
``lc_standard_error`` is the spread of the predictions at equal length and leaves out the
coefficients' error; a refit on every draw has both. Its cross-validation can choose a penalty that
takes the model's own coefficient to zero: then it says 50 whatever the model is, and so does every
refit (:func:`offline_regression`'s list of fits shows it).

Own data has no gamed rows, and :func:`minimal` is ours: the preference's log odds are a + b
tanh(length difference / its standard deviation), and the score is what a alone predicts. Fitted
by maximum likelihood (preferences may lie between 0 and 1: quasi-likelihood) under a weak normal
prior, which keeps coefficients finite where all answers win and moves a win rate of 100 prompts by
less than a tenth of a point.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from scipy import special

# alpaca-eval's name of its regression, and ours
V1, MINIMAL = "length_controlled_v1", "length_controlled_minimal"
# alpaca-eval's regularize_to_baseline_lambda, shared by its two gamed baselines (glm_winrate.py)
GAMED_WEIGHT = 0.2 / 2
# Standard deviation of the normal prior on both coefficients of the minimal regression. A
# coefficient of 10 is odds of 22,000 to 1: nothing that so few prompts could show is held back.
PRIOR_SD = 10.0
DRAWS = 200  # of the prompts, for an interval


@contextmanager
def offline_regression(gamed) -> Iterator[tuple]:
    """alpaca-eval's metric with ``df_gamed.csv`` from here, and a list of the models that it fits.

    The name ``hf_hub_download`` is replaced in alpaca-eval's module. A hub cache laid out on disk
    would do too, but only where the offline switch is set before huggingface_hub is imported; else
    it asks the network first. alpaca-eval is pinned; without the name this would fail loudly.
    """
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        from alpaca_eval.metrics import glm_winrate as module

        path = Path(folder) / "df_gamed.csv"
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


def draw_prompts(n_prompts: int, n_draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Bootstrap draws: how often each prompt is drawn, [n_draws, n_prompts].

    The same for every file of annotations, so that draws of methods and seeds are paired.
    """
    chances = np.full(n_prompts, 1 / n_prompts)
    return np.random.default_rng(seed).multinomial(n_prompts, chances, size=n_draws)


def refit(preference, delta, counts, C: float, gamed) -> np.ndarray:
    """Length-controlled win rates, percent, [draws]: alpaca-eval's regression on draws of prompts.

    The objective that alpaca-eval 0.6.6 gives to liblinear, with C held, for all draws at once. A
    draw of a prompt draws its gamed rows too.

    Args:
        preference: [P], the judge's probability that the model is better.
        delta: [P], length of the reference minus length of the model's output, in characters.
        counts: [draws, P], how often each prompt is drawn.
        C: inverse strength of the L1 penalty.
        gamed: what :func:`poet.evaluate.prompts.read_gamed` returns.
    """
    n_draws, n_prompts = counts.shape
    length = _tanh_length(delta, counts)
    difficulty = gamed["instruction_difficulty"].to_numpy()[:n_prompts]  # see read_gamed
    own = [length, *np.broadcast_arrays(difficulty, np.ones((n_draws, n_prompts)))]
    lengths, index = np.tanh(gamed["std_delta_len"]), gamed["index"]
    fixed = np.stack([lengths, difficulty[index], np.zeros(len(gamed))], axis=-1)
    fixed = np.broadcast_to(fixed, (n_draws, *fixed.shape))
    features = np.concatenate([np.stack(own, axis=-1), fixed], axis=1)
    judged = gamed["preference"].notna().to_numpy()
    weights = np.concatenate([counts, GAMED_WEIGHT * judged * counts[:, index]], axis=1)
    target = np.concatenate([preference, gamed["preference"].fillna(0.5)])
    coefficients = _fit_logistic(
        features, target, C * weights, lambda w: np.abs(w).sum(-1), _proximal_newton_step
    )
    equal_length = difficulty * coefficients[:, 1:2] + coefficients[:, 2:]
    return 100 * (counts * special.expit(equal_length)).sum(-1) / n_prompts


def minimal(preference, delta, counts) -> np.ndarray:
    """Length-controlled win rates of own data, percent, [draws]: see this module's head.

    Arguments as in :func:`refit`. Lengths that differ by the same amount everywhere have no effect
    to control for; the score then is the win rate.
    """
    return 100 * special.expit(_fit_minimal(preference, delta, counts)[0][:, 0])


def minimal_error(preference, delta) -> float:
    """Standard error of :func:`minimal` on all prompts, percent: sandwich and delta method.

    Without an effect of length it is that of a mean, sd / sqrt(P).
    """
    n = len(preference)
    coefficients, features = _fit_minimal(preference, delta, np.ones((1, n)))
    x, p = features[0], special.expit(features[0] @ coefficients[0])
    bread = np.linalg.inv((x.T * (p * (1 - p))) @ x + np.eye(2) / PRIOR_SD**2)
    meat = (x.T * (preference - p) ** 2) @ x * n / (n - 1)
    at_equal_length = special.expit(coefficients[0, 0])
    slope = 100 * at_equal_length * (1 - at_equal_length)
    return float(slope * np.sqrt((bread @ meat @ bread)[0, 0]))


def _fit_minimal(preference, delta, counts) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (a, b) [draws, 2], and what they multiply [draws, P, 2]."""
    length = _tanh_length(delta, counts)
    features = np.stack([np.ones_like(length), length], axis=-1)

    def newton_step(w, gradient, hessian):
        curvature = hessian + np.eye(2) / PRIOR_SD**2
        slope = gradient + w / PRIOR_SD**2
        return -np.linalg.solve(curvature, slope[..., None])[..., 0]

    found = _fit_logistic(
        features, preference, counts, lambda w: (w**2).sum(-1) / (2 * PRIOR_SD**2), newton_step
    )
    return found, features


def _tanh_length(delta, counts) -> np.ndarray:
    """tanh(length difference / its standard deviation in the draw), [draws, P]."""
    n_prompts = counts.shape[1]
    mean = counts @ delta / n_prompts
    spread = np.sqrt((counts * (delta - mean[:, None]) ** 2).sum(-1) / (n_prompts - 1))
    spread[spread == 0] = np.inf  # a draw of one prompt only, where there are few: no length effect
    return np.tanh(delta / spread[:, None])


def _fit_logistic(
    features, target, weights, penalty: Callable, newton_step: Callable
) -> np.ndarray:
    """Minimise penalty(w) + sum of weighted log losses, for all draws at once, by Newton steps.

    Shapes: features [draws, rows, k], target [rows] in [0, 1], weights [draws, rows]; w [draws, k].
    ``newton_step(w, gradient, hessian)``: of the log losses, with the penalty's part added.
    """

    def objective(w):
        logit = (features @ w[..., None])[..., 0]
        loss = (weights * (np.logaddexp(0, logit) - target * logit)).sum(-1)
        return loss + penalty(w)

    w = np.zeros((features.shape[0], features.shape[-1]))
    value = objective(w)
    for _ in range(100):
        p = special.expit((features @ w[..., None])[..., 0])
        gradient = ((weights * (p - target))[:, None] @ features)[:, 0]
        curved = features * (weights * p * (1 - p))[..., None]
        step = newton_step(w, gradient, curved.swapaxes(1, 2) @ features)
        for _ in range(30):  # halve the steps that overshoot
            proposed = objective(w + step)
            worse = proposed > value + 1e-9 * np.abs(value)
            if not worse.any():
                break
            step[worse] /= 2
        w, value = w + step, proposed
        if np.abs(step).max() < 1e-7:
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
