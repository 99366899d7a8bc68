"""Confidence intervals over seeds: the interquartile mean with 95% bootstrap intervals.

Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264) recommend both when there are few runs and some are outliers.

S seeds, P points of a curve, R resamples.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000


class Estimate(NamedTuple):
    """An estimate over seeds with the ends of its 95% interval."""

    mean: float
    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Return True if the interval excludes 0, that is, the difference is significant."""
        return self.low > 0 or self.high < 0


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Mean of the middle half of the sorted values (..., S) -> (...); edge values count fractionally."""
    ordered = np.sort(np.asarray(values, dtype=float), axis=-1)
    count = ordered.shape[-1]
    index = np.arange(count)
    weights = np.clip(np.minimum(index + 1, 0.75 * count) - np.maximum(index, 0.25 * count), 0.0, None)  # (S,)
    return ordered @ weights / weights.sum()


def bootstrap(values: ArrayLike, samples: int = RESAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """Interquartile means of R bootstrap resamples: values (S,) -> (R,)."""
    flat = np.asarray(values, dtype=float)
    return interquartile_mean(np.random.default_rng(seed).choice(flat, (samples, len(flat))))


def estimate(values: ArrayLike) -> Estimate:
    """Interquartile mean of values (S,) and its interval; with one seed all three are equal."""
    low, high = np.percentile(bootstrap(values), [2.5, 97.5])
    return Estimate(float(interquartile_mean(values)), float(low), float(high))


def difference(values: ArrayLike, others: ArrayLike) -> Estimate:
    """Difference of the interquartile means, values (S,) minus others (S',); the seeds need not match."""
    low, high = np.percentile(bootstrap(values) - bootstrap(others, seed=1), [2.5, 97.5])
    return Estimate(float(interquartile_mean(values) - interquartile_mean(others)), float(low), float(high))


def band(curves: ArrayLike, samples: int = 1000) -> tuple[NDArray, NDArray, NDArray]:
    """Interquartile mean and interval at every point of curves (S, P), as three arrays (P,)."""
    array = np.asarray(curves, dtype=float)
    chosen = np.random.default_rng(0).integers(len(array), size=(samples, len(array)))  # (R, S)
    draws = interquartile_mean(np.moveaxis(array[chosen], 1, -1))  # (R, S, P) -> (R, P, S) -> (R, P)
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    return interquartile_mean(array.T), low, high
