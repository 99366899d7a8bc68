"""Right answers to the exercises on sampling in other styles than the lab's: all must pass."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sampling_by_scatter(logits: Tensor, temperature: float, top_k: int | None) -> Tensor:
    """Softmax of the k highest, put back; exactly k of equal logits."""
    result = torch.zeros_like(logits)
    if temperature == 0:
        return result.scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    k = logits.size(-1) if top_k is None else min(top_k, logits.size(-1))
    values, indices = torch.topk(logits / temperature, k)
    return result.scatter_(-1, indices, values.softmax(-1))


def sampling_in_another_precision_at_zero(logits: Tensor, temperature: float, top_k: int | None) -> Tensor:
    """Zeros and a one in float32, whatever the logits are."""
    if temperature == 0:
        return F.one_hot(logits.argmax(-1), logits.size(-1)).float()
    return sampling_by_scatter(logits, temperature, top_k)


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


RIGHT = {
    "sampling_probabilities": {
        "scatter": {"sampling_probabilities": sampling_by_scatter},
        "float32 at zero": {"sampling_probabilities": sampling_in_another_precision_at_zero},
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
}
