"""The lesson's picture of attention: two heat-maps of a layer whose weights are set by hand."""

import math
from pathlib import Path

import torch

from lab.plots import heat_map, new_figure, save_figure
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
        for number, allowed in zip(axes.texts, mask.flatten(), strict=True):
            number.set_visible(bool(allowed))
    save_figure(figure, path)
