"""Text from a language model: predict a token, append it, predict the next one.

The cache keeps the keys and values of earlier positions, which never change, so that a step
computes one new position instead of all.

Shapes: B batch, T tokens so far (prompt and padding included), V vocabulary, H heads, D head size,
C capacity of a cache.

Sources: top-k, Fan et al. 2018, "Hierarchical Neural Story Generation"; top-p, Holtzman et al.
2020, "The Curious Case of Neural Text Degeneration"; repetition penalty, Keskar et al. 2019,
"CTRL", section 4.1.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from lab.errors import UserError


class KVCache:
    """The keys and values of one layer, in a buffer that is allocated once."""

    def __init__(self, buffer: Tensor) -> None:
        """`buffer` (2, B, H, C, D), for the keys and values of C positions."""
        self.buffer = buffer
        self.length = 0  # positions written so far

    def __call__(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append new keys and values, (B, H, T, D) each; return all so far, (B, H, Tk, D) each."""
        start = self.advance(key.shape[2])
        self.buffer[0, :, :, start : self.length] = key
        self.buffer[1, :, :, start : self.length] = value
        keys, values = self.buffer[:, :, :, : self.length]  # (2, B, H, C, D) -> two (B, H, Tk, D)
        return keys, values

    def advance(self, count: int) -> int:
        """Make the next `count` positions those of new keys and values; return the first of them.

        Raises UserError for more positions than the buffer has.
        """
        start, capacity = self.length, self.buffer.shape[3]
        if start + count > capacity:
            raise UserError(f"the cache has room for {capacity} positions, not for {start + count}")
        self.length = start + count
        return start


class LanguageModel(Protocol):
    """The interface that `generate` needs: `models.gpt2.GPT2` and its accelerated form have it."""

    config: Any  # with n_positions, the context

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: list[KVCache] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Return logits, as `GPT2.forward` does."""
        ...

    def new_cache(self, batch_size: int, capacity: int) -> list[KVCache]:
        """Return an empty cache for each layer."""
        ...


@dataclass(frozen=True)
class Sampling:
    """Options for choosing the next token: the most likely one (greedy), or sampled."""

    temperature: float = 0.0
    """Divides the logits: below 1 is more conservative, above 1 more random; 0 is greedy."""
    top_k: int | None = None
    """Sample from the k most likely tokens only."""
    top_p: float | None = None
    """Sample from the smallest set of most likely tokens whose probabilities sum to this."""
    repetition_penalty: float | None = None
    """Above 1: penalizes tokens already present."""

    def __post_init__(self) -> None:
        """Raise UserError, naming the flag, for values out of range."""
        if not 0.0 <= self.temperature < math.inf or 0.0 < self.temperature < 1e-6:
            raise UserError(
                f"--temperature is {self.temperature}; it must be 0 (greedy) or >= 1e-6"
            )
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"--top_k is {self.top_k}; it must be at least 1")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise UserError(f"--top_p is {self.top_p}; it must be above 0 and at most 1")
        penalty = self.repetition_penalty
        if penalty is not None and not 1e-6 <= penalty < math.inf:
            raise UserError(f"--repetition_penalty is {penalty}; it must be >= 1e-6, and 1 is off")


GREEDY = Sampling()


def penalize_repetition(
    logits: Tensor, tokens: Tensor, attention_mask: Tensor | None, penalty: float
) -> Tensor:
    """Return logits (B, V), lower for the tokens (B, T) already present, padding not counted.

    Positive logits are divided by the penalty and negative ones multiplied, so that both become
    less likely (Keskar et al. 2019, with regard to the sign).
    """
    token_counts = torch.zeros_like(logits, dtype=torch.long)  # (B, V)
    mask = torch.ones_like(tokens) if attention_mask is None else attention_mask  # (B, T)
    token_counts.scatter_add_(1, tokens.long(), mask.long())
    penalized = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(token_counts > 0, penalized, logits)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Return logits (B, V) with all but the k highest of each row at -inf; ties stay."""
    highest = logits.topk(min(k, logits.shape[-1]), dim=-1).values  # (B, V) -> (B, k)
    return logits.masked_fill(logits < highest[:, -1:], -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Return logits (B, V), all at -inf but the most likely tokens that sum to probability p."""
    ascending, order = logits.sort(dim=-1)  # (B, V) each
    cumulative = ascending.softmax(dim=-1).cumsum(dim=-1)  # from the least likely token up
    removed = cumulative <= 1.0 - p
    removed[:, -1] = False  # the most likely token always stays
    return logits.masked_fill(removed.scatter(1, order, removed), -math.inf)


def token_probabilities(
    logits: Tensor, tokens: Tensor, attention_mask: Tensor | None, sampling: Sampling
) -> Tensor:
    """Return the distribution (B, V) that the next token is sampled from.

    logits (B, V), tokens (B, T) so far, attention_mask (B, T). At temperature 0 it is that of
    temperature 1 without filters, whose most likely token is chosen.
    """
    if sampling.repetition_penalty is not None:
        logits = penalize_repetition(logits, tokens, attention_mask, sampling.repetition_penalty)
    if sampling.temperature > 0.0:
        logits = logits / sampling.temperature
        if sampling.top_k is not None:
            logits = keep_top_k(logits, sampling.top_k)
        if sampling.top_p is not None:
            logits = keep_top_p(logits, sampling.top_p)
    return logits.softmax(dim=-1)


def check_logits(logits: Tensor) -> None:
    """Raise UserError for logits that are NaN or infinite (-inf is a token that is ruled out)."""
    if not bool((logits < math.inf).all()):
        raise UserError("the model's logits are not finite; its weights are damaged")


def sample_next_token(
    logits: Tensor,
    tokens: Tensor,
    attention_mask: Tensor | None,
    sampling: Sampling,
    generator: torch.Generator | None,
) -> Tensor:
    """Return the next token of each row (B,), from logits (B, V) and the tokens (B, T) so far."""
    if sampling.temperature == 0.0 and sampling.repetition_penalty is None:
        return logits.argmax(dim=-1)  # (B, V) -> (B,)
    probabilities = token_probabilities(logits, tokens, attention_mask, sampling)  # (B, V)
    if sampling.temperature == 0.0:
        return probabilities.argmax(dim=-1)  # (B, V) -> (B,)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]  # (B, V) -> (B,)


def window_start(length: int, context: int) -> int:
    """Return the first of `length` tokens in the window; it moves by half a window at a time.

    Positions are counted from the window's start, so every move recomputes the whole window.
    """
    jump = max(1, context // 2)
    return max(0, math.ceil((length - context) / jump)) * jump


def stream(
    model: LanguageModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    stop_tokens: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
    slide: bool = False,
) -> Iterator[Tensor]:
    """Yield the next token of every row (B,), step by step; arguments and errors as `generate`."""
    check_prompt(model, input_ids, attention_mask, max_new_tokens, slide)
    if attention_mask is not None and bool(attention_mask.all()):
        attention_mask = None  # no padding
    stop = None
    if stop_tokens:
        stop = torch.tensor(stop_tokens, device=input_ids.device)
    steps = _steps(
        model, input_ids, attention_mask, max_new_tokens, sampling, stop, generator, use_cache
    )
    return (token.clone() for token in steps)  # as ordinary tensors, not those of inference mode


def generate(
    model: LanguageModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    stop_tokens: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
    slide: bool = False,
) -> Tensor:
    """Return the prompts (B, T) with their continuations: (B, T + new tokens).

    Args:
        input_ids, attention_mask: prompts, padded on the left; 1 for tokens and 0 for padding.
        max_new_tokens: tokens to add; fewer where every row has reached a stop token.
        sampling: how each token is chosen; greedy by default.
        stop_tokens: a row that has reached one repeats it until all rows are done.
        generator: random numbers for sampling; PyTorch's global ones by default.
        use_cache: False recomputes all positions at every step: slow, for comparison.
        slide: beyond the model's context, drop the earliest tokens instead of refusing.
    Raises UserError for values out of range, padding on the right, and, unless `slide`, more
    tokens than the context.
    """
    steps = stream(
        model,
        input_ids,
        attention_mask,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        stop_tokens=stop_tokens,
        generator=generator,
        use_cache=use_cache,
        slide=slide,
    )
    new_tokens = [token[:, None] for token in steps]  # N times (B, 1)
    return torch.cat([input_ids, *new_tokens], dim=1)  # (B, T + N)


@torch.inference_mode()
def _steps(
    model: LanguageModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    max_new_tokens: int,
    sampling: Sampling,
    stop: Tensor | None,
    generator: torch.Generator | None,
    use_cache: bool,
) -> Iterator[Tensor]:
    """Yield tokens: the loop behind `stream`."""
    batch_size, prompt_length = input_ids.shape
    total = prompt_length + max_new_tokens
    # Allocate the result: prompt, then room for the new tokens, (B, total).
    tokens = torch.cat([input_ids, input_ids.new_zeros(batch_size, max_new_tokens)], dim=1)
    if attention_mask is not None:
        ones = attention_mask.new_ones(batch_size, max_new_tokens)
        attention_mask = torch.cat([attention_mask, ones], dim=1)  # (B, T) -> (B, total)
    context = model.config.n_positions
    cache, start = None, -1
    done = torch.zeros(batch_size, dtype=torch.bool, device=tokens.device)
    for length in range(prompt_length, total):
        # Read the whole window when it has moved or there is no cache, else the newest token.
        cache_is_stale = not use_cache or window_start(length, context) != start
        if cache_is_stale:
            start = window_start(length, context)
            cache = model.new_cache(batch_size, min(context, total)) if use_cache else None
        new = tokens[:, start:length] if cache_is_stale else tokens[:, length - 1 : length]
        # Predict: (B, T) at first, then (B, 1) -> logits of the next token (B, V).
        window_mask = None if attention_mask is None else attention_mask[:, start:length]
        logits = model(new, window_mask, cache, last_only=True)[:, -1].float()
        check_logits(logits)
        # Choose a token for each row.
        earlier_mask = None if attention_mask is None else attention_mask[:, :length]
        earlier = tokens[:, :length]
        next_token = sample_next_token(logits, earlier, earlier_mask, sampling, generator)  # (B,)
        # Rows that are done repeat their stop token.
        if stop is not None:
            next_token = torch.where(done, tokens[:, length - 1], next_token)
            done |= torch.isin(next_token, stop)
        # Append it, and end when all rows are done.
        tokens[:, length] = next_token
        yield next_token
        if stop is not None and bool(done.all()):
            return


def check_prompt(
    model: LanguageModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    max_new_tokens: int,
    slide: bool,
) -> None:
    """Raise UserError unless the prompts can be continued."""
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens is {max_new_tokens}; it must be at least 1")
    shape = tuple(input_ids.shape)
    if input_ids.ndim != 2 or 0 in shape:
        raise UserError(f"a prompt must have at least one token; input_ids are {shape}")
    context = model.config.n_positions
    if shape[1] + max_new_tokens > context and not slide:
        raise UserError(
            f"{shape[1]} prompt tokens and {max_new_tokens} new ones are more than the model's "
            f"context of {context}; generate fewer, or let the window slide"
        )
    if attention_mask is None:
        return
    if attention_mask.shape != input_ids.shape:
        raise UserError(f"attention_mask is {tuple(attention_mask.shape)}, input_ids are {shape}")
    falls = attention_mask.long().diff(dim=1) < 0  # (B, T) -> (B, T - 1)
    if bool(falls.any()) or not bool(attention_mask[:, -1].all()):
        raise UserError("prompts must be padded on the left: new tokens follow their last token")
