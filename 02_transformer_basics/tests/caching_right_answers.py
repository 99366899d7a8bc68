"""Right answers to the exercise on the cache in other styles than the lab's: all must pass."""

import torch
from torch import Tensor


class GrowingCache:
    """Joins the old tensor and the new one at every call."""

    def __init__(self) -> None:
        self.cached: tuple[Tensor, Tensor] | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if self.cached is None:
            self.cached = key, value
        else:
            self.cached = torch.cat((self.cached[0], key), -2), torch.cat((self.cached[1], value), -2)
        return self.cached


class DoublingCache:
    """Writes into a buffer, which doubles when it is full."""

    def __init__(self) -> None:
        self.buffer = torch.empty(0)
        self.length = 0

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        new = key.shape[2]
        if self.length == 0:
            self.buffer = key.new_zeros(2, *key.shape)
        while self.length + new > self.buffer.shape[3]:
            self.buffer = torch.cat([self.buffer, torch.zeros_like(self.buffer)], dim=3)
        self.buffer[:, :, :, self.length : self.length + new] = torch.stack([key, value])
        self.length += new
        return self.buffer[0, :, :, : self.length], self.buffer[1, :, :, : self.length]


class PositionCache:
    """One entry per position."""

    def __init__(self) -> None:
        self.positions: list[tuple[Tensor, Tensor]] = []

    def append(self, key: Tensor, value: Tensor) -> list[Tensor]:
        self.positions += zip(key.unbind(2), value.unbind(2), strict=True)
        return [torch.stack(each, dim=2) for each in zip(*self.positions, strict=True)]


class EmptyCache:
    """Begins with tensors without positions."""

    keys = values = None

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        before_keys = key[:, :, :0] if self.keys is None else self.keys
        before_values = value[:, :, :0] if self.values is None else self.values
        self.keys, self.values = torch.cat([before_keys, key], 2), torch.cat([before_values, value], 2)
        return self.keys, self.values


RIGHT = {
    "KVCache": {
        "growing": {"KVCache": GrowingCache},
        "doubling": {"KVCache": DoublingCache},
        "positions": {"KVCache": PositionCache},
        "empty": {"KVCache": EmptyCache},
    },
}
