"""Standardization of a batch: the right answer of an exercise.

# N examples, F features of an example
"""

from torch import Tensor


def standardize(x: Tensor) -> Tensor:
    """Return x (N, F) with every feature shifted and scaled to mean 0 and standard deviation 1.

    A feature that is the same in all examples has the deviation 0 and becomes NaN.
    """
    # One mean and one deviation for each feature: over the examples.
    mean = x.mean(dim=0)  # (N, F) -> (F,)
    std = x.std(dim=0, correction=0)  # (N, F) -> (F,)
    # Broadcasting: (N, F) and (F,) line up at the last axis.
    return (x - mean) / std  # (N, F)
