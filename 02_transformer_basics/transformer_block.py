"""Self-attention and the transformer's encoder block, from the formula to equality with `torch.nn`.
Run this file to climb the ladder: each rung prints how far it is from the rung before and from PyTorch.

Shapes: B batch, T time (positions), H heads, D head size, E embedding = H * D, F feed-forward size.
In `attention` the queries may be fewer than the keys, as with a cache: Tq queries, Tk keys.

Masks are boolean, True where attention is ALLOWED (`torch.nn` has it the other way round), and broadcast to
(B, H, Tq, Tk) by the usual rules, from the right: (Tq, Tk) from `causal_mask`, (B, 1, 1, Tk) from `padding_mask`,
(B, 1, Tq, Tk) one a sequence (without the 1 it is taken for one a head), (H, Tq, Tk) one a head. Combine with `&`.
A query that may attend to nothing gets weights and output of zero (before the output projection), never NaN.

Sources: Vaswani et al. 2017, "Attention Is All You Need" (equations and sections below are theirs); pre-norm: Xiong et
al. 2020, "On Layer Normalization in the Transformer Architecture"; GELU: Hendrycks and Gimpel 2016.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.errors import UserError
from speed.activations import ACTIVATIONS
from speed.causal_attention import LONGEST, blocked_causal_attention

CAUSAL = "causal"  # as a mask: `causal_mask(T)`, which the fused kernel need not read, and half of the work
Mask = Tensor | str | None  # boolean, as listed above, or CAUSAL
Answer = tuple[Tensor, Tensor | None]  # output, and weights where they are asked for
Cache = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # takes keys and values of new positions, gives those of all


def causal_mask(length: int, device: torch.device | str | None = None) -> Tensor:
    """(T, T), True on and below the diagonal: no position sees a later one (section 3.2.3).
    With earlier keys in a cache, take the last rows: `causal_mask(total)[-new:]`.
    """
    _at_least_one(length=length)
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def padding_mask(attention_mask: Tensor) -> Tensor:
    """A tokenizer's (B, T), 1 for tokens and 0 for padding, as (B, 1, 1, T): nobody attends to padding.
    Raises UserError for other shapes, and for other values, such as those of an additive mask.
    """
    if attention_mask.ndim != 2 or not ((attention_mask == 0) | (attention_mask == 1)).all():
        raise UserError("attention_mask must be (batch, time) and hold 1 for tokens and 0 for padding, nothing else")
    return attention_mask.bool()[:, None, None, :]  # (B, T) -> (B, 1, 1, T)


def check_mask(mask: Tensor, full: torch.Size) -> None:
    """Raise UserError unless `mask` is boolean and broadcasts to `full` = (B, H, Tq, Tk)."""
    if mask.dtype != torch.bool:
        raise UserError(f"mask must be boolean, True where attention is allowed, not {mask.dtype}; see padding_mask")
    sizes = zip(reversed(mask.shape), reversed(full), strict=False)
    if mask.ndim > 4 or any(size not in (1, wanted) for size, wanted in sizes):
        raise UserError(
            f"mask of shape {tuple(mask.shape)} does not broadcast to (batch, heads, queries, keys) = {tuple(full)}; "
            "for one mask a sequence use mask[:, None]"
        )


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask = None, dropout: nn.Module | None = None
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention (equation 1), for all positions, heads and sequences at once.
    query (B, H, Tq, D), key and value (B, H, Tk, D), mask as listed at the top -> output (B, H, Tq, D), weights
    (B, H, Tq, Tk) before dropout: each row sums to 1, or to 0 where the query may attend to nothing.
    Raises UserError for a mask of another type or shape.
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (B, H, Tq, Tk); eq. 1: Q K^T / sqrt(d_k)
    if isinstance(mask, str):
        mask = causal_mask(query.shape[2], query.device)
    if mask is None:
        weights = scores.softmax(dim=-1)  # eq. 1
    else:
        check_mask(mask, scores.shape)
        # The lowest finite number and not -inf: the softmax of a row of -inf alone is NaN, forwards and backwards.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        # Such a row is uniform after the softmax, so zero is put in by hand; in every other row it is zero already.
        weights = scores.softmax(dim=-1).masked_fill(~mask, 0.0)
    used = weights if dropout is None else dropout(weights)
    return used @ value, weights  # (B, H, Tq, Tk) @ (B, H, Tk, D) -> (B, H, Tq, D); eq. 1


def fused_attention(query: Tensor, key: Tensor, value: Tensor, mask: Mask, dropout: float = 0.0) -> Tensor:
    """The output of `attention` alone, which is faster: mostly by PyTorch's fused kernel, which stores no weights."""
    if isinstance(mask, str):
        if query.requires_grad and query.device.type == "cpu" and query.shape[2] <= LONGEST and not dropout:
            return blocked_causal_attention(query, key, value)
        return F.scaled_dot_product_attention(query, key, value, None, dropout, is_causal=True)  # (B, H, T, D); eq. 1
    output = F.scaled_dot_product_attention(query, key, value, mask, dropout)  # (B, H, Tq, D); eq. 1
    if mask is not None:  # where a query may attend to nothing, some devices leave NaN
        check_mask(mask, torch.Size((*query.shape[:3], key.shape[2])))
        output = output.masked_fill(~mask.any(dim=-1, keepdim=True), 0.0)
    return output


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

    def forward(self, x: Tensor, mask: Mask = None) -> tuple[Tensor, Tensor]:
        _check_input(x, self.query.in_features)
        query, key, value = (linear(x).unsqueeze(1) for linear in (self.query, self.key, self.value))  # (B, 1, T, E)
        output, weights = attention(query, key, value, mask)
        return output.squeeze(1), weights.squeeze(1)  # (B, T, E), (B, T, T)


class MultiHeadAttention(nn.Module):
    """H heads side by side, each with E / H of the embedding, and a linear map of what they found (section 3.2.2).

    `forward(x, mask=None)`: x (B, T, E) -> output (B, T, E), weights (B, H, T, T) before dropout.
    With a cache x follows earlier positions. `need_weights=False`: the same output from the fused kernel, weights None.
    Raises UserError for sizes that do not fit, dropout outside 0 to 1, x of another shape, and masks as in `attention`.
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
        _check_input(x, self.query.weight.shape[1])
        maps = (self.query, self.key, self.value)
        if self.training:  # one product beats three where it is large enough to pay for joining W^Q, W^K and W^V
            bias = None if self.query.bias is None else torch.cat([each.bias for each in maps])  # (3E,)
            together = F.linear(x, torch.cat([each.weight for each in maps]), bias)  # (B, T, E) -> (B, T, 3E)
            projected = together.chunk(3, dim=-1)  # (B, T, 3E) -> three of (B, T, E)
        else:
            projected = [each(x) for each in maps]
        separate = (each.unflatten(-1, (self.num_heads, -1)) for each in projected)  # (B, T, E) -> (B, T, H, D)
        query, key, value = (each.transpose(1, 2) for each in separate)  # (B, T, H, D) -> (B, H, T, D)
        return query, key, value

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask = None, need_weights: bool = True) -> Answer:
        """query (B, H, Tq, D), key and value (B, H, Tk, D) -> output (B, Tq, E), weights (B, H, Tq, Tk)."""
        if need_weights:
            heads, weights = attention(query, key, value, mask, self.dropout)
        else:
            rate = self.dropout.p if self.training else 0.0
            heads, weights = fused_attention(query, key, value, mask, rate), None
        concatenated = heads.transpose(1, 2).flatten(2)  # (B, H, Tq, D) -> (B, Tq, H, D) -> (B, Tq, E)
        return self.output(concatenated), weights  # section 3.2.2: Concat(head_1, ..., head_h) W^O

    def forward(self, x: Tensor, mask: Mask = None, cache: Cache | None = None, need_weights: bool = True) -> Answer:
        query, key, value = self.project(x)
        if cache is not None:
            key, value = cache(key, value)  # (B, H, T, D) -> (B, H, Tk, D)
        return self.attend(query, key, value, mask, need_weights)

    @classmethod
    def from_torch(cls, theirs: nn.MultiheadAttention) -> "MultiHeadAttention":
        """A copy that computes the same from (B, T, E), whichever way `batch_first` is set there.
        Raises UserError for subclasses, keys or values of a size of their own, `add_bias_kv` and `add_zero_attn`.
        """
        plain = type(theirs) is nn.MultiheadAttention and theirs.in_proj_weight is not None
        if not plain or theirs.bias_k is not None or theirs.add_zero_attn:
            raise UserError("nn.MultiheadAttention with kdim, vdim, add_bias_kv or add_zero_attn cannot be copied")
        weights, biases = theirs.in_proj_weight, theirs.in_proj_bias  # (3E, E), (3E,): query, key, value stacked
        ours = cls(theirs.embed_dim, theirs.num_heads, theirs.dropout, bias=biases is not None).to(weights)
        state = {f"output.{name}": tensor for name, tensor in theirs.out_proj.state_dict().items()}
        for stacked, kind in ((weights, "weight"), (biases, "bias")):
            parts = () if stacked is None else stacked.chunk(3)  # (3E, E) -> (E, E); (3E,) -> (E,)
            state |= {f"{name}.{kind}": part for name, part in zip(("query", "key", "value"), parts, strict=False)}
        ours.load_state_dict(state)
        return ours.train(theirs.training)


class TransformerBlock(nn.Module):
    """The encoder block: attention, then a feed-forward network, a residual connection and a norm around each.

    `forward(x, mask=None)`: x (B, T, E) -> (B, T, E).
    Args:
        embed_dim, num_heads, ff_dim: E, H and F.
        dropout: on the attention weights, inside the feed-forward network, and on what both add to x (section 5.4).
        activation: "relu" (the paper), "gelu" (exact) or "gelu_tanh" (GPT-2's approximation).
        norm_first: False is LayerNorm(x + f(x)), as in the paper; True is x + f(LayerNorm(x)). eps: of both norms.
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
    ) -> None:
        super().__init__()
        _at_least_one(ff_dim=ff_dim)
        if activation not in ACTIVATIONS:
            raise UserError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
        self.activation, self.norm_first = activation, norm_first
        self.attention = MultiHeadAttention(embed_dim, num_heads, dropout)
        self.ff_in, self.ff_out = nn.Linear(embed_dim, ff_dim), nn.Linear(ff_dim, embed_dim)
        self.norm1, self.norm2 = nn.LayerNorm(embed_dim, eps=eps), nn.LayerNorm(embed_dim, eps=eps)
        self.dropout, self.hidden_dropout = nn.Dropout(dropout), nn.Dropout(dropout)

    def feed_forward(self, x: Tensor) -> Tensor:
        """x (B, T, E) -> (B, T, E), every position on its own (section 3.3)."""
        hidden = ACTIVATIONS[self.activation](self.ff_in(x))  # (B, T, E) -> (B, T, F); eq. 2: max(0, x W_1 + b_1)
        return self.ff_out(self.hidden_dropout(hidden))  # (B, T, F) -> (B, T, E); eq. 2: ... W_2 + b_2

    def forward(self, x: Tensor, mask: Mask = None) -> Tensor:
        return self.run(x, mask)[0]

    def run(self, x: Tensor, mask: Mask = None, cache: Cache | None = None, need_weights: bool = True) -> Answer:
        """`forward` with what a whole model may ask for: a cache, and the attention weights (B, H, T, Tk) as well."""
        attended, weights = self.attention(self.norm1(x) if self.norm_first else x, mask, cache, need_weights)
        x = x + self.dropout(attended)
        if self.norm_first:  # Xiong et al. 2020: the sum of residuals runs through the whole model untouched
            return x + self.dropout(self.feed_forward(self.norm2(x))), weights
        x = self.norm1(x)  # section 3.1: LayerNorm(x + Sublayer(x))
        return self.norm2(x + self.dropout(self.feed_forward(x))), weights

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
        block = cls(*sizes, layer.dropout.p, _activation_name(layer.activation), layer.norm_first)
        block.attention = MultiHeadAttention.from_torch(layer.self_attn)
        block.ff_in, block.ff_out = copy.deepcopy(layer.linear1), copy.deepcopy(layer.linear2)
        block.norm1, block.norm2 = copy.deepcopy(layer.norm1), copy.deepcopy(layer.norm2)  # with eps and bias or none
        return block.train(layer.training)


def _activation_name(function: object) -> str:
    if function in (F.relu, torch.relu) or isinstance(function, nn.ReLU):
        return "relu"
    if function is F.gelu or isinstance(function, nn.GELU):
        return "gelu_tanh" if getattr(function, "approximate", "none") == "tanh" else "gelu"
    raise UserError(f"activation {function!r} cannot be copied: only ReLU and GELU of torch.nn can")


def _at_least_one(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name} must be at least 1, not {size}")


def _check_input(x: Tensor, embed_dim: int) -> None:
    if x.ndim != 3 or x.shape[-1] != embed_dim:
        raise UserError(f"x must be (batch, time, {embed_dim}), not {tuple(x.shape)}")


# -------------------------------------------------------------------------------------- demonstration: the ladder


def attention_by_loops(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Equation 1 for one sequence and one head, position by position: (T, D) each -> (T, D), weights (T, T)."""
    outputs, rows = [], []
    for q in query:  # (D,)
        scores = torch.stack([(q * k).sum() / math.sqrt(len(q)) for k in key])  # (T,)
        exponentials = (scores - scores.max()).exp()  # the highest becomes exp(0) = 1: nothing overflows
        rows.append(exponentials / exponentials.sum())
        outputs.append(torch.stack([weight * v for weight, v in zip(rows[-1], value, strict=True)]).sum(0))  # (D,)
    return torch.stack(outputs), torch.stack(rows)  # (T, D), (T, T)


def multi_head_by_loop(layer: MultiHeadAttention, x: Tensor) -> Tensor:
    """One head after the other, each on its own slice of the embedding: x (B, T, E) -> (B, T, E)."""
    slices = [linear(x).unsqueeze(1).chunk(layer.num_heads, -1) for linear in (layer.query, layer.key, layer.value)]
    heads = [attention(*query_key_value)[0] for query_key_value in zip(*slices, strict=True)]  # H times (B, 1, T, D)
    return layer.output(torch.cat(heads, dim=-1).squeeze(1))  # H times (B, 1, T, D) -> (B, T, E)


def ladder(x: Tensor, num_heads: int) -> Iterator[tuple[str, Tensor, Tensor | None, str, Tensor]]:
    """All rungs for x (B, T, E) and random weights: name, output, output of the rung before, reference, its output."""
    name, single = "F.scaled_dot_product_attention", SimpleSelfAttention(x.shape[-1])
    qkv = single.query(x), single.key(x), single.value(x)
    theirs = F.scaled_dot_product_attention(*qkv)
    loops = torch.stack([attention_by_loops(*sequence)[0] for sequence in zip(*qkv, strict=True)])
    yield "1 loops over positions", loops, None, name, theirs
    yield "2 one matrix product", single(x)[0], loops, name, theirs
    name, torch_heads = "nn.MultiheadAttention", nn.MultiheadAttention(x.shape[-1], num_heads, batch_first=True)
    heads, theirs = MultiHeadAttention.from_torch(torch_heads), torch_heads(x, x, x)[0]
    loop = multi_head_by_loop(heads, x)
    yield "3 loop over heads", loop, None, name, theirs
    yield "  heads as a dimension", heads(x)[0], loop, name, theirs
    name, mask = "nn.TransformerEncoderLayer", causal_mask(x.shape[1])
    for label, norm_first in (("4 block, post-norm", False), ("  block, pre-norm", True)):
        layer = nn.TransformerEncoderLayer(x.shape[-1], num_heads, batch_first=True, norm_first=norm_first).eval()
        theirs = layer(x, src_mask=~mask)  # there, True is forbidden
        yield label, TransformerBlock.from_torch(layer)(x, mask), None, name, theirs


@dataclass
class Config:
    """Climb the ladder from loops to the encoder block and compare every rung with torch.nn."""

    output_dir: Path = Path(__file__).parent / "results"  # Folder for attention.png and transformer_block.json.
    seed: int = 0  # Seed of the random weights and inputs.
    embed_dim: int = 64  # E, size of a position's vector; a multiple of num_heads.
    num_heads: int = 4  # H, heads side by side.
    length: int = 10  # T, positions in a sequence.
    batch_size: int = 3  # B, sequences at a time.


@torch.no_grad()
def main(config: Config) -> None:
    """Print the ladder, draw the picture, write the record."""
    from lab.record import RunRecord
    from lab.seeding import seed_everything
    from models.attention_plots import draw_attention

    _at_least_one(length=config.length, batch_size=config.batch_size)
    MultiHeadAttention(config.embed_dim, config.num_heads)  # refuses sizes that do not fit, before anything is written
    record, rows = RunRecord(__file__, config.output_dir, config), []
    seed_everything(config.seed)
    print(f"{'rung':<23} {'output':<12}  largest difference from the rung before and from torch.nn")
    x = torch.randn(config.batch_size, config.length, config.embed_dim)  # (B, T, E)
    for rung, ours, before, reference, theirs in ladder(x, config.num_heads):
        to_before, to_torch = ("-" if it is None else f"{(ours - it).abs().max():.1e}" for it in (before, theirs))
        print(f"{rung:<23} {tuple(ours.shape)!s:<12}  {to_before:>7}  {to_torch:>7} {reference}")
        rows.append({"rung": rung.strip(), "to_before": to_before, "to_torch": to_torch, "reference": reference})
    draw_attention(record.file("attention.png"))
    record.results["ladder"], worst = rows, max(float(row["to_torch"]) for row in rows)
    record.check("largest difference from torch.nn", worst, expected="at most 1e-5", ok=worst <= 1e-5)
    record.save()


if __name__ == "__main__":
    from lab.launch import launch

    launch(Config, main)
