"""Plots of attention weights: an example with queries and keys set by hand, and any head of a model.

Shapes: B batch, H heads, T time (positions), D head size.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lab.plots import Axes, drawable, heat_map, new_figure, save_figure

SENTENCE = ("the", "queen", "met", "the", "king", "and", "he", "thanked", "her")
LOOKS_FOR = {  # word -> the words that its query matches
    "the": ("queen", "king"),
    "queen": ("met", "thanked"),
    "king": ("met", "thanked"),
    "met": ("queen", "king"),
    "and": ("met", "thanked"),
    "he": ("king",),
    "thanked": ("he", "her"),
    "her": ("queen",),
}
SHARPNESS = 10.0  # scale of the queries
AttentionFn = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def draw_example(path: Path, attention: AttentionFn) -> None:
    """Draw the weights that `attention` gives for a sentence, without and with a causal mask, as two heat maps.

    `attention(query, key, value, mask)` takes (B, H, T, D) and a boolean mask (T, T), True where attention is
    allowed, and returns the output and the weights (B, H, T, T).
    """
    words = list(LOOKS_FOR)
    keys = torch.stack([torch.eye(len(words))[words.index(word)] for word in SENTENCE])  # (T, D), one-hot
    queries = torch.tensor([[SHARPNESS * (word in LOOKS_FOR[query]) for word in words] for query in SENTENCE])  # (T, D)
    query, key = queries[None, None], keys[None, None]  # (T, D) -> (1, 1, T, D)
    causal = torch.ones(len(SENTENCE), len(SENTENCE), dtype=torch.bool).tril()  # (T, T)
    titles = ("no mask: every word sees the whole sentence", "causal mask: each word sees itself and earlier words")
    figure, panels = new_figure(11.5, 5.6, columns=2)
    for axes, title, mask in zip(panels, titles, (torch.ones_like(causal), causal), strict=True):
        _, weights = attention(query, key, key, mask)
        _draw(axes, weights[0, 0].masked_fill(~mask, math.nan), SENTENCE, title)
    save_figure(figure, path)


def draw_head(
    attentions: Sequence[Tensor], layer: int, head: int, tokens: Sequence[str], path: Path, causal: bool = False
) -> None:
    """Draw one head's weights over the tokens of one text; with `causal`, later positions are gray.

    `attentions` holds the weights of each layer, (1, H, T, T): row i shows where token i looks.
    """
    weights = attentions[layer][0, head].detach().cpu().float()  # (1, H, T, T) -> (T, T)
    if causal:
        allowed = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()
        weights = weights.masked_fill(~allowed, math.nan)
    size = min(max(3.5, 1.5 + 0.34 * len(tokens)), 12.0)
    figure, (axes,) = new_figure(size + 1.0, size)
    title = f"layer {layer} of 0 to {len(attentions) - 1}, head {head} of 0 to {attentions[0].shape[1] - 1}"
    _draw(axes, weights, [drawable(token) for token in tokens], title)
    save_figure(figure, path)


def _draw(axes: Axes, weights: Tensor, labels: Sequence[str], title: str) -> None:
    heat_map(axes, weights, labels, labels)
    axes.set(title=title, xlabel="key: the token looked at", ylabel="query: the token that looks", facecolor="#ddd")
