"""How good a classifier is: loss, accuracy, calibration, confusion, intervals.

Shapes: N texts, C classes.

Sources: calibration: Guo et al. 2017, "On Calibration of Modern Neural Networks"; intervals: Efron 1979, "Bootstrap
Methods: Another Look at the Jackknife".
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.batching import batches_by_length, pad_right
from models.distilbert import DistilBertClassifier
from optimization import Precision
from speed.training import matmul_precision

BINS = 15
TOKENS = 2048  # a batch, padding included


class Measures(NamedTuple):
    """Mean cross-entropy in nats, share of right answers, expected calibration error."""

    loss: float
    accuracy: float
    calibration_error: float


@torch.no_grad()
def logits_of(model: DistilBertClassifier, ids: Sequence[Sequence[int]]) -> Tensor:
    """Logits (N, C) of the texts, in their order, on the CPU, in eval mode."""
    return summaries_and_logits(model, ids)[1]


@torch.no_grad()
def summaries_and_logits(
    model: DistilBertClassifier, ids: Sequence[Sequence[int]], precision: Precision = "float32"
) -> tuple[Tensor, Tensor]:
    """Summaries (N, E) and logits (N, C) of the texts, in their order, on the CPU, in eval mode; float32 whatever the
    precision of the matrix products.
    """
    model.eval()
    device = model.word_embeddings.weight.device
    summaries = torch.empty(len(ids), model.config.dim)  # (N, E)
    logits = torch.empty(len(ids), len(model.labels))  # (N, C)
    with matmul_precision(device, precision):
        for chosen in batches_by_length([len(text) for text in ids], TOKENS):
            input_ids, attention_mask = pad_right([ids[i] for i in chosen], device)
            summary = model.pooled_output(model.embed(input_ids), attention_mask)  # (B, E)
            summaries[chosen] = summary.float().cpu()
            logits[chosen] = model.classification_head(summary).float().cpu()
    return summaries, logits


def measure(logits: Tensor, labels: Tensor) -> Measures:
    """logits (N, C) against labels (N,)."""
    accuracy = float((logits.argmax(dim=-1) == labels).float().mean())
    return Measures(float(F.cross_entropy(logits, labels)), accuracy, calibration_error(logits, labels))


def calibration_error(logits: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """How far certainty and success lie apart, on average over the texts (Guo et al., eq. 3), in `bins` equal bins."""
    certainty, chosen = logits.softmax(dim=-1).max(dim=-1)  # (N,), (N,)
    right = (chosen == labels).float()  # (N,)
    places = (certainty * bins).ceil().long().clamp(1, bins) - 1  # (N,): each bin with its upper end
    gaps = torch.zeros(bins).index_add_(0, places, right - certainty)  # (bins,): n_b (accuracy_b - certainty_b)
    return float(gaps.abs().sum()) / len(labels)


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """The number that logits (N, C) are to be divided by for the least loss (Guo et al., section 4.2)."""
    low, high = (
        math.log(0.05),
        math.log(20.0),
    )  # the loss has one minimum: golden-section search
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        losses = [float(F.cross_entropy(logits / math.exp(x), labels)) for x in (a, b)]
        low, high = (low, b) if losses[0] < losses[1] else (a, high)
    return math.exp((low + high) / 2)


def confusion(logits: Tensor, labels: Tensor) -> list[list[int]]:
    """How many texts of each class (rows) were taken for each class (columns)."""
    classes = logits.shape[1]
    pairs = labels * classes + logits.argmax(dim=-1)  # (N,)
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes).tolist()  # (C * C,) -> (C, C)


def worst_mistakes(logits: Tensor, labels: Tensor, count: int) -> list[tuple[int, float]]:
    """Numbers of the texts that the model was surest about and wrong, and how sure."""
    certainty, chosen = logits.softmax(dim=-1).max(dim=-1)  # (N,), (N,)
    wrong = certainty * (chosen != labels)  # (N,)
    values, numbers = wrong.topk(min(count, len(labels)))
    return [(n, v) for n, v in zip(numbers.tolist(), values.tolist(), strict=True) if v > 0]


def accuracy_interval(right: Tensor, draws: int = 2000) -> tuple[float, float]:
    """95% bootstrap interval over texts of the share of right answers; right (N,), or (S, N) for S seeds.

    Seeds and texts are both drawn again, so the interval covers both chances.
    """
    right = right.float().view(-1, right.shape[-1])  # (S, N)
    generator = torch.Generator().manual_seed(0)
    seeds, texts = right.shape
    means = torch.empty(draws)
    for draw in range(draws):
        chosen = right[torch.randint(seeds, (seeds,), generator=generator)].mean(dim=0)  # (N,)
        means[draw] = chosen[torch.randint(texts, (texts,), generator=generator)].mean()
    low, high = means.quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high
