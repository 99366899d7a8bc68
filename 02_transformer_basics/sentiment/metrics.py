"""Evaluation of a classifier: loss, accuracy, calibration, confusion matrix, confidence intervals.

Shapes: N texts, B batch, T time (positions), E embedding, C classes, S seeds.

Sources: calibration: Guo et al. 2017, "On Calibration of Modern Neural Networks"; intervals: Efron
1979, "Bootstrap Methods: Another Look at the Jackknife".
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

NUM_BINS = 15
TOKENS_PER_BATCH = 2048  # padding included
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2  # the smaller one, 0.618


class Metrics(NamedTuple):
    """Mean cross-entropy in nats, accuracy, expected calibration error."""

    loss: float
    accuracy: float
    calibration_error: float


def logits_of(model: DistilBertClassifier, ids: Sequence[Sequence[int]]) -> Tensor:
    """Return the logits (N, C) of N tokenized texts, in their order, on the CPU, in eval mode."""
    _, logits = pooled_and_logits(model, ids)
    return logits


@torch.no_grad()
def pooled_and_logits(
    model: DistilBertClassifier,
    ids: Sequence[Sequence[int]],
    precision: Precision = "float32",
) -> tuple[Tensor, Tensor]:
    """Return pooled outputs (N, E) and logits (N, C) of N tokenized texts, in their order.

    Both are on the CPU, in float32 whatever the precision of the matrix products; eval mode.
    """
    model.eval()
    device = model.word_embeddings.weight.device
    all_pooled = torch.empty(len(ids), model.config.dim)  # (N, E)
    all_logits = torch.empty(len(ids), len(model.labels))  # (N, C)
    with matmul_precision(device, precision):
        for rows in batches_by_length([len(text) for text in ids], TOKENS_PER_BATCH):
            input_ids, attention_mask = pad_right([ids[i] for i in rows], device)  # (B, T) each
            embeddings = model.embed(input_ids)  # (B, T) -> (B, T, E)
            pooled = model.pooled_output(embeddings, attention_mask)  # (B, T, E) -> (B, E)
            logits = model.classification_head(pooled)  # (B, E) -> (B, C)
            all_pooled[rows] = pooled.float().cpu()
            all_logits[rows] = logits.float().cpu()
    return all_pooled, all_logits


def compute_metrics(logits: Tensor, labels: Tensor) -> Metrics:
    """Return the metrics of logits (N, C) for labels (N,)."""
    loss = float(F.cross_entropy(logits, labels))
    accuracy = float((logits.argmax(dim=-1) == labels).float().mean())
    return Metrics(loss, accuracy, calibration_error(logits, labels))


def calibration_error(logits: Tensor, labels: Tensor, num_bins: int = NUM_BINS) -> float:
    """Return the expected calibration error of logits (N, C) for labels (N,) (Guo et al., eq. 3).

    It is the mean distance between confidence and accuracy over `num_bins` bins of equal width.
    """
    confidence, predicted = logits.softmax(dim=-1).max(dim=-1)  # (N, C) -> (N,), (N,)
    correct = (predicted == labels).float()  # (N,)
    bins = (confidence * num_bins).ceil().long().clamp(1, num_bins) - 1  # (N,): (0, 1/15], ...
    # Summed over a bin of n texts, the differences are n times (accuracy - mean confidence).
    gaps = torch.zeros(num_bins).index_add_(0, bins, correct - confidence)  # (num_bins,)
    return float(gaps.abs().sum()) / len(labels)


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature T for which logits / T have the lowest loss (Guo et al., section 4.2).

    The loss has a single minimum in log T, found by golden-section search between 1/20 and 20.
    """
    low, high = math.log(0.05), math.log(20.0)
    for _ in range(60):
        a = high - GOLDEN_RATIO * (high - low)
        b = low + GOLDEN_RATIO * (high - low)
        loss_a = float(F.cross_entropy(logits / math.exp(a), labels))
        loss_b = float(F.cross_entropy(logits / math.exp(b), labels))
        if loss_a < loss_b:
            high = b
        else:
            low = a
    return math.exp((low + high) / 2)


def confusion_matrix(logits: Tensor, labels: Tensor) -> list[list[int]]:
    """Return C x C counts, true classes in rows and predicted classes in columns."""
    num_classes = logits.shape[1]
    cells = labels * num_classes + logits.argmax(dim=-1)  # (N,)
    counts = torch.bincount(cells, minlength=num_classes**2)  # (N,) -> (C * C,)
    return counts.view(num_classes, num_classes).tolist()  # (C * C,) -> (C, C)


def most_confident_errors(
    logits: Tensor,
    labels: Tensor,
    count: int,
) -> list[tuple[int, int, float]]:
    """Return index, predicted class and its probability of up to `count` wrong predictions,
    the most confident first.
    """
    confidence, predicted = logits.softmax(dim=-1).max(dim=-1)  # (N, C) -> (N,), (N,)
    confidence_if_wrong = confidence * (predicted != labels)  # (N,)
    top = confidence_if_wrong.topk(min(count, len(labels)))
    return [
        (index, int(predicted[index]), value)
        for index, value in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        if value > 0
    ]


def accuracy_interval(correct: Tensor, num_resamples: int = 2000) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the accuracy.

    `correct` is (N,), or (S, N) for S seeds, 1 where a prediction is right. Seeds and texts are
    both resampled, so the interval covers both sources of variation.
    """
    correct = correct.float().view(-1, correct.shape[-1])  # (S, N)
    num_seeds, num_texts = correct.shape
    generator = torch.Generator().manual_seed(0)
    means = torch.empty(num_resamples)
    for resample in range(num_resamples):
        seeds = torch.randint(num_seeds, (num_seeds,), generator=generator)  # (S,)
        mean_over_seeds = correct[seeds].mean(dim=0)  # (S, N) -> (N,)
        texts = torch.randint(num_texts, (num_texts,), generator=generator)  # (N,)
        means[resample] = mean_over_seeds[texts].mean()
    low, high = means.quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high
