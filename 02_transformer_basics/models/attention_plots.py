"""Pictures of attention: the lesson's, of a layer whose weights are set by hand, and that of any head of a model.

Shapes: T time (positions), E embedding, H heads.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lab.plots import drawable, heat_map, new_figure, save_figure
from transformer_block import SimpleSelfAttention, causal_mask


def draw_attention(path: Path) -> None:
    """Two heat-maps of a layer set by hand: who looks at whom without and with a causal mask; forbidden is grey."""
    sentence = ["the", "queen", "met", "the", "king", "and", "he", "thanked", "her"]
    looks_for = {"the": "queen king", "queen": "met thanked", "king": "met thanked", "met": "queen king"}
    looks_for |= {"and": "met thanked", "he": "king", "thanked": "he her", "her": "queen"}
    words = torch.eye(len(looks_for))  # one-hot: a word's embedding, key and value say which word it is
    wanted = torch.tensor([[float(key in looks_for[query].split()) for query in looks_for] for key in looks_for])
    layer = SimpleSelfAttention(len(words))
    for linear, weight in ((layer.query, 10.0 * wanted), (layer.key, words), (layer.value, words)):
        linear.load_state_dict({"weight": weight, "bias": torch.zeros(len(words))})
    x = words[[list(looks_for).index(word) for word in sentence]].unsqueeze(0)  # (T, E) -> (1, T, E)
    causal = causal_mask(len(sentence))
    titles = ("no mask: every word sees the whole sentence", "causal mask: only itself and what came before")
    figure, panels = new_figure(11.5, 5.6, columns=2)
    for axes, title, mask in zip(panels, titles, (torch.ones_like(causal), causal), strict=True):
        heat_map(axes, layer(x, mask)[1][0].masked_fill(~mask, math.nan), sentence, sentence)
        axes.set(title=title, xlabel="key: the word looked at", ylabel="query: the word that looks", facecolor="#ddd")
    save_figure(figure, path)


def draw_head(
    attentions: Sequence[Tensor], layer: int, head: int, tokens: Sequence[str], path: Path, causal: bool = False
) -> None:
    """One head's weights over the tokens of one text, from `Inside.attentions`, (1, H, T, T) for each layer.

    A row shows where one token looks; with `causal`, what comes later is grey.
    """
    weights = attentions[layer][0, head].detach().cpu().float()  # (1, H, T, T) -> (T, T)
    if causal:
        weights = weights.masked_fill(~causal_mask(len(tokens)), math.nan)
    size = min(max(3.5, 1.5 + 0.34 * len(tokens)), 12.0)
    figure, (axes,) = new_figure(size + 1.0, size)
    labels = [drawable(token) for token in tokens]
    heat_map(axes, weights, labels, labels)
    title = f"layer {layer} of 0 to {len(attentions) - 1}, head {head} of 0 to {attentions[0].shape[1] - 1}"
    axes.set(title=title, xlabel="key: the token looked at", ylabel="query: the token that looks", facecolor="#ddd")
    save_figure(figure, path)
