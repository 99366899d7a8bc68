"""Where a learner's own functions go in transformers: `python text_generation.py --with ../my_exercises/attention.py`.

Shapes: B batch, T time (positions), H heads, D head size, E embedding, V vocabulary.
With a cache there are fewer queries than keys: Tq queries, Tk keys.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lab.exercises.own import Functions, Place, Takes
from lab.exercises.own_results import like, pair, shaped, shown

# --- transformer_block.py ---------------------------------------------------------------------------------------------


def attention_of_block(own: Functions, lab: Callable[..., Any]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return `attention` with a learner's `attention` where there is no mask, and `masked_attention` where there is.

    Where only `masked_attention` is given it does both, with a mask that allows everything.
    """

    def attention(
        query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: nn.Module | None = None
    ) -> tuple[Tensor, Tensor]:
        if mask is None and "attention" in own:
            output, weights = own["attention"](query, key, value)
        elif "masked_attention" in own:
            if mask is None:
                mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device)  # (Tq, Tk)
            output, weights = own["masked_attention"](query, key, value, mask)
        else:
            return lab(query, key, value, mask, dropout)
        if dropout is not None and dropout.training:
            output = dropout(weights) @ value  # (B, H, Tq, Tk) @ (B, H, Tk, D) -> (B, H, Tq, D)
        return output, weights

    return attention


def mask_of_block(own: Functions, lab: Any) -> Callable[..., Tensor]:
    """Return `causal_mask` with a learner's function of two numbers."""

    def causal_mask(queries: int, keys: int | None = None, device: Any = None) -> Tensor:
        return own["causal_mask"](queries, queries if keys is None else keys).to(device)

    return causal_mask


@contextmanager
def own_norms(own: Functions, *norms: nn.LayerNorm) -> Iterator[None]:
    """Let these norms compute a learner's `layer_norm` during the block, if there is one."""

    class LayerNorm(nn.LayerNorm):
        def forward(self, input: Tensor) -> Tensor:
            bias = torch.zeros_like(self.weight) if self.bias is None else self.bias  # (E,)
            return own["layer_norm"](input, self.weight, bias, self.eps)

    for norm in norms:
        norm.__class__ = LayerNorm if "layer_norm" in own else nn.LayerNorm
    try:
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.LayerNorm


def block(own: Functions, lab: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `TransformerBlock.forward` with a learner's `transformer_block` and `layer_norm`."""

    def forward(self: Any, x: Tensor, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        def attention(y: Tensor) -> Tensor:
            return self.dropout(self.attention(y, mask, cache)[0])

        def feed_forward(y: Tensor) -> Tensor:
            return self.dropout(self.feed_forward(y))

        with own_norms(own, self.norm1, self.norm2):
            if "transformer_block" not in own:
                return lab(self, x, mask, cache)
            return own["transformer_block"](x, attention, feed_forward, self.norm1, self.norm2, self.norm_first)

    return forward


def norm_outside_of_blocks(own: Functions, lab: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a method of a model with a learner's `layer_norm` as the model's norm outside of its blocks."""

    def method(self: Any, *arguments: Any, **named: Any) -> Tensor:
        with own_norms(own, self.norm):
            return lab(self, *arguments, **named)

    return method


def booleans(result: Any, arguments: Sequence[Any]) -> str:
    """Accept a boolean mask (Tq, Tk)."""
    if isinstance(result, Tensor) and result.dtype == torch.bool and tuple(result.shape) == tuple(arguments):
        return ""
    return f"returns {shown(result)}; it must be {tuple(arguments)} of bool"


OUTPUT_AND_WEIGHTS = pair(
    shaped(lambda given: (*given[0].shape[:-1], given[2].shape[-1]), lambda given: given[0].dtype),  # (..., Tq, Dv)
    shaped(lambda given: (*given[0].shape[:-1], given[1].shape[-2]), lambda given: given[0].dtype),  # (..., Tq, Tk)
)
SPLIT = shaped(
    lambda given: (given[0].shape[0], given[1], given[0].shape[1], given[0].shape[2] // given[1]),  # (B, H, T, D)
    lambda given: given[0].dtype,
)
MERGED = shaped(
    lambda given: (given[0].shape[0], given[0].shape[2], given[0].shape[1] * given[0].shape[3]),  # (B, T, E)
    lambda given: given[0].dtype,
)
BLOCK = (
    Place(
        "transformer_block.py:attention",
        {"attention": OUTPUT_AND_WEIGHTS, "masked_attention": OUTPUT_AND_WEIGHTS},
        attention_of_block,
    ),
    Place("transformer_block.py:causal_mask", {"causal_mask": booleans}, mask_of_block),
    Place("transformer_block.py:split_heads", {"split_heads": SPLIT}),
    Place("transformer_block.py:merge_heads", {"merge_heads": MERGED}),
    Place(
        "transformer_block.py:TransformerBlock.forward", {"transformer_block": like(0), "layer_norm": like(0)}, block
    ),
)

ENCODER = tuple(place for place in BLOCK if "causal_mask" not in place.checks)  # sees both sides

# --- models/gpt2.py and models/generation.py --------------------------------------------------------------------------


def embeddings(own: Functions, lab: Any) -> Callable[..., Tensor]:
    """Return `GPT2.embed` with a learner's `embed`: row by row where rows are padded on the left."""

    def embed(self: Any, input_ids: Tensor, attention_mask: Tensor | None, past: int) -> Tensor:
        tables = self.token_embeddings.weight, self.position_embeddings.weight  # (V, E), (P, E)
        if attention_mask is None:
            return self.dropout(own["embed"](input_ids, *tables, past))
        rows = []
        for ids, tokens in zip(input_ids, attention_mask.sum(dim=-1).tolist(), strict=True):
            new = min(len(ids), tokens)  # the rest is padding
            embedded = own["embed"](ids[None, len(ids) - new :], *tables, tokens - new)  # (1, new, E)
            padding = embedded.new_zeros(1, len(ids) - new, embedded.shape[-1])
            rows.append(torch.cat([padding, embedded], dim=1))  # (1, T, E)
        return self.dropout(torch.cat(rows))  # B times (1, T, E) -> (B, T, E)

    return embed


def cache(own: Functions, lab: Any) -> type:
    """Return the lab's `KVCache` with the memory of a learner's."""

    class KVCache(lab):
        def __init__(self, buffer: Tensor) -> None:
            super().__init__(buffer)
            self.own = own["KVCache"]()

        def __call__(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
            self.advance(key.shape[2])
            keys, values = self.own.append(key, value)
            expected = (*key.shape[:2], self.length, key.shape[3])  # (B, H, Tk, D)
            if keys.shape != expected or values.shape != expected:
                own["KVCache"].require(
                    f"returns {shown(keys)} and {shown(values)} from append; both must be {expected}"
                )
            return keys, values

    return KVCache


def appended(result: Any, arguments: Sequence[Any]) -> str:
    """Accept keys and values of all positions so far from `KVCache.append`."""
    both = isinstance(result, (tuple, list)) and len(result) == 2 and all(isinstance(x, Tensor) for x in result)
    if arguments[0] != "append" or both:
        return ""
    return f"returns {shown(result)} from append; it must be keys and values"


def probabilities(own: Functions, lab: Any) -> Callable[..., Tensor]:
    """Return `token_probabilities` with a learner's `sampling_probabilities`; penalty and top-p stay the lab's."""
    from models import generation

    def token_probabilities(logits: Tensor, tokens: Tensor, attention_mask: Tensor | None, sampling: Any) -> Tensor:
        if sampling.repetition_penalty is not None:
            penalty = sampling.repetition_penalty
            logits = generation.penalize_repetition(logits, tokens, attention_mask, penalty)
        result = own["sampling_probabilities"](logits, sampling.temperature, sampling.top_k)  # (B, V)
        if sampling.top_p is None or sampling.temperature == 0:
            return result
        return generation.keep_top_p(result.log(), sampling.top_p).softmax(dim=-1)

    return token_probabilities


def distribution(result: Any, arguments: Sequence[Any]) -> str:
    """Accept probabilities (B, V), from which a token can be drawn."""
    problem = like(0)(result, arguments)
    if not problem and not bool(((result >= 0).all(dim=-1) & (result.sum(dim=-1) > 0)).all()):
        problem = "returns a row that is not a distribution: negative numbers, or nothing above 0"
    return problem


def filtered(result: Any, arguments: Sequence[Any]) -> str:
    """Accept logits (B, V) of which some are left in every row."""
    logits = arguments[0]
    if not isinstance(result, Tensor) or result.shape != logits.shape or result.dtype != logits.dtype:
        return f"returns {shown(result)}; it must be {shown(logits)}"
    return "" if bool(result.isfinite().any(dim=-1).all()) else "leaves no token in a row"


EMBEDDED = shaped(lambda given: (*given[0].shape, given[1].shape[-1]), lambda given: given[1].dtype)  # (B, T, E)
GPT2 = (
    Place("models/gpt2.py:GPT2.embed", {"embed": EMBEDDED}, embeddings),
    Place("models/gpt2.py:GPT2.forward", {"layer_norm": like(0)}, norm_outside_of_blocks),
    Place("models/generation.py:KVCache", {"KVCache": appended}, cache),
    Place("models/generation.py:keep_top_p", {"top_p_filter": filtered}),
    Place("models/generation.py:token_probabilities", {"sampling_probabilities": distribution}, probabilities),
)
DISTILBERT = (
    Place("models/distilbert.py:DistilBertClassifier.embed", {"layer_norm": like(0)}, norm_outside_of_blocks),
)
SCRATCH = {"engine": "scratch"}
PLAIN = {
    "accelerate": "the accelerated form of a model does not call the functions of the lesson",
    "precision": "a lower precision runs the accelerated form, which does not call the functions of the lesson",
}
SCRIPTS = {
    "transformer_block.py": Takes(BLOCK),
    "text_generation.py": Takes((*BLOCK, *GPT2), needs=SCRATCH, refuses=PLAIN),
    "sentiment_analysis.py": Takes((*ENCODER, *DISTILBERT), needs=SCRATCH, refuses=PLAIN),
}
