"""How sure a few seeds make us: the interquartile mean, with 95% intervals by bootstrap over the seeds.

Both are what Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264) recommend where runs are few and some go astray.

# S seeds, P points of a curve, R resamples
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000


class Estimate(NamedTuple):
    """A figure over seeds, and the ends of its 95% interval."""

    mean: float
    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0: more than noise."""
        return self.low > 0 or self.high < 0


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Mean of the middle half of the sorted values (..., S) -> (...); those on its edges count in part."""
    ordered = np.sort(np.asarray(values, dtype=float), axis=-1)
    count = ordered.shape[-1]
    index = np.arange(count)
    weights = np.clip(np.minimum(index + 1, 0.75 * count) - np.maximum(index, 0.25 * count), 0.0, None)  # (S,)
    return ordered @ weights / weights.sum()


def resampled(values: ArrayLike, samples: int = RESAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """Interquartile means of as many draws with replacement: values (S,) -> (R,)."""
    flat = np.asarray(values, dtype=float)
    return interquartile_mean(np.random.default_rng(seed).choice(flat, (samples, len(flat))))


def estimate(values: ArrayLike) -> Estimate:
    """The interquartile mean of values (S,) and its interval; with one seed, all three are its value."""
    low, high = np.percentile(resampled(values), [2.5, 97.5])
    return Estimate(float(interquartile_mean(values)), float(low), float(high))


def difference(values: ArrayLike, others: ArrayLike) -> Estimate:
    """How far the interquartile mean of values (S,) lies above that of others (S',); the seeds need not be the same."""
    low, high = np.percentile(resampled(values) - resampled(others, seed=1), [2.5, 97.5])
    return Estimate(float(interquartile_mean(values) - interquartile_mean(others)), float(low), float(high))


def band(curves: ArrayLike, samples: int = 1000) -> tuple[NDArray, NDArray, NDArray]:
    """Interquartile mean and interval at every point of curves (S, P): three arrays (P,)."""
    array = np.asarray(curves, dtype=float)
    chosen = np.random.default_rng(0).integers(len(array), size=(samples, len(array)))  # (R, S)
    draws = interquartile_mean(np.moveaxis(array[chosen], 1, -1))  # (R, S, P) -> (R, P, S) -> (R, P)
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    return interquartile_mean(array.T), low, high
