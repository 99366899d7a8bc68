"""Wrong answers to the exercise on the cache, each the right one with one mistake switched on."""

import functools
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


class LaterLastOnly(KVCache):
    """A cache that takes only the last position of each later call."""

    def append(self, key: Tensor, value: Tensor) -> Any:
        if self.keys:
            key, value = key[:, :, -1:], value[:, :, -1:]
        return super().append(key, value)


class LaterKeysAsValues(KVCache):
    """A cache whose later values are keys."""

    def append(self, key: Tensor, value: Tensor) -> Any:
        return super().append(key, key if self.keys else value)


class FirstForgotten(KVCache):
    """A cache that does not store what comes in the first call."""

    def append(self, key: Tensor, value: Tensor) -> Any:
        if not self.keys:
            self.keys, self.values = [key[:, :, :0]], [value[:, :, :0]]
            return key, value
        return super().append(key, value)


class EqualOnesDropped(KVCache):
    """A cache that does not store keys which it holds already."""

    def append(self, key: Tensor, value: Tensor) -> Any:
        if any(torch.equal(key, each) for each in self.keys):
            return self._joined(self.keys, self.values)
        return super().append(key, value)


WRONG = {
    "KVCache": Caches(
        {"KVCache": KVCache},
        switches(KVCache),
        exclusive=(STORES, JOINS, VALUES, COUNTS | STORES | JOINS, COUNTS | (VALUES - {"results_swapped"})),
        plain={
            "later_last_only": {"KVCache": LaterLastOnly},
            "later_keys_as_values": {"KVCache": LaterKeysAsValues},
            "first_forgotten": {"KVCache": FirstForgotten},
            "equal_ones_dropped": {"KVCache": EqualOnesDropped},
        },
    ),
}
