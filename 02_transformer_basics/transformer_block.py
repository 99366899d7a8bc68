"""Self-attention and the transformer's encoder block, from the formula to equality with `torch.nn`.

Run this file to climb the ladder: each rung prints its shapes and how far it is from the rung before and from PyTorch.

Shapes: B batch, T time (positions), H heads, D head size, E embedding = H * D, F feed-forward size.
In `attention` the queries may be fewer than the keys, as with a cache: Tq queries, Tk keys.

Masks are boolean, True where attention is ALLOWED (`torch.nn` has it the other way round), and have one of two forms:
- (Tq, Tk): the same for every sequence and every head, as from `causal_mask`;
- four dimensions, each of full size or 1, standing for (B, H, Tq, Tk): (B, 1, 1, T) from `padding_mask`, (B, 1, T, T)
  one mask a sequence, (1, H, T, T) one a head, (B, H, T, T).
Anything else is refused, three dimensions too: (B, T, T) and (H, T, T) look alike where B equals H. Combine with `&`.
A query that may attend to nothing gets weights and output of zero (before the output projection), never NaN.

Sources: Vaswani et al. 2017, "Attention Is All You Need" (equations and sections below are theirs); pre-norm: Xiong et
al. 2020, "On Layer Normalization in the Transformer Architecture"; GELU: Hendrycks and Gimpel 2016.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.errors import UserError

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,  # exact, with the error function: BERT and DistilBERT
    "gelu_tanh": partial(F.gelu, approximate="tanh"),  # GPT-2's `gelu_new`
}


# ---------------------------------------------------------------------------------------------------------------- masks


def causal_mask(length: int, device: torch.device | str | None = None) -> Tensor:
    """(T, T), True on and below the diagonal: no position sees a later one (section 3.2.3).

    With earlier keys in a cache, take the last rows: `causal_mask(total)[-new:]`.
    """
    _at_least_one(length=length)
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def padding_mask(attention_mask: Tensor) -> Tensor:
    """A tokenizer's (B, T), 1 or True for tokens and 0 for padding, as (B, 1, 1, T): nobody attends to padding.

    Raises UserError for other shapes and for values other than 0 and 1, such as an additive mask.
    """
    if attention_mask.ndim != 2 or not ((attention_mask == 0) | (attention_mask == 1)).all():
        shape = tuple(attention_mask.shape)
        raise UserError(
            f"attention_mask must be (batch, time) and hold 1 for tokens, 0 for padding; its shape: {shape}"
        )
    return attention_mask.bool()[:, None, None, :]  # (B, T) -> (B, 1, 1, T)


def check_mask(mask: Tensor, full: torch.Size) -> None:
    """Raise UserError unless `mask` is boolean and of a form listed at the top; `full` is (B, H, Tq, Tk)."""
    if mask.dtype != torch.bool:
        raise UserError(f"mask must be boolean, True where attention is allowed, not {mask.dtype}; see padding_mask")
    fits = all(size in (1, wanted) for size, wanted in zip(mask.shape, full, strict=False))
    if not (mask.shape == full[2:] or (mask.ndim == 4 and fits)):
        raise UserError(
            f"mask is {tuple(mask.shape)}; it must be (queries, keys) = {tuple(full[2:])} or four sizes, each full or 1, "
            f"of (batch, heads, queries, keys) = {tuple(full)}; for one mask a sequence use mask[:, None]"
        )


# ------------------------------------------------------------------------------------------------------------ attention


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: nn.Module | None = None
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention (equation 1), for all positions, heads and sequences at once.

    Args:
        query: (B, H, Tq, D). key, value: (B, H, Tk, D).
        mask: boolean, True where allowed; its forms are listed at the top of this file.
        dropout: applied to the weights before they average the values.

    Returns: the output (B, H, Tq, D), and the weights (B, H, Tq, Tk) as they are before dropout: each row sums to 1,
        or to 0 where the query may attend to nothing.

    Raises UserError for a mask of another type or shape.
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (B, H, Tq, Tk); eq. 1: Q K^T / sqrt(d_k)
    if mask is None:
        weights = scores.softmax(dim=-1)  # eq. 1
    else:
        check_mask(mask, scores.shape)
        # The lowest finite number and not -inf: a row of -inf alone has softmax NaN, and so have all its gradients.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        # Such a row is uniform after the softmax, so zero is put in by hand; in every other row it is zero already.
        weights = scores.softmax(dim=-1).masked_fill(~mask, 0.0)
    used = weights if dropout is None else dropout(weights)
    return used @ value, weights  # (B, H, Tq, Tk) @ (B, H, Tk, D) -> (B, H, Tq, D); eq. 1


class SimpleSelfAttention(nn.Module):
    """One head: every position asks with its query and averages the values of those whose keys answer.

    `forward(x, mask=None)`: x (B, T, E) -> output (B, T, E), weights (B, T, T), weights[b, i, j] from i to j.

    Raises UserError for sizes below 1, for x of another shape, and for masks as in `attention` (here H is 1).
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        _at_least_one(embed_dim=embed_dim)
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key = nn.Linear(embed_dim, embed_dim)
        self.value = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        _check_input(x, self.query.in_features)
        query, key, value = (linear(x).unsqueeze(1) for linear in (self.query, self.key, self.value))  # (B, 1, T, E)
        output, weights = attention(query, key, value, mask)
        return output.squeeze(1), weights.squeeze(1)  # (B, T, E), (B, T, T)


class MultiHeadAttention(nn.Module):
    """H heads side by side, each with E / H of the embedding, and a linear map of what they found (section 3.2.2).

    `forward(x, mask=None)`: x (B, T, E) -> output (B, T, E), weights (B, H, T, T) before dropout.
    A decoder with a cache calls the two halves, `project` and `attend`, and puts the cached keys and values in between.

    Raises UserError where embed_dim is no multiple of num_heads, for sizes below 1, for dropout outside 0 to 1, for x
    of another shape, and for masks as in `attention`.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        _at_least_one(embed_dim=embed_dim, num_heads=num_heads)
        if embed_dim % num_heads:
            raise UserError(f"embed_dim {embed_dim} must be a multiple of num_heads {num_heads}")
        if not 0.0 <= dropout <= 1.0:
            raise UserError(f"dropout must be between 0 and 1, not {dropout}")
        self.num_heads = num_heads
        self.query = nn.Linear(embed_dim, embed_dim, bias=bias)  # W^Q of all heads, one under the other
        self.key = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.value = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.output = nn.Linear(embed_dim, embed_dim, bias=bias)  # W^O
        self.dropout = nn.Dropout(dropout)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, E) -> query, key, value, each (B, H, T, D)."""
        _check_input(x, self.query.in_features)
        query, key, value = (
            linear(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, T, E) -> (B, T, H, D) -> (B, H, T, D)
            for linear in (self.query, self.key, self.value)
        )
        return query, key, value

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """query (B, H, Tq, D), key and value (B, H, Tk, D) -> output (B, Tq, E), weights (B, H, Tq, Tk)."""
        heads, weights = attention(query, key, value, mask, self.dropout)
        concatenated = heads.transpose(1, 2).flatten(2)  # (B, H, Tq, D) -> (B, Tq, H, D) -> (B, Tq, E)
        return self.output(concatenated), weights  # section 3.2.2: Concat(head_1, ..., head_h) W^O

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.attend(*self.project(x), mask)

    @classmethod
    def from_torch(cls, theirs: nn.MultiheadAttention) -> "MultiHeadAttention":
        """A copy that computes the same from (B, T, E), whichever way `batch_first` is set there.

        Raises UserError for keys or values of their own size, `add_bias_kv` and `add_zero_attn`.
        """
        if type(theirs) is not nn.MultiheadAttention or theirs.in_proj_weight is None:
            raise UserError("only nn.MultiheadAttention with kdim and vdim equal to embed_dim can be copied")
        if theirs.bias_k is not None or theirs.add_zero_attn:
            raise UserError("nn.MultiheadAttention with add_bias_kv or add_zero_attn cannot be copied")
        weight, bias = theirs.in_proj_weight, theirs.in_proj_bias  # (3E, E), (3E,): query, key, value stacked
        ours = cls(theirs.embed_dim, theirs.num_heads, theirs.dropout, bias=bias is not None).to(weight)
        state = {f"output.{name}": tensor for name, tensor in theirs.out_proj.state_dict().items()}
        for index, name in enumerate(("query", "key", "value")):
            state[f"{name}.weight"] = weight.chunk(3)[index]  # (3E, E) -> (E, E)
            if bias is not None:
                state[f"{name}.bias"] = bias.chunk(3)[index]  # (3E,) -> (E,)
        ours.load_state_dict(state)
        return ours.train(theirs.training)


class TransformerBlock(nn.Module):
    """The encoder block: attention, then a feed-forward network, a residual connection and a norm around each.

    `forward(x, mask=None)`: x (B, T, E) -> (B, T, E).

    Args:
        embed_dim, num_heads, ff_dim: E, H and F.
        dropout: on the attention weights, inside the feed-forward network, and on what both add to x (section 5.4).
        activation: "relu" (the paper), "gelu" (exact) or "gelu_tanh" (GPT-2's approximation).
        norm_first: False is LayerNorm(x + f(x)), as in the paper; True is x + f(LayerNorm(x)).
        eps: added to the variance in the norms. bias: whether linear maps and norms add one.

    Raises UserError as `MultiHeadAttention` does, and for an unknown activation.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        ff_dim: int,
        dropout: float = 0.1,
        activation: str = "gelu",
        norm_first: bool = False,
        eps: float = 1e-5,
        bias: bool = True,
    ) -> None:
        super().__init__()
        _at_least_one(ff_dim=ff_dim)
        if activation not in ACTIVATIONS:
            raise UserError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
        self.activation, self.norm_first = activation, norm_first
        self.attention = MultiHeadAttention(embed_dim, num_heads, dropout, bias)
        self.ff_in = nn.Linear(embed_dim, ff_dim, bias=bias)
        self.ff_out = nn.Linear(ff_dim, embed_dim, bias=bias)
        self.norm1 = nn.LayerNorm(embed_dim, eps=eps, bias=bias)
        self.norm2 = nn.LayerNorm(embed_dim, eps=eps, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def feed_forward(self, x: Tensor) -> Tensor:
        """x (B, T, E) -> (B, T, E), every position on its own (section 3.3)."""
        hidden = ACTIVATIONS[self.activation](self.ff_in(x))  # (B, T, E) -> (B, T, F); eq. 2: max(0, x W_1 + b_1)
        return self.ff_out(self.dropout(hidden))  # (B, T, F) -> (B, T, E); eq. 2: ... W_2 + b_2

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.norm_first:  # Xiong et al. 2020: the sum of residuals runs through the whole model untouched
            x = x + self.dropout(self.attention(self.norm1(x), mask)[0])
            return x + self.dropout(self.feed_forward(self.norm2(x)))
        x = self.norm1(x + self.dropout(self.attention(x, mask)[0]))  # section 3.1: LayerNorm(x + Sublayer(x))
        return self.norm2(x + self.dropout(self.feed_forward(x)))

    @classmethod
    def from_torch(cls, layer: nn.TransformerEncoderLayer) -> "TransformerBlock":
        """A copy with the same weights and settings; it takes (B, T, E) whichever way `batch_first` is set there.

        Raises UserError for subclasses, activations other than ReLU and GELU, dropout rates that differ from place to
        place (the attention's own may), and attention that `MultiHeadAttention.from_torch` refuses.
        """
        if type(layer) is not nn.TransformerEncoderLayer:
            raise UserError(f"only nn.TransformerEncoderLayer itself can be copied, not {type(layer).__name__}")
        if not layer.dropout.p == layer.dropout1.p == layer.dropout2.p:
            raise UserError("nn.TransformerEncoderLayer with different dropout rates cannot be copied")
        sizes = (layer.self_attn.embed_dim, layer.self_attn.num_heads, layer.linear1.out_features)
        name = _activation_name(layer.activation)
        block = cls(*sizes, dropout=layer.dropout.p, activation=name, norm_first=layer.norm_first)
        block.attention = MultiHeadAttention.from_torch(layer.self_attn)
        block.ff_in, block.ff_out = copy.deepcopy(layer.linear1), copy.deepcopy(layer.linear2)
        block.norm1, block.norm2 = copy.deepcopy(layer.norm1), copy.deepcopy(layer.norm2)  # with their own eps
        return block.train(layer.training)


def _activation_name(function: object) -> str:
    """Our name for the activation of an nn.TransformerEncoderLayer."""
    if isinstance(function, nn.GELU):
        return "gelu" if function.approximate == "none" else "gelu_tanh"
    if function is F.gelu:
        return "gelu"
    if function in (F.relu, torch.relu) or isinstance(function, nn.ReLU):
        return "relu"
    raise UserError(f"activation {function!r} cannot be copied: only ReLU and GELU of torch.nn can")


def _at_least_one(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name} must be at least 1, not {size}")


def _check_input(x: Tensor, embed_dim: int) -> None:
    if x.ndim != 3 or x.shape[-1] != embed_dim:
        raise UserError(f"x must be (batch, time, {embed_dim}), not {tuple(x.shape)}")


# ---------------------------------------------------------------------------------------- the lower rungs of the ladder


def attention_by_loops(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Rung 1: equation 1 for one sequence and one head, position by position. (T, D) each -> (T, D), weights (T, T)."""
    outputs, rows = [], []
    for q in query:  # (D,)
        scores = torch.stack([(q * k).sum() / math.sqrt(len(q)) for k in key])  # (T,)
        exponentials = (scores - scores.max()).exp()  # the highest becomes exp(0) = 1: nothing overflows
        row = exponentials / exponentials.sum()
        weighted = torch.stack([weight * v for weight, v in zip(row, value, strict=True)])  # (T, D)
        outputs.append(weighted.sum(dim=0))  # (T, D) -> (D,)
        rows.append(row)
    return torch.stack(outputs), torch.stack(rows)  # (T, D), (T, T)


def multi_head_by_loop(layer: MultiHeadAttention, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Rung 3, first half: one head after the other on its own slice of the embedding. x (B, T, E) -> (B, T, E)."""
    size = x.shape[-1] // layer.num_heads
    query, key, value = layer.query(x), layer.key(x), layer.value(x)
    heads = []
    for part in (slice(start, start + size) for start in range(0, x.shape[-1], size)):
        q, k, v = (tensor[:, None, :, part] for tensor in (query, key, value))  # (B, T, E) -> (B, 1, T, D)
        heads.append(attention(q, k, v, mask)[0][:, 0])  # (B, 1, T, D) -> (B, T, D)
    return layer.output(torch.cat(heads, dim=-1))  # H times (B, T, D) -> (B, T, E)


# -------------------------------------------------------------------------------------------------------- demonstration


@dataclass
class Config:
    """Climb the ladder from loops to the encoder block and compare every rung with torch.nn."""

    output_dir: Path = Path(__file__).parent / "results"
    """Folder for attention.png and transformer_block.json."""
    seed: int = 0
    """Seed of the random weights and inputs."""
    embed_dim: int = 64
    """E, size of a position's vector; a multiple of num_heads."""
    num_heads: int = 4
    """H, heads side by side."""
    length: int = 10
    """T, positions in a sequence."""
    batch_size: int = 3
    """B, sequences at a time."""


class Rung(NamedTuple):
    """What one rung computed and what it is to equal; None where there is nothing to show."""

    name: str
    ours: Tensor
    weights: Tensor | None
    before: Tensor | None  # the output of the rung before
    theirs: Tensor
    reference: str

    def summary(self) -> dict[str, Any]:
        """Shapes, and the largest differences from the rung before and from torch.nn."""
        return {
            "rung": self.name,
            "output": tuple(self.ours.shape),
            "weights": None if self.weights is None else tuple(self.weights.shape),
            "to_before": None if self.before is None else (self.ours - self.before).abs().max().item(),
            "to_torch": (self.ours - self.theirs).abs().max().item(),
            "reference": self.reference,
        }


def attention_rungs(x: Tensor, num_heads: int) -> Iterator[Rung]:
    """Rungs 1 to 3 for x (B, T, E)."""
    single = SimpleSelfAttention(x.shape[-1])
    query, key, value = single.query(x), single.key(x), single.value(x)
    theirs = F.scaled_dot_product_attention(query, key, value)
    loops = torch.stack([attention_by_loops(*sequence)[0] for sequence in zip(query, key, value, strict=True)])
    yield Rung("1 loops over positions", loops, None, None, theirs, "F.scaled_dot_product_attention")
    product, weights = single(x)
    yield Rung("2 one matrix product", product, weights, loops, theirs, "F.scaled_dot_product_attention")
    layer = nn.MultiheadAttention(x.shape[-1], num_heads, batch_first=True)
    ours, theirs = MultiHeadAttention.from_torch(layer), layer(x, x, x)[0]
    loop, (at_once, weights) = multi_head_by_loop(ours, x), ours(x)
    yield Rung("3 loop over heads", loop, None, None, theirs, "nn.MultiheadAttention")
    yield Rung("  heads as a dimension", at_once, weights, loop, theirs, "nn.MultiheadAttention")


def block_rungs(x: Tensor, num_heads: int) -> Iterator[Rung]:
    """Rung 4, the encoder block in both orders, for x (B, T, E); the second one under a causal mask."""
    sizes, mask = (x.shape[-1], num_heads, 4 * x.shape[-1]), causal_mask(x.shape[1])
    layer = nn.TransformerEncoderLayer(*sizes, batch_first=True).eval()
    ours = TransformerBlock.from_torch(layer)(x)
    yield Rung("4 block, post-norm", ours, None, None, layer(x), "nn.TransformerEncoderLayer")
    layer = nn.TransformerEncoderLayer(*sizes, activation="gelu", batch_first=True, norm_first=True).eval()
    ours, theirs = TransformerBlock.from_torch(layer)(x, mask), layer(x, src_mask=~mask)  # theirs: True is forbidden
    yield Rung("  pre-norm, causal", ours, None, None, theirs, "nn.TransformerEncoderLayer")


def show(row: dict[str, Any]) -> str:
    """One printed line of the ladder."""
    to_before, to_torch = (
        f"{value:.1e}" if value is not None else "-" for value in (row["to_before"], row["to_torch"])
    )
    shapes = f"{row['output']!s:<12} {row['weights'] or '-'!s:<14}"
    return f"{row['rung']:<23} {shapes} {to_before:>8} {to_torch:>8}  {row['reference']}"


SENTENCE = ["the", "queen", "met", "the", "king", "and", "he", "thanked", "her"]
KINDS = {"queen": 0, "king": 1, "he": 2, "her": 3, "met": 4, "thanked": 4, "the": 5, "and": 6}  # a word is its kind
LOOKS_FOR = {0: [4], 1: [4], 2: [1], 3: [0], 4: [0, 1, 2, 3], 5: [0, 1], 6: [0, 1]}  # pronouns for nouns, and so on


def royal_attention(strength: float = 9.0) -> tuple[SimpleSelfAttention, Tensor]:
    """A layer set by hand for SENTENCE, and its words (1, T, E): keys say what a word is, queries what it looks for."""
    kinds = torch.eye(len(LOOKS_FOR))
    layer = SimpleSelfAttention(len(LOOKS_FOR))
    for linear in (layer.query, layer.key, layer.value):
        linear.load_state_dict({"weight": kinds, "bias": torch.zeros(len(kinds))})
    for kind, wanted in LOOKS_FOR.items():
        layer.query.weight.data[:, kind] = strength * kinds[wanted].sum(dim=0)
    return layer, kinds[[KINDS[word] for word in SENTENCE]].unsqueeze(0)  # (T, E) -> (1, T, E)


def draw_attention(path: Path) -> None:
    """Two heat-maps side by side: who looks at whom with no mask and with a causal one, forbidden cells in grey."""
    from lab.plots import heat_map, new_figure, save_figure

    layer, words = royal_attention()
    causal = causal_mask(len(SENTENCE))
    figure, panels = new_figure(11.5, 5.6, columns=2)
    titles = ("no mask: every word sees the whole sentence", "causal mask: only itself and what came before")
    for axes, title, mask in zip(panels, titles, (torch.ones_like(causal), causal), strict=True):
        heat_map(axes, layer(words, mask)[1][0].masked_fill(~mask, math.nan), SENTENCE, SENTENCE)
        axes.set(
            title=title, xlabel="key: the word looked at", ylabel="query: the word that looks", facecolor="#d8d8d8"
        )
        for number, allowed in zip(axes.texts, mask.flatten(), strict=True):
            number.set_visible(bool(allowed))
    save_figure(figure, path)


def main(config: Config) -> None:
    """Print the ladder, draw the picture, write the record."""
    from lab.record import RunRecord
    from lab.seeding import seed_everything

    _at_least_one(length=config.length, batch_size=config.batch_size)
    record = RunRecord(__file__, config.output_dir, config)
    seed_everything(config.seed)
    print(f"{'rung':<23} {'output':<12} {'weights':<14} {'before':>8} {'torch':>8}  largest difference from")
    with torch.no_grad():
        x = torch.randn(config.batch_size, config.length, config.embed_dim)  # (B, T, E)
        rungs = [rung.summary() for climb in (attention_rungs, block_rungs) for rung in climb(x, config.num_heads)]
        draw_attention(record.file("attention.png"))
    print("\n".join(show(rung) for rung in rungs))
    record.results["ladder"] = rungs
    worst = max(rung["to_torch"] for rung in rungs)
    record.check("largest difference from torch.nn", worst, expected="at most 1e-5", ok=worst <= 1e-5)
    record.save()


if __name__ == "__main__":
    from lab.launch import launch

    launch(Config, main)
