"""Wrong answers to the exercises on generation, each the right one with one mistake switched on."""

import functools
import math
from collections.abc import Set
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.exercises.probes import Answer
from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()
CAPACITY = 4096  # of the wrong caches that write into a buffer


class KVCache:
    """A cache with the given mistakes; `shared` are the lists that all caches of one answer share."""

    def __init__(self, wrong: Set[str] = NONE, shared: tuple[list[Tensor], list[Tensor]] = ([], [])) -> None:
        self.wrong = wrong
        self.keys, self.values = shared if "shared_default" in wrong else ([], [])
        self.length = 0
        self.buffers: list[Tensor] = []

    def append(self, key: Tensor, value: Tensor) -> Any:
        """Append, and return what is cached, with the mistakes."""
        wrong = self.wrong
        if "in_place" in wrong:
            key += 1
        if "last_only" in wrong:
            key, value = key[:, :, -1:], value[:, :, -1:]
        if "counts_heads" in wrong or "counts_calls" in wrong:
            return self._buffered(key, value)
        before = list(self.keys), list(self.values)
        if "stored_twice" in wrong and not self.keys:
            self.keys, self.values = [key], [value]
        if "not_stored" not in wrong or not self.keys:
            self.keys.insert(0 if "prepended" in wrong else len(self.keys), key)
            self.values.insert(
                0 if "prepended" in wrong else len(self.values), key if "keys_as_values" in wrong else value
            )
        keys, values = self.keys, self.values
        if "not_stored" in wrong and before[0]:
            keys, values = [*keys, key], [*values, value]
        if "forgets" in wrong:
            self.keys, self.values = [key], [value]
        if "one_late" in wrong and before[0]:
            keys, values = before
        if "returned_new_only" in wrong:
            keys, values = [key], [value]
        if "values_of_the_last_call" in wrong:
            values = values[-1:]
        return self._joined(keys, values)

    def _joined(self, keys: list[Tensor], values: list[Tensor]) -> Any:
        wrong = self.wrong
        if "list_returned" in wrong:
            return list(keys), list(values)
        if "stacked" in wrong:
            return torch.stack(keys), torch.stack(values)
        if "summed" in wrong:
            return sum(keys[1:], keys[0]), sum(values[1:], values[0])
        dim = 2
        if "wrong_axis" in wrong:
            dim = 1
        if "last_axis" in wrong:
            dim = 3
        if "batch_axis" in wrong:
            dim = 0
        if "returns_nothing" in wrong:
            return None
        if "one_tensor" in wrong:
            return torch.stack([torch.cat(keys, dim), torch.cat(values, dim)])
        if "dictionary" in wrong:
            return {"keys": torch.cat(keys, dim), "values": torch.cat(values, dim)}
        if "whole_buffer" in wrong:
            both = torch.cat(keys, dim), torch.cat(values, dim)
            return tuple(F.pad(each, (0, 0, 0, max(64 - each.shape[2], 0))) for each in both)
        if "fixed_size" in wrong and sum(each.shape[2] for each in keys) > 2048:
            raise RuntimeError
        if "window" in wrong:
            return tuple(torch.cat(each, dim)[:, :, -1024:] for each in (keys, values))
        if "keys_only" in wrong:
            return torch.cat(keys, dim)
        both = torch.cat(keys, dim), torch.cat(values, dim)
        return both[::-1] if "results_swapped" in wrong else both

    def _buffered(self, key: Tensor, value: Tensor) -> Any:
        wrong = self.wrong
        batch, heads, new, size = key.shape
        if not self.buffers:
            self.buffers = [key.new_zeros(batch, heads, CAPACITY, size) for _ in "kv"]
        start = self.length
        self.length += heads if "counts_heads" in wrong else 1
        for buffer, each in zip(self.buffers, (key, value), strict=True):
            buffer[:, :, start : start + new] = each
        both = [buffer[:, :, : self.length] for buffer in self.buffers]
        return both[::-1] if "results_swapped" in wrong else both


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


class Caches(Wrong):
    """The wrong caches; each answer has its own shared lists, as each learner's file has."""

    def build(self, ids: frozenset[str]) -> Answer:
        """Return the cache that makes these mistakes."""
        super().build(ids)
        return {"KVCache": functools.partial(KVCache, wrong=ids, shared=([], []))}


STORES = {"not_stored", "forgets", "one_late", "returned_new_only", "stored_twice", "prepended", "shared_default"}
JOINS = {
    "returns_nothing",
    "one_tensor",
    "dictionary",
    "whole_buffer",
    "fixed_size",
    "window",
    "list_returned",
    "stacked",
    "summed",
    "wrong_axis",
    "last_axis",
    "batch_axis",
    "keys_only",
}
VALUES = {
    "returns_nothing",
    "one_tensor",
    "dictionary",
    "keys_as_values",
    "values_of_the_last_call",
    "results_swapped",
    "keys_only",
}
COUNTS = {"counts_heads", "counts_calls"}
ZEROS = {
    "temperature_not_low",
    "epsilon_added",
    "zero_is_one",
    "zero_is_uniform",
    "zero_is_least",
    "zero_returns_ids",
    "zero_over_batch",
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
WRONG = {
    "KVCache": Caches(
        {"KVCache": KVCache},
        switches(KVCache),
        exclusive=(STORES, JOINS, VALUES, COUNTS | STORES | JOINS, COUNTS | (VALUES - {"results_swapped"})),
    ),
    "sampling_probabilities": Wrong(
        {"sampling_probabilities": sampling_probabilities},
        (*switches(sampling_probabilities, _only_top_k), "no_temperature"),
        exclusive=(ZEROS, TEMPERATURES, COUNTS_OF_K, FORMS, RESULTS, {"log_probabilities", "softmax_twice"}),
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
    ),
    "next_token_loss": Wrong(
        {"next_token_loss": next_token_loss},
        switches(next_token_loss, _mean),
        exclusive=(SHIFTS, MASKS, LOGS, UNITS, MEANS),
    ),
}
