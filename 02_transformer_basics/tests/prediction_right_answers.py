"""Right answers to the exercise on the loss of a language model in other styles than the lab's: all must pass."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


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
    "next_token_loss": {
        "cross-entropy": {"next_token_loss": loss_by_cross_entropy},
        "selection": {"next_token_loss": loss_by_selection},
        "loops": {"next_token_loss": loss_by_loops},
        "one-hot": {"next_token_loss": loss_by_one_hot},
        "log of softmax": {"next_token_loss": loss_by_log_of_softmax},
    },
}
