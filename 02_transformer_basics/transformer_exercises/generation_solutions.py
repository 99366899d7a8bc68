"""Generation as functions of their own: the right answers of exercises whose functions the lab has in another form.

Tests compare them with `models/generation.py` and `language_model/training.py`.

Shapes: B batch, T new positions, Tk positions so far, H heads, D head size, V vocabulary.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class KVCache:
    """The keys and values of one layer, of all positions so far."""

    def __init__(self) -> None:
        # Each cache has its own lists: nothing is shared between two texts.
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append new keys and values, (B, H, T, D) each; return all so far, (B, H, Tk, D) each."""
        self.keys.append(key)
        self.values.append(value)
        # Time is the third dimension of (B, H, T, D).
        return torch.cat(self.keys, dim=2), torch.cat(self.values, dim=2)


def sampling_probabilities(logits: Tensor, temperature: float, top_k: int | None) -> Tensor:
    """The probabilities (B, V) that the next token is sampled with, from logits (B, V).

    temperature: divides the logits; 0 puts all probability on the most likely token.
    top_k: None, or how many of the most likely tokens keep any probability.
    """
    vocabulary = logits.shape[-1]
    # Temperature 0 is greedy, and nothing can be divided by it.
    if temperature == 0:
        return F.one_hot(logits.argmax(dim=-1), vocabulary).to(logits.dtype)  # (B,) -> (B, V)
    logits = logits / temperature
    # Hide all tokens below the k-th highest logit of their row.
    if top_k is not None:
        highest = logits.topk(min(top_k, vocabulary), dim=-1).values  # (B, V) -> (B, k)
        logits = logits.masked_fill(logits < highest[:, -1:], -math.inf)
    return logits.softmax(dim=-1)


def top_p_filter(logits: Tensor, p: float) -> Tensor:
    """Logits (B, V) with all but the most likely tokens at -inf: as few as have p together."""
    # From the most likely token down: how much probability do the tokens before this one have?
    descending, order = logits.sort(dim=-1, descending=True)  # (B, V) each
    probabilities = descending.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    # A token is needed as long as those before it have less than p.
    removed = before >= p  # in sorted order
    return logits.masked_fill(removed.scatter(-1, order, removed), -math.inf)


def next_token_loss(logits: Tensor, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean cross-entropy in nats of all next tokens that are no padding.

    logits (B, T, V), token_ids (B, T), attention_mask (B, T), 1 for tokens and 0 for padding ->
    a scalar.
    """
    # The logits at position t predict the token at t + 1; nothing follows the last position.
    log_probs = logits[:, :-1].log_softmax(dim=-1)  # (B, T - 1, V)
    targets = token_ids[:, 1:]  # (B, T - 1)
    nats = -log_probs.gather(-1, targets[..., None]).squeeze(-1)  # (B, T - 1)
    # Average over the targets that are tokens.
    counted = attention_mask[:, 1:]  # (B, T - 1)
    return (nats * counted).sum() / counted.sum()
