"""Eight functions of one line in which shapes or types go wrong easily: the right answers of the shape detective.

# B batch, N examples, F features, C classes, T positions, E features of a position, H hidden size
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def features_first(x: Tensor) -> Tensor:
    """Return sequences x (B, T, E) with the features before the positions, (B, E, T)."""
    # Suspect: return x.view(x.shape[0], x.shape[2], x.shape[1])
    return x.transpose(1, 2)  # (B, T, E) -> (B, E, T)


def weigh_examples(x: Tensor, weights: Tensor) -> Tensor:
    """Return every example, a row of x (N, F), multiplied by its own weight, (N,)."""
    # Suspect: return x * weights.unsqueeze(0)
    return x * weights.unsqueeze(1)  # (N, F) * (N, 1)


def make_batch(examples: Sequence[Tensor]) -> Tensor:
    """Return a batch (N, F) of N examples, (F,) each."""
    # Suspect: return torch.cat(examples)
    return torch.stack(list(examples))  # N times (F,) -> (N, F)


def class_probabilities(logits: Tensor) -> Tensor:
    """Return the probabilities of the C classes for each example: logits (N, C) to (N, C)."""
    # Suspect: return logits.softmax(dim=0)
    return logits.softmax(dim=1)  # every row sums to 1


def mean_absolute_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute error, a scalar, of a model's predictions (N, 1) for targets (N,)."""
    # Suspect: return (predictions - targets).abs().mean()
    return (predictions.squeeze(1) - targets).abs().mean()  # (N,) - (N,)


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy, a scalar, of logits (N, C) for labels (N,).

    The labels are the numbers of classes, read from a table as floating-point numbers.
    """
    # Suspect: return F.cross_entropy(logits, labels)
    return F.cross_entropy(logits, labels.long())


def last_outputs(rnn: nn.RNN, x: Tensor) -> Tensor:
    """Return the output of a recurrent network at the last position, (B, H), of sequences x (B, T, E).

    The network was made without `batch_first=True`.
    """
    # Suspect: return rnn(x)[0][:, -1]
    return rnn(x.transpose(0, 1))[0][-1]  # (T, B, E) -> (T, B, H) -> (B, H)


def linear_scores(x: Tensor, weight: Tensor) -> Tensor:
    """Return one score for each example, (N,): x (N, F) times weight (F, 1)."""
    # Suspect: return (x @ weight).squeeze()
    return (x @ weight).squeeze(1)  # (N, 1) -> (N,)
