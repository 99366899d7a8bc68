"""Right answers to the exercises on generation in other styles than the lab's: all must pass."""

import math
from typing import Any

import torch
import torch.nn.functional as F
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


def sampling_by_scatter(logits: Tensor, temperature: float, top_k: int | None) -> Tensor:
    """Softmax of the k highest, put back; exactly k of equal logits."""
    result = torch.zeros_like(logits)
    if temperature == 0:
        return result.scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    k = logits.size(-1) if top_k is None else min(top_k, logits.size(-1))
    values, indices = torch.topk(logits / temperature, k)
    return result.scatter_(-1, indices, values.softmax(-1))


def sampling_by_powers(logits: Tensor, temperature: float, top_k: int | None) -> Tensor:
    """Probabilities to the power 1 / temperature, divided by their sum: the same."""
    if not temperature:
        best = logits == logits.amax(-1, keepdim=True)
        return best.to(logits.dtype) / best.sum(-1, keepdim=True)
    log_probs = logits.log_softmax(-1) / temperature
    powers = (log_probs - log_probs.amax(-1, keepdim=True)).exp()
    if top_k is not None:
        ranks = logits.argsort(dim=-1, descending=True).argsort(dim=-1)
        powers = torch.where(ranks < top_k, powers, torch.zeros_like(powers))
    return powers / powers.sum(-1, keepdim=True)


def sampling_by_loops(logits: Tensor, temperature: float, top_k: int | None) -> Tensor:
    rows = []
    for row in logits.tolist():
        order = sorted(range(len(row)), key=lambda token: -row[token])[: top_k or len(row)]
        if temperature == 0:
            rows.append([float(token == order[0]) for token in range(len(row))])
            continue
        weights = {token: math.exp((row[token] - row[order[0]]) / temperature) for token in order}
        rows.append([weights.get(token, 0.0) / sum(weights.values()) for token in range(len(row))])
    return torch.tensor(rows, dtype=logits.dtype)


def sampling_top_k_first(logits: Tensor, temperature: float, top_k: int | None) -> Tensor:
    """The order of top-k and temperature makes no difference."""
    if top_k is not None:
        kth = logits.sort(-1).values[:, [-min(top_k, logits.shape[-1])]]
        logits = torch.where(logits < kth, torch.tensor(float("-inf"), dtype=logits.dtype), logits)
    if temperature == 0:
        temperature = 1e-8
    return F.softmax(logits.double() / temperature, -1).to(logits.dtype)


def top_p_from_below(logits: Tensor, p: float) -> Tensor:
    """Remove from the least likely token up, as long as at most 1 - p is lost: the lab's own way."""
    ascending, order = logits.sort(dim=-1)
    removed = ascending.softmax(-1).cumsum(-1) <= 1.0 - p
    removed[:, -1] = False
    return logits.masked_fill(removed.scatter(1, order, removed), -math.inf)


def top_p_by_shift(logits: Tensor, p: float) -> Tensor:
    """The mask of the sums that reach p, shifted by one token."""
    ordered, order = torch.sort(logits, descending=True)
    remove = ordered.softmax(-1).cumsum(-1) >= p
    remove = torch.cat([torch.zeros_like(remove[:, :1]), remove[:, :-1]], dim=1)
    result = logits.clone()
    for row in range(len(logits)):
        result[row, order[row][remove[row]]] = float("-inf")
    return result


def top_p_by_loops(logits: Tensor, p: float) -> Tensor:
    result = torch.full_like(logits, -torch.inf)
    for row, probabilities in enumerate(logits.softmax(-1).tolist()):
        total = 0.0
        for token in sorted(range(len(probabilities)), key=lambda token: -probabilities[token]):
            result[row, token] = logits[row, token]
            total += probabilities[token]
            if total >= p:
                break
    return result


def top_p_by_threshold(logits: Tensor, p: float) -> Tensor:
    """Keep every logit that is at least the last one needed, equal ones too."""
    ordered = logits.sort(-1, descending=True).values
    sums = ordered.softmax(-1).cumsum(-1)
    needed = ((sums < p).sum(-1, keepdim=True)).clamp(max=logits.shape[-1] - 1)
    return torch.where(logits >= ordered.gather(-1, needed), logits, -torch.inf)


def top_p_by_comparison(logits: Tensor, p: float) -> Tensor:
    """A token goes if those before it have p; tokens are compared in pairs, without sorting."""
    probabilities = logits.softmax(-1)
    index = torch.arange(logits.shape[-1])
    above = logits[:, None, :] > logits[:, :, None]
    equal_before = (logits[:, None, :] == logits[:, :, None]) & (index[None, :] < index[:, None])
    before = ((above | equal_before) * probabilities[:, None, :]).sum(-1)
    return logits.masked_fill(before >= p, -math.inf)


def loss_by_cross_entropy(logits: Tensor, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
    targets = token_ids[:, 1:].masked_fill(attention_mask[:, 1:] == 0, -100)
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), targets)


def loss_by_selection(logits: Tensor, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
    counted = attention_mask[:, 1:].bool()
    return F.cross_entropy(logits[:, :-1][counted], token_ids[:, 1:][counted])


def loss_by_loops(logits: Tensor, token_ids: Tensor, attention_mask: Tensor) -> float:
    """A plain number."""
    nats = []
    for row, ids, mask in zip(logits.tolist(), token_ids.tolist(), attention_mask.tolist(), strict=True):
        for position in range(len(ids) - 1):
            if mask[position + 1]:
                highest = max(row[position])
                total = sum(math.exp(each - highest) for each in row[position])
                nats.append(math.log(total) + highest - row[position][ids[position + 1]])
    return sum(nats) / len(nats)


def loss_by_one_hot(logits: Tensor, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
    log_probs = logits - logits.logsumexp(-1, keepdim=True)
    picked = F.one_hot(token_ids[:, 1:], logits.shape[-1]) * log_probs[:, :-1]
    return -(picked.sum(-1) * attention_mask[:, 1:].to(logits.dtype)).sum() / attention_mask[:, 1:].sum()


def loss_by_log_of_softmax(logits: Tensor, token_ids: Tensor, attention_mask: Tensor) -> Any:
    """One flat list of targets, and a number of NumPy."""
    flat = logits[:, :-1].reshape(-1, logits.shape[-1]).softmax(-1)
    nats = -flat[torch.arange(len(flat)), token_ids[:, 1:].flatten()].log()
    return nats[attention_mask[:, 1:].flatten() == 1].mean().numpy()


RIGHT = {
    "KVCache": {
        "growing": {"KVCache": GrowingCache},
        "doubling": {"KVCache": DoublingCache},
        "positions": {"KVCache": PositionCache},
        "empty": {"KVCache": EmptyCache},
    },
    "sampling_probabilities": {
        "scatter": {"sampling_probabilities": sampling_by_scatter},
        "powers": {"sampling_probabilities": sampling_by_powers},
        "loops": {"sampling_probabilities": sampling_by_loops},
        "top-k first": {"sampling_probabilities": sampling_top_k_first},
    },
    "top_p_filter": {
        "from below": {"top_p_filter": top_p_from_below},
        "shift": {"top_p_filter": top_p_by_shift},
        "loops": {"top_p_filter": top_p_by_loops},
        "threshold": {"top_p_filter": top_p_by_threshold},
        "comparison": {"top_p_filter": top_p_by_comparison},
    },
    "next_token_loss": {
        "cross-entropy": {"next_token_loss": loss_by_cross_entropy},
        "selection": {"next_token_loss": loss_by_selection},
        "loops": {"next_token_loss": loss_by_loops},
        "one-hot": {"next_token_loss": loss_by_one_hot},
        "log of softmax": {"next_token_loss": loss_by_log_of_softmax},
    },
}
