"""Self-attention and the transformer's encoder block, from the formula to equality with `torch.nn`.

Shapes: B batch, T time (positions), H heads, D head size, E embedding = H * D, F feed-forward size.
With a cache there are fewer queries than keys: Tq queries, Tk keys.

Masks are boolean, True where attention is ALLOWED (the opposite of `torch.nn`'s layers), and
broadcast to (B, H, Tq, Tk) from the right: (Tq, Tk) from `causal_mask`, (B, 1, 1, Tk) from
`padding_mask`, (B, 1, Tq, Tk) one per sequence, (H, Tq, Tk) one per head. Combine them with `&`.
A query that may attend to nothing gets weights and output of zero (before the output projection).

Sources: Vaswani et al. 2017, "Attention Is All You Need" (equations and sections below); Xiong et
al. 2020, arXiv 2002.04745 (pre-norm); Hendrycks and Gimpel 2016, arXiv 1606.08415 (GELU).
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load
import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.errors import UserError, check_at_least_one, check_sequences

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,  # the paper
    "gelu": F.gelu,  # exact, with the error function: BERT and DistilBERT
    "gelu_tanh": partial(F.gelu, approximate="tanh"),  # GPT-2's approximation
}
Mask = Tensor | None  # boolean, as above
Cache = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None  # new keys, values -> all so far


def causal_mask(queries: int, keys: int | None = None, device: torch.types.Device = None) -> Tensor:
    """Return the mask (Tq, Tk) in which no position attends to a later one (section 3.2.3).
    The queries are the last of the keys, as with a cache; by default there are as many keys.
    """
    keys = queries if keys is None else keys
    if not 1 <= queries <= keys:
        raise UserError(f"a causal mask needs 1 <= queries <= keys, not {queries} and {keys}")
    allowed = torch.ones(queries, keys, dtype=torch.bool, device=device)  # (Tq, Tk)
    return allowed.tril(diagonal=keys - queries)


def padding_mask(attention_mask: Tensor) -> Tensor:
    """Return a tokenizer's mask (B, T), 1 for tokens and 0 for padding, as (B, 1, 1, T).
    Raises UserError for other shapes and other values, such as those of an additive mask.
    """
    if attention_mask.ndim != 2 or not ((attention_mask == 0) | (attention_mask == 1)).all():
        raise UserError("attention_mask must be (batch, time), 1 for tokens and 0 for padding")
    return attention_mask.bool()[:, None, None, :]  # (B, T) -> (B, 1, 1, T)


def check_mask(mask: Tensor, full: torch.Size) -> None:
    """Raise UserError unless `mask` is boolean and broadcasts to `full` = (B, H, Tq, Tk)."""
    if mask.dtype != torch.bool:
        raise UserError(f"mask must be boolean, True where attention is allowed, not {mask.dtype}")
    sizes = zip(reversed(mask.shape), reversed(full), strict=False)
    if mask.ndim > 4 or any(size not in (1, full_size) for size, full_size in sizes):
        shapes = f"{tuple(mask.shape)} does not broadcast to (B, H, Tq, Tk) = {tuple(full)}"
        raise UserError(f"mask {shapes}; for one mask per sequence use mask[:, None]")


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask = None, dropout: nn.Module | None = None
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention (equation 1) for all positions, heads and sequences at once.
    query (B, H, Tq, D), key and value (B, H, Tk, D), mask as above -> output (B, H, Tq, D) and
    weights (B, H, Tq, Tk) before dropout, whose rows sum to 1, or to 0 where nothing is allowed.
    Raises UserError for a mask of another type or shape.
    """
    scores = query @ key.transpose(-2, -1)  # (B, H, Tq, D) @ (B, H, D, Tk) -> (B, H, Tq, Tk)
    scores = scores / math.sqrt(query.shape[-1])  # eq. 1: Q K^T / sqrt(d_k)
    if mask is None:
        weights = scores.softmax(dim=-1)  # eq. 1
    else:
        check_mask(mask, scores.shape)
        # The lowest finite number, not -inf: the softmax of a row of -inf is NaN, and so is its
        # gradient. Such a row becomes uniform, so its weights are set to zero afterwards.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1).masked_fill(~mask, 0.0)
    dropped = weights if dropout is None else dropout(weights)
    output = dropped @ value  # (B, H, Tq, Tk) @ (B, H, Tk, D) -> (B, H, Tq, D); eq. 1
    return output, weights


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Return x (B, T, E) as (B, H, T, D): head h gets the columns from h * D to (h + 1) * D."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # -> (B, T, H, D) -> (B, H, T, D)


def merge_heads(x: Tensor) -> Tensor:
    """Return x (B, H, T, D) as (B, T, E): the inverse of `split_heads`."""
    return x.transpose(1, 2).flatten(2)  # (B, H, T, D) -> (B, T, H, D) -> (B, T, E)


class SimpleSelfAttention(nn.Module):
    """Self-attention with one head: every position averages the values whose keys match its query.
    `forward(x, mask=None)`: x (B, T, E) -> output (B, T, E), weights (B, T, T), where
    weights[b, i, j] says how much position i takes from position j.
    Raises UserError for sizes below 1, x of another shape, and masks as in `attention` (H is 1).
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        check_at_least_one(embed_dim=embed_dim)
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key = nn.Linear(embed_dim, embed_dim)
        self.value = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor, mask: Mask = None) -> tuple[Tensor, Tensor]:
        check_sequences(x, self.query.in_features)
        query, key, value = self.query(x), self.key(x), self.value(x)  # (B, T, E) each
        one_head = query[:, None], key[:, None], value[:, None]  # (B, T, E) -> (B, 1, T, E)
        output, weights = attention(*one_head, mask)
        return output.squeeze(1), weights.squeeze(1)  # (B, T, E), (B, T, T)


class MultiHeadAttention(nn.Module):
    """H heads in parallel, each with E / H of the embedding, then a projection (section 3.2.2).
    `forward(x, mask=None, cache=None)`: x (B, T, E) -> output (B, T, E), weights (B, H, T, Tk)
    before dropout. With a cache, x holds the positions that follow the cached ones.
    Raises UserError for sizes that do not fit, dropout outside 0 to 1, and as `attention` does.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True
    ) -> None:
        super().__init__()
        check_at_least_one(embed_dim=embed_dim, num_heads=num_heads)
        if embed_dim % num_heads:
            raise UserError(f"embed_dim {embed_dim} must be a multiple of num_heads {num_heads}")
        if not 0.0 <= dropout <= 1.0:
            raise UserError(f"dropout must be between 0 and 1, not {dropout}")
        self.num_heads = num_heads
        self.query = nn.Linear(embed_dim, embed_dim, bias=bias)  # W^Q of all heads, stacked
        self.key = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.value = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.output = nn.Linear(embed_dim, embed_dim, bias=bias)  # W^O
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Mask = None, cache: Cache = None) -> tuple[Tensor, Tensor]:
        check_sequences(x, self.query.in_features)
        query = split_heads(self.query(x), self.num_heads)  # (B, T, E) -> (B, H, T, D)
        key = split_heads(self.key(x), self.num_heads)  # (B, T, E) -> (B, H, T, D)
        value = split_heads(self.value(x), self.num_heads)  # (B, T, E) -> (B, H, T, D)
        if cache is not None:
            key, value = cache(key, value)  # (B, H, T, D) -> (B, H, Tk, D)
        heads, weights = attention(query, key, value, mask, self.dropout)
        concatenated = merge_heads(heads)  # (B, H, T, D) -> (B, T, E)
        return self.output(concatenated), weights  # Concat(head_1, ..., head_h) W^O

    @classmethod
    def from_torch(cls, theirs: nn.MultiheadAttention) -> "MultiHeadAttention":
        """Return a copy that takes (B, T, E), whatever `batch_first` is in the original.
        Raises UserError for subclasses, kdim or vdim, `add_bias_kv` and `add_zero_attn`.
        """
        plain = type(theirs) is nn.MultiheadAttention and theirs.in_proj_weight is not None
        if not plain or theirs.bias_k is not None or theirs.add_zero_attn:
            raise UserError("nn.MultiheadAttention with kdim, add_bias_kv or add_zero_attn")
        biased = theirs.in_proj_bias is not None
        ours = cls(theirs.embed_dim, theirs.num_heads, theirs.dropout, biased)
        ours.output = copy.deepcopy(theirs.out_proj)
        for number, layer in enumerate((ours.query, ours.key, ours.value)):
            layer.weight = nn.Parameter(theirs.in_proj_weight.detach().chunk(3)[number].clone())
            if biased:
                layer.bias = nn.Parameter(theirs.in_proj_bias.detach().chunk(3)[number].clone())
        return ours.train(theirs.training)


class TransformerBlock(nn.Module):
    """The encoder block: attention, then a feed-forward network, each with a residual and a norm.
    `forward(x, mask=None, cache=None)`: x (B, T, E) -> (B, T, E).
    embed_dim, num_heads, ff_dim: E, H and F. activation: a name in ACTIVATIONS.
    dropout: of the attention weights, in the feed-forward network, and of both residual branches
    (section 5.4). norm_first: LayerNorm(x + f(x)) or x + f(LayerNorm(x)). eps: of both norms.
    Raises UserError as `MultiHeadAttention` does, and for an unknown activation.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, ff_dim: int, dropout: float = 0.1,
        activation: str = "gelu", norm_first: bool = False, eps: float = 1e-5,
    ) -> None:  # fmt: skip
        super().__init__()
        check_at_least_one(ff_dim=ff_dim)
        if activation not in ACTIVATIONS:
            raise UserError(f"activation must be one of {', '.join(ACTIVATIONS)}: {activation!r}")
        self.activation, self.norm_first = activation, norm_first
        self.attention = MultiHeadAttention(embed_dim, num_heads, dropout)
        self.ff_in = nn.Linear(embed_dim, ff_dim)
        self.ff_out = nn.Linear(ff_dim, embed_dim)
        self.norm1 = nn.LayerNorm(embed_dim, eps=eps)
        self.norm2 = nn.LayerNorm(embed_dim, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.hidden_dropout = nn.Dropout(dropout)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Return the feed-forward network of x (B, T, E), position by position (section 3.3)."""
        hidden = ACTIVATIONS[self.activation](self.ff_in(x))  # (B, T, E) -> (B, T, F); eq. 2
        return self.ff_out(self.hidden_dropout(hidden))  # (B, T, F) -> (B, T, E); eq. 2

    def forward(self, x: Tensor, mask: Mask = None, cache: Cache = None) -> Tensor:
        if self.norm_first:  # Xiong et al. 2020: x itself is only ever added to
            attended, _ = self.attention(self.norm1(x), mask, cache)
            x = x + self.dropout(attended)
            return x + self.dropout(self.feed_forward(self.norm2(x)))
        attended, _ = self.attention(x, mask, cache)
        x = self.norm1(x + self.dropout(attended))  # section 3.1: LayerNorm(x + Sublayer(x))
        return self.norm2(x + self.dropout(self.feed_forward(x)))

    @classmethod
    def from_torch(cls, layer: nn.TransformerEncoderLayer) -> "TransformerBlock":
        """Return a copy that takes (B, T, E). Raises UserError for subclasses, activations but ReLU
        and GELU, several dropout rates (the attention's own may differ), and as for heads.
        """
        if type(layer) is not nn.TransformerEncoderLayer:
            raise UserError(f"only nn.TransformerEncoderLayer, not {type(layer).__name__}")
        if not layer.dropout.p == layer.dropout1.p == layer.dropout2.p:
            raise UserError("nn.TransformerEncoderLayer with several dropout rates")
        heads = MultiHeadAttention.from_torch(layer.self_attn)
        sizes = heads.query.in_features, heads.num_heads, layer.linear1.out_features
        block = cls(*sizes, layer.dropout.p, _activation_name(layer.activation), layer.norm_first)
        block.attention = heads
        block.ff_in = copy.deepcopy(layer.linear1)
        block.ff_out = copy.deepcopy(layer.linear2)
        block.norm1 = copy.deepcopy(layer.norm1)  # with its eps, and with its bias or without
        block.norm2 = copy.deepcopy(layer.norm2)
        return block.train(layer.training)


def _activation_name(function: object) -> str:
    if function in (F.relu, torch.relu) or isinstance(function, nn.ReLU):
        return "relu"
    if function is F.gelu or isinstance(function, nn.GELU):
        return "gelu_tanh" if getattr(function, "approximate", "none") == "tanh" else "gelu"
    raise UserError(f"activation {function!r} is not ReLU or GELU")


def attention_by_loops(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return equation 1 for one sequence and one head, by loops: (T, D) each -> (T, D), (T, T)."""
    outputs, rows = [], []
    for q in query:  # (D,)
        scores = torch.stack([(q * k).sum() / math.sqrt(len(q)) for k in key])  # (T,)
        exponentials = (scores - scores.max()).exp()  # the highest becomes exp(0) = 1: no overflow
        weights = exponentials / exponentials.sum()  # (T,), sums to 1
        outputs.append((weights[:, None] * value).sum(dim=0))  # (T, 1) * (T, D) -> (D,)
        rows.append(weights)
    return torch.stack(outputs), torch.stack(rows)  # (T, D), (T, T)


def multi_head_by_loop(layer: MultiHeadAttention, x: Tensor) -> Tensor:
    """Return the output of `layer` for x (B, T, E), one head after the other."""
    projections = [layer.query(x), layer.key(x), layer.value(x)]  # (B, T, E) each
    slices = [each.unsqueeze(1).chunk(layer.num_heads, dim=-1) for each in projections]
    heads = [attention(q, k, v)[0] for q, k, v in zip(*slices, strict=True)]  # H times (B, 1, T, D)
    return layer.output(torch.cat(heads, dim=-1).squeeze(1))  # H times (B, 1, T, D) -> (B, T, E)


def ladder(x: Tensor, num_heads: int) -> Iterator[tuple[str, Tensor, Tensor | None, str, Tensor]]:
    """Yield the rungs for x (B, T, E) and random weights, as `lab.ladder.show` takes them."""
    embed_dim = x.shape[-1]
    single = SimpleSelfAttention(embed_dim)
    qkv = single.query(x), single.key(x), single.value(x)  # (B, T, E) each
    expected = F.scaled_dot_product_attention(*qkv)
    loops = torch.stack([attention_by_loops(*each)[0] for each in zip(*qkv, strict=True)])
    yield "1 loops over positions", loops, None, "F.scaled_dot_product_attention", expected
    yield "2 one matrix product", single(x)[0], loops, "F.scaled_dot_product_attention", expected
    theirs = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
    expected, _ = theirs(x, x, x)
    ours = MultiHeadAttention.from_torch(theirs)
    loop = multi_head_by_loop(ours, x)
    yield "3 loop over heads", loop, None, "nn.MultiheadAttention", expected
    yield "  heads as a dimension", ours(x)[0], loop, "nn.MultiheadAttention", expected
    mask = causal_mask(x.shape[1])
    for label, pre in (("4 block, post-norm", False), ("  block, pre-norm", True)):
        layer = nn.TransformerEncoderLayer(embed_dim, num_heads, batch_first=True, norm_first=pre)
        expected = layer.eval()(x, src_mask=~mask)  # there, True is forbidden
        output = TransformerBlock.from_torch(layer)(x, mask)
        yield label, output, None, "nn.TransformerEncoderLayer", expected


@dataclass
class Config:
    """Climb the ladder from loops to the encoder block and compare every rung with torch.nn."""

    output_dir: Path = Path(__file__).parent / "results"  # Folder for the plot and the record.
    seed: int = 0  # Seed of the random weights and inputs.
    embed_dim: int = 64  # E, size of the embeddings; a multiple of num_heads.
    num_heads: int = 4  # H, attention heads.
    length: int = 10  # T, positions per sequence.
    batch_size: int = 3  # B, sequences per batch.


@torch.no_grad()
def main(config: Config) -> None:
    """Print the ladder, draw the attention weights of an example, write the record."""
    from lab.attention_plots import draw_example
    from lab.ladder import show
    from lab.record import RunRecord
    from lab.seeding import seed_everything

    check_at_least_one(length=config.length, batch_size=config.batch_size)
    MultiHeadAttention(config.embed_dim, config.num_heads)  # refuses bad sizes before writing
    record = RunRecord(__file__, config.output_dir, config)
    seed_everything(config.seed)
    x = torch.randn(config.batch_size, config.length, config.embed_dim)  # (B, T, E)
    show(ladder(x, config.num_heads), "torch.nn", record)
    draw_example(record.file("attention.png"), attention)
    record.save()


if __name__ == "__main__":
    from lab.launch import launch

    launch(Config, main)
