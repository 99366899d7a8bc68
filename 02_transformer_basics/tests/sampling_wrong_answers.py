"""Wrong answers to the exercises on sampling, each the right one with one mistake switched on."""

import math
from collections.abc import Set

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def sampling_probabilities(logits: Tensor, temperature: float, top_k: int | None, wrong: Set[str] = NONE) -> Tensor:
    """Return the probabilities of the next token with the given mistakes."""
    vocabulary = logits.shape[-1]
    if "temperature_not_low" in wrong:
        temperature = max(temperature, 0.01)
    if "epsilon_added" in wrong:
        temperature += 1e-8
    if temperature == 0:
        if "zero_is_one" in wrong:
            temperature = 1.0
        if "zero_is_uniform" in wrong:
            return torch.full_like(logits, 1 / vocabulary)
        if "zero_is_least" in wrong:
            return F.one_hot(logits.argmin(-1), vocabulary).to(logits.dtype)
        if "zero_returns_ids" in wrong:
            return logits.argmax(-1)
        if "zero_takes_all_highest" in wrong:
            return (logits == logits.amax(-1, keepdim=True)).to(logits.dtype)
        if "zero_over_batch" in wrong:
            return F.one_hot(logits.argmax(), vocabulary).to(logits.dtype).expand_as(logits).clone()
    greedy = temperature == 0 and "zero_temperature" not in wrong
    if greedy or "argmax_always" in wrong:
        return F.one_hot(logits.argmax(-1), vocabulary).to(logits.dtype)
    if "times" in wrong:
        scaled = logits * temperature
    elif "root_of_temperature" in wrong:
        scaled = logits / math.sqrt(temperature)
    elif wrong & {"no_temperature", "after_softmax"}:
        scaled = logits
    else:
        scaled = logits / temperature
    if "in_place" in wrong:
        logits /= temperature
    if top_k is not None and "no_top_k" not in wrong:
        scaled = _only_top_k(scaled, top_k, wrong)
    if "logits_returned" in wrong:
        return scaled
    dim = 0 if "softmax_over_batch" in wrong else -1
    probabilities = scaled.log_softmax(dim) if "log_probabilities" in wrong else scaled.softmax(dim)
    if "overflow" in wrong:
        probabilities = scaled.exp() / scaled.exp().sum(dim, keepdim=True)
    if "not_renormalized" in wrong and top_k is not None:
        k = min(top_k, vocabulary)
        probabilities = (logits / temperature).softmax(-1)
        probabilities = probabilities * (probabilities >= probabilities.topk(k, -1).values[:, -1:])
    if "softmax_twice" in wrong:
        probabilities = probabilities.softmax(-1)
    if "after_softmax" in wrong:
        probabilities = probabilities / temperature if temperature else probabilities
    if "sorted" in wrong:
        probabilities = probabilities.sort(-1, descending=True).values
    return probabilities


def _only_top_k(logits: Tensor, k: int, wrong: Set[str]) -> Tensor:
    """Hide all but the k highest logits, with the mistakes."""
    if "one_too_many" in wrong:
        k += 1
    if "one_too_few" in wrong:
        k = max(k - 1, 1)
    if "k_past_V" not in wrong:
        k = min(k, logits.shape[-1])
    highest = logits.topk(k, dim=-1, largest="lowest_k" not in wrong).values
    if "not_scattered" in wrong:
        return highest
    threshold = highest[:, -1:]
    if "threshold_of_first_row" in wrong:
        threshold = threshold[:1]
    if "threshold_of_batch" in wrong:
        threshold = logits.flatten().topk(k).values[-1]
    hidden = logits < threshold
    if "first_tokens" in wrong:
        hidden = torch.arange(logits.shape[-1]).expand_as(logits) >= k
    if "largest_absolute" in wrong:
        hidden = logits.abs() < logits.abs().topk(k).values[:, -1:]
    if "strictly_above" in wrong:
        hidden = logits <= threshold
    if "lowest_k" in wrong:
        hidden = logits > threshold
    if "others_kept" in wrong:
        hidden = ~hidden
    return logits.masked_fill(hidden, 0.0 if "zero_fill" in wrong else -math.inf)


def top_p_filter(logits: Tensor, p: float, wrong: Set[str] = NONE) -> Tensor:
    """Filter logits with the given mistakes."""
    descending = "ascending" not in wrong
    ordered, order = logits.sort(dim=-1, descending=descending)
    probabilities = ordered.softmax(dim=-1)
    if "overflow" in wrong:
        probabilities = ordered.exp() / ordered.exp().sum(-1, keepdim=True)
    if "softmax_over_batch" in wrong:
        probabilities = ordered.softmax(0)
    if "of_logits" in wrong:
        probabilities = ordered
    if "not_sorted" in wrong:
        ordered, order = logits, torch.arange(logits.shape[-1]).expand_as(logits)
        probabilities = logits.softmax(-1)
    dim = 0 if "sum_over_batch" in wrong else -1
    cumulative = probabilities.cumsum(dim)
    removed = cumulative - probabilities >= p
    if "one_too_many" in wrong:
        removed = torch.cat([torch.zeros_like(removed[:, :1]), cumulative[:, :-1] > p], dim=-1)
    if "one_more" in wrong:
        removed = torch.cat([torch.zeros_like(removed[:, :2]), removed[:, 1:-1]], dim=-1)[:, : logits.shape[-1]]
    if "crossing_dropped" in wrong or "nothing_left" in wrong:
        removed = cumulative > p
    if "crossing_dropped" in wrong:
        removed[:, 0] = False
    if "complement" in wrong:
        removed = cumulative - probabilities >= 1 - p
    if "each_probability" in wrong:
        removed = probabilities < p
    if "at_least_two" in wrong:
        removed = removed & (torch.arange(logits.shape[-1]) > 1)
    if "each_above_the_rest" in wrong:
        removed = probabilities < 1 - p
    if "any_row" in wrong:
        removed = removed.any(0).expand_as(removed)
    if "whole_batch" in wrong:
        return _flat(logits, p)
    if "relative_to_best" in wrong:
        removed = probabilities < p * probabilities[:, :1]
    if "share_of_vocabulary" in wrong:
        count = math.ceil(p * logits.shape[-1])
        removed = torch.arange(logits.shape[-1]).expand_as(logits) >= count
    if "best_only" in wrong:
        removed = torch.arange(logits.shape[-1]).expand_as(logits) >= 1
    if "first_row_for_all" in wrong:
        removed = removed[:1].expand_as(removed)
    if "inverted" in wrong:
        removed = ~removed
    if "nothing_removed" in wrong:
        removed = torch.zeros_like(removed)
    if "sorted_returned" in wrong:
        return ordered.masked_fill(removed, -math.inf)
    mask = removed if "not_scattered_back" in wrong else torch.zeros_like(removed).scatter(-1, order, removed)
    if "gathered" in wrong:
        mask = removed.gather(-1, order)
    return _filled(logits, mask, wrong)


def _flat(logits: Tensor, p: float) -> Tensor:
    """Return the filter of all rows as if they were one."""
    ordered, order = logits.flatten().sort(descending=True)
    probabilities = ordered.softmax(-1)
    removed = probabilities.cumsum(-1) - probabilities >= p
    return logits.flatten().masked_fill(removed.scatter(-1, order, removed), -math.inf).view_as(logits)


def _filled(logits: Tensor, mask: Tensor, wrong: Set[str]) -> Tensor:
    fill = -math.inf
    if "zero_fill" in wrong:
        fill = 0.0
    if "finite_fill" in wrong:
        fill = -1e9
    if "lowest_finite" in wrong:
        fill = torch.finfo(logits.dtype).min
    if "plus_inf" in wrong:
        fill = math.inf
    if "in_place" in wrong:
        return logits.masked_fill_(mask, fill)
    if "probabilities_returned" in wrong:
        return logits.masked_fill(mask, fill).softmax(-1)
    if "probabilities_filled" in wrong:
        return logits.softmax(-1).masked_fill(mask, fill)
    if "log_probabilities_returned" in wrong:
        return logits.log_softmax(-1).masked_fill(mask, fill)
    if "mask_returned" in wrong:
        return ~mask
    return logits.masked_fill(mask, fill)


ZEROS = {
    "temperature_not_low",
    "epsilon_added",
    "zero_is_one",
    "zero_is_uniform",
    "zero_is_least",
    "zero_returns_ids",
    "zero_over_batch",
    "zero_takes_all_highest",
    "zero_temperature",
    "argmax_always",
    "in_place",
}
TEMPERATURES = {
    "temperature_not_low",
    "epsilon_added",
    "times",
    "root_of_temperature",
    "no_temperature",
    "after_softmax",
    "argmax_always",
}
COUNTS_OF_K = {
    "first_tokens",
    "largest_absolute",
    "one_too_many",
    "one_too_few",
    "lowest_k",
    "no_top_k",
    "strictly_above",
    "others_kept",
    "argmax_always",
    "not_renormalized",
}
FORMS = {"not_scattered", "threshold_of_first_row", "threshold_of_batch", "no_top_k", "sorted", "not_renormalized"}
RESULTS = {
    "logits_returned",
    "log_probabilities",
    "overflow",
    "softmax_over_batch",
    "not_renormalized",
    "argmax_always",
}
REMOVED = {
    "at_least_two",
    "each_above_the_rest",
    "whole_batch",
    "any_row",
    "one_too_many",
    "one_more",
    "crossing_dropped",
    "nothing_left",
    "complement",
    "each_probability",
    "relative_to_best",
    "share_of_vocabulary",
    "best_only",
    "nothing_removed",
}
SHARES = {"overflow", "softmax_over_batch", "of_logits", "not_sorted", "ascending"}
BACK = {"sorted_returned", "not_scattered_back", "gathered", "nothing_removed", "not_sorted"}
FILLS = {"zero_fill", "finite_fill", "lowest_finite", "plus_inf", "nothing_removed", "mask_returned"}
RETURNED = {
    "probabilities_returned",
    "probabilities_filled",
    "log_probabilities_returned",
    "mask_returned",
    "in_place",
    "sorted_returned",
}


def uniform_top_k(logits: Tensor, temperature: float, top_k: int | None) -> Tensor:
    if temperature == 0 or top_k is None:
        return sampling_probabilities(logits, temperature, top_k)
    chosen = torch.zeros_like(logits).scatter(-1, logits.topk(min(top_k, logits.shape[-1])).indices, 1.0)
    return chosen / chosen.sum(-1, keepdim=True)


def shift_overlaps(logits: Tensor, p: float) -> Tensor:
    ordered, order = logits.sort(dim=-1, descending=True)
    removed = (ordered.softmax(-1).cumsum(-1) > p)[:, :1].expand_as(logits).clone()
    removed[:, 0] = False
    return logits.masked_fill(torch.zeros_like(removed).scatter(-1, order, removed), -math.inf)


def columns_of_all_rows(logits: Tensor, p: float) -> Tensor:
    ordered, order = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(-1)
    hidden = logits.clone()
    hidden[:, order[probabilities.cumsum(-1) - probabilities >= p]] = -math.inf
    return hidden


WRONG = {
    "sampling_probabilities": Wrong(
        {"sampling_probabilities": sampling_probabilities},
        (*switches(sampling_probabilities, _only_top_k), "no_temperature"),
        exclusive=(ZEROS, TEMPERATURES, COUNTS_OF_K, FORMS, RESULTS, {"log_probabilities", "softmax_twice"}),
        plain={
            "uniform_top_k": {"sampling_probabilities": uniform_top_k},
        },
    ),
    "top_p_filter": Wrong(
        {"top_p_filter": top_p_filter},
        switches(top_p_filter, _filled),
        exclusive=(
            REMOVED,
            SHARES,
            BACK,
            FILLS,
            RETURNED,
            {"any_row", "first_row_for_all"},
            *({"whole_batch", each} for each in SHARES | BACK | FILLS | RETURNED | {"inverted", "sum_over_batch"}),
            {"whole_batch", "first_row_for_all"},
        ),
        plain={
            "shift_overlaps": {"top_p_filter": shift_overlaps},
            "columns_of_all_rows": {"top_p_filter": columns_of_all_rows},
        },
    ),
}
