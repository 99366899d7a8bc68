"""Wrong answers to the exercise on the loss of a language model, each the right one with one mistake switched on."""

import math
from collections.abc import Set

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def next_token_loss(logits: Tensor, token_ids: Tensor, attention_mask: Tensor, wrong: Set[str] = NONE) -> Tensor:
    """Return the loss with the given mistakes."""
    size = logits.shape[-1]
    if "padding_as_id_0" in wrong:
        token_ids = token_ids * attention_mask
    if "axes" in wrong:
        nats = F.cross_entropy(logits[:, :-1].reshape(len(logits), size, -1), token_ids[:, 1:], reduction="none")
        return (nats * attention_mask[:, 1:]).sum() / attention_mask[:, 1:].sum()
    predictions, targets, counted = logits[:, :-1], token_ids[:, 1:], attention_mask[:, 1:]
    if "no_shift" in wrong:
        predictions, targets, counted = logits, token_ids, attention_mask
    if "shift_backwards" in wrong:
        predictions, targets, counted = logits[:, 1:], token_ids[:, :-1], attention_mask[:, :-1]
    if "wraps_around" in wrong:
        predictions, targets, counted = logits, token_ids.roll(-1, 1), attention_mask.roll(-1, 1)
    if "wraps_with_own_mask" in wrong:
        predictions, targets, counted = logits, token_ids.roll(-1, 1), attention_mask
    if "mask_of_position" in wrong:
        counted = attention_mask[:, :-1]
    if "both_masks" in wrong:
        counted = attention_mask[:, :-1] * attention_mask[:, 1:]
    if "padding_counts" in wrong or "padding_as_id_0" in wrong:
        counted = torch.ones_like(counted)
    if "by_id_0" in wrong:
        counted = (targets != 0).long()
    if "mask_inverted" in wrong:
        counted = 1 - counted
    if "double_softmax" in wrong:
        predictions = predictions.softmax(-1)
    if "softmax_over_time" in wrong:
        log_probs = predictions.log_softmax(1)
    elif "no_softmax" in wrong:
        log_probs = predictions
    elif "overflow" in wrong:
        log_probs = predictions - predictions.exp().sum(-1, keepdim=True).log()
    else:
        log_probs = predictions.log_softmax(-1)
    if "probabilities" in wrong:
        log_probs = log_probs.exp()
    nats = -log_probs.gather(-1, targets[..., None]).squeeze(-1)
    if "all_tokens" in wrong:
        nats = -log_probs.mean(-1)
    if "entropy" in wrong:
        nats = -(log_probs.exp() * log_probs).sum(-1)
    if "accuracy" in wrong:
        nats = (predictions.argmax(-1) == targets).to(predictions.dtype)
    if "last_position_only" in wrong:
        nats, counted = nats[:, -1:], counted[:, -1:]
    if "bits_for_nats" in wrong:
        nats = nats / math.log(2)
    if "base_10" in wrong:
        nats = nats / math.log(10)
    if "not_negated" in wrong:
        nats = -nats
    return _mean(nats, counted, attention_mask, size, wrong)


def _mean(nats: Tensor, counted: Tensor, attention_mask: Tensor, size: int, wrong: Set[str]) -> Tensor:
    kept = nats * counted
    if "sum_for_mean" in wrong:
        return kept.sum()
    if "not_averaged" in wrong:
        return kept
    if "per_text" in wrong:
        return kept.sum(1) / counted.sum(1)
    if "mean_of_means" in wrong:
        return (kept.sum(1) / counted.sum(1).clamp(min=1)).mean()
    if "mean_of_sums" in wrong:
        return kept.sum(1).mean()
    if "padding_in_mean" in wrong:
        return kept.mean()
    if "all_positions_counted" in wrong:
        return kept.sum() / attention_mask.numel()
    if "one_less_per_text" in wrong:
        return kept.sum() / (attention_mask.sum() - len(attention_mask))
    if "one_less" in wrong:
        return kept.sum() / (attention_mask.sum() - 1)
    if "positions_in_mean" in wrong:
        return kept.sum() / attention_mask[:, :-1].sum()
    if "mean_of_exponentials" in wrong:
        return -((-nats).exp() * counted).sum().div(counted.sum()).log()
    if "shape_of_one" in wrong:
        return (kept.sum() / counted.sum())[None]
    if "first_token_counted" in wrong:
        return kept.sum() / attention_mask.sum()
    if "over_vocabulary" in wrong:
        return kept.sum() / counted.sum() / size
    loss = kept.sum() / counted.sum()
    return loss.exp() if "perplexity" in wrong else loss


SHIFTS = {"no_shift", "shift_backwards", "wraps_around", "wraps_with_own_mask", "axes"}
MASKS = {"padding_as_id_0", "mask_of_position", "both_masks", "padding_counts", "by_id_0", "mask_inverted"}
LOGS = {"softmax_over_time", "no_softmax", "overflow", "axes"}
UNITS = {"bits_for_nats", "base_10", "not_negated", "axes"}
MEANS = {
    "all_positions_counted",
    "one_less_per_text",
    "one_less",
    "positions_in_mean",
    "mean_of_exponentials",
    "shape_of_one",
    "sum_for_mean",
    "not_averaged",
    "per_text",
    "mean_of_means",
    "mean_of_sums",
    "padding_in_mean",
    "first_token_counted",
    "over_vocabulary",
    "perplexity",
    "axes",
}


def across_texts(logits: Tensor, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
    counted = attention_mask.flatten()[1:].bool()
    return F.cross_entropy(logits.flatten(0, 1)[:-1][counted], token_ids.flatten()[1:][counted])


def classes_in_time(logits: Tensor, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
    nats = F.cross_entropy(logits[:, :-1], token_ids[:, 1:], reduction="none")
    return (nats * attention_mask[:, 1:]).sum() / attention_mask[:, 1:].sum()


WRONG = {
    "next_token_loss": Wrong(
        {"next_token_loss": next_token_loss},
        switches(next_token_loss, _mean),
        exclusive=(SHIFTS, MASKS, LOGS, UNITS, MEANS),
        plain={
            "across_texts": {"next_token_loss": across_texts},
            "classes_in_time": {"next_token_loss": classes_in_time},
        },
    ),
}
