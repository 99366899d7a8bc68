"""Text from a language model: one token after the other, each read again together with all before it.
Run this file by itself to see what the ways to choose a token do.

The cache keeps the keys and values of earlier positions, which never change, so a step computes one new position. A
step of a model of 124 million parameters reads all of them once from memory: that, and not arithmetic, is its cost.

Shapes: B batch, T tokens so far (prompt, padding included), V vocabulary, H heads, D head size, C capacity of a cache.

Sources: top-k, Fan et al. 2018, "Hierarchical Neural Story Generation"; top-p, Holtzman et al. 2020, "The Curious Case
of Neural Text Degeneration"; repetition penalty, Keskar et al. 2019, "CTRL", section 4.1.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lab.errors import UserError
from lab.files import ROOT

if TYPE_CHECKING:
    from models.gpt2 import GPT2


class LayerCache:
    """Keys and values of one layer in memory that is taken once: new ones are written behind the earlier ones."""

    def __init__(self, memory: Tensor) -> None:
        """`memory` (2, B, H, C, D), for keys and values of C positions."""
        self.memory, self.length = memory, 0

    def __call__(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of new positions, (B, H, T, D) each -> those of all positions so far, (B, H, Tk, D) each."""
        start, self.length = self.length, self.length + key.shape[2]
        self.memory[:, :, :, start : self.length] = torch.stack([key, value])
        keys, values = self.memory[:, :, :, : self.length]  # (2, B, H, C, D) -> twice (B, H, Tk, D)
        return keys, values


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: always the likeliest at temperature 0, else drawn from what the filters leave."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < math.inf or 0.0 < self.temperature < 1e-6:
            raise UserError(f"temperature is {self.temperature}; it must be 0 (the likeliest token) or from 1e-6 on")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top_k is {self.top_k}; it must be at least 1")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise UserError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if self.repetition_penalty is not None and not 0.0 < self.repetition_penalty < math.inf:
            raise UserError(f"repetition_penalty is {self.repetition_penalty}; it must be above 0, and 1 does nothing")


def penalize_repetition(logits: Tensor, tokens: Tensor, seen: Tensor | None, penalty: float) -> Tensor:
    """logits (B, V), tokens (B, T), seen (B, T), 0 for padding -> logits (B, V), lower for tokens that were there.
    Divides positive logits by the penalty and multiplies negative ones: Keskar et al. 2019, with regard to the sign.
    """
    there = torch.zeros_like(logits, dtype=torch.long)  # (B, V)
    there.scatter_add_(1, tokens, torch.ones_like(tokens) if seen is None else seen.long())
    penalized = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(there > 0, penalized, logits)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """logits (B, V), all but the k highest of each row set to -inf; ties with the k-th stay."""
    lowest = logits.topk(min(k, logits.shape[-1]), dim=-1).values[:, -1:]  # (B, V) -> (B, k) -> (B, 1)
    return logits.masked_fill(logits < lowest, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """logits (B, V), all set to -inf but the fewest likeliest tokens of each row that together have probability p."""
    ascending, order = logits.sort(dim=-1)
    tail = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1.0 - p  # (B, V), True for what can go from the unlikely end
    tail[:, -1] = False  # the likeliest always stays
    return logits.masked_fill(tail.scatter(1, order, tail), -math.inf)


def token_probabilities(logits: Tensor, tokens: Tensor, seen: Tensor | None, sampling: Sampling) -> Tensor:
    """The distribution (B, V) that the next token is drawn from, after logits (B, V) and tokens (B, T) so far.
    At temperature 0 it is that of temperature 1, unfiltered, whose likeliest token is taken.
    """
    if sampling.repetition_penalty is not None:
        logits = penalize_repetition(logits, tokens, seen, sampling.repetition_penalty)
    if sampling.temperature > 0.0:
        logits = logits / sampling.temperature
        logits = logits if sampling.top_k is None else keep_top_k(logits, sampling.top_k)
        logits = logits if sampling.top_p is None else keep_top_p(logits, sampling.top_p)
    return logits.softmax(dim=-1)


def choose(
    logits: Tensor, tokens: Tensor, seen: Tensor | None, sampling: Sampling, generator: torch.Generator | None
) -> Tensor:
    """The next token of each row (B,), from logits (B, V) and the tokens (B, T) so far."""
    if sampling.temperature == 0.0 and sampling.repetition_penalty is None:
        return logits.argmax(dim=-1)  # (B, V) -> (B,)
    probabilities = token_probabilities(logits, tokens, seen, sampling)
    if sampling.temperature == 0.0:
        return probabilities.argmax(dim=-1)  # (B, V) -> (B,)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]  # (B, V) -> (B, 1) -> (B,)


def first_visible(length: int, context: int) -> int:
    """The first of `length` tokens that a sliding window shows: it jumps by half a window at a time.

    Learned positions are counted from the window's edge: with every jump the whole window is computed anew.
    """
    jump = max(1, context // 2)
    return max(0, math.ceil((length - context) / jump)) * jump


def stream(
    model: "GPT2",
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float | None = None,
    stop_tokens: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
    slide: bool = False,
) -> Iterator[Tensor]:
    """Yield the next token of every row (B,) as soon as it is known; arguments and errors as for `generate`."""
    sampling = Sampling(temperature, top_k, top_p, repetition_penalty)
    check_prompt(model, input_ids, attention_mask, max_new_tokens, slide)
    stop = None if not stop_tokens else torch.tensor(stop_tokens, device=input_ids.device)
    return _steps(model, input_ids, attention_mask, max_new_tokens, sampling, stop, generator, use_cache)


def generate(
    model: "GPT2",
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float | None = None,
    stop_tokens: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
    slide: bool = False,
) -> Tensor:
    """Prompts (B, T), padded on the left, with attention_mask (B, T) -> prompts and new tokens in one tensor.

    Args:
        max_new_tokens: at most as many columns are added; fewer where every row has come to a stop token.
        temperature: 0 takes the likeliest token, otherwise it divides the logits before one is drawn.
        top_k, top_p: draw from the k likeliest tokens, from the fewest that together have probability p.
        repetition_penalty: above 1 makes tokens less likely that are there already, padding not counted.
        stop_tokens: a row that has come to one repeats it until the others are done.
        generator: what the draws come from; torch's own by default.
        use_cache: False computes all positions in every step: slow, to compare with.
        slide: beyond the model's context forget the earliest tokens (`first_visible`) instead of refusing.
    Raises UserError for values out of range, padding on the right, and, unless `slide`, more tokens than the context.
    """
    steps = stream(
        model,
        input_ids,
        attention_mask,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        stop_tokens=stop_tokens,
        generator=generator,
        use_cache=use_cache,
        slide=slide,
    )
    return torch.cat([input_ids, *(chosen[:, None] for chosen in steps)], dim=1)  # (B, T), N times (B, 1) -> (B, T + N)


@torch.inference_mode()
def _steps(
    model: "GPT2",
    input_ids: Tensor,
    attention_mask: Tensor | None,
    max_new_tokens: int,
    sampling: Sampling,
    stop: Tensor | None,
    generator: torch.Generator | None,
    use_cache: bool,
) -> Iterator[Tensor]:
    """The loop behind `stream`."""
    batch_size, prompt = input_ids.shape
    tokens = torch.cat([input_ids, input_ids.new_zeros(batch_size, max_new_tokens)], dim=1)  # (B, T + new)
    seen = None
    if attention_mask is not None and not bool(attention_mask.all()):
        seen = torch.cat([attention_mask, attention_mask.new_ones(batch_size, max_new_tokens)], dim=1)  # (B, T + new)
    context, start, cache = model.config.n_positions, -1, None
    done = torch.zeros(batch_size, dtype=torch.bool, device=tokens.device)
    for length in range(prompt, prompt + max_new_tokens):
        visible = first_visible(length, context)
        fresh = not use_cache or visible != start  # nothing of what can be seen is in the cache
        if fresh:
            start = visible
            cache = model.new_cache(batch_size, min(context, tokens.shape[1])) if use_cache else None
        new = tokens[:, start if fresh else length - 1 : length]  # (B, T) at first, then (B, 1)
        logits = model(new, None if seen is None else seen[:, start:length], cache, last_only=True)[:, -1]  # (B, V)
        earlier = None if seen is None else seen[:, :length]
        chosen = choose(logits.float(), tokens[:, :length], earlier, sampling, generator)  # (B,)
        if stop is not None:
            chosen = torch.where(done, tokens[:, length - 1], chosen)  # the last token of a row that is done is a stop
            done |= torch.isin(chosen, stop)
        tokens[:, length] = chosen
        yield chosen
        if stop is not None and bool(done.all()):
            return


def check_prompt(
    model: "GPT2", input_ids: Tensor, attention_mask: Tensor | None, max_new_tokens: int, slide: bool
) -> None:
    """Raise UserError unless the prompts can be continued."""
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens is {max_new_tokens}; it must be at least 1")
    if input_ids.ndim != 2 or 0 in input_ids.shape:
        raise UserError(f"a prompt must have at least one token; input_ids are {tuple(input_ids.shape)}")
    context, total = model.config.n_positions, input_ids.shape[1] + max_new_tokens
    if total > context and not slide:
        raise UserError(
            f"{input_ids.shape[1]} tokens of prompt and {max_new_tokens} new ones are more than the {context} that the "
            "model can see at once; ask for fewer, or let the window slide"
        )
    if attention_mask is None:
        return
    if attention_mask.shape != input_ids.shape:
        raise UserError(f"attention_mask is {tuple(attention_mask.shape)}, input_ids are {tuple(input_ids.shape)}")
    steps = attention_mask.long().diff(dim=1)  # (B, T) -> (B, T - 1)
    if bool((steps < 0).any()) or not bool(attention_mask[:, -1].all()):
        raise UserError("prompts must be padded on the left, so that what is new follows their last token")


@dataclass
class Demonstration:
    """Continue a prompt in several ways, and compare the cache with computing everything anew."""

    prompt: str = "It was a dark night, and"  # What to continue.
    model: Path = ROOT / "assets/models/language"  # Folder of a GPT-2 with its tokenizer.
    max_new_tokens: int = 24  # Tokens to add.


def main(config: Demonstration) -> None:
    """One line for each way to choose the next token, then the time with and without the cache."""
    from models.gpt2 import GPT2
    from models.hub import GENERATION, load_folder

    ours, tokenizer = GPT2.from_pretrained(config.model), load_folder(GENERATION, config.model, "").tokenizer
    input_ids = torch.tensor([tokenizer(config.prompt)["input_ids"]], dtype=torch.long)  # (1, T)
    ways: list[dict[str, Any]] = [{}, {"repetition_penalty": 1.3}, {"temperature": 0.8}, {"temperature": 1.5}]
    ways += [{"temperature": 1.5, "top_k": 10}, {"temperature": 1.5, "top_p": 0.8}]
    for options in ways:
        generator = torch.Generator().manual_seed(0)
        tokens = ours.generate(input_ids, max_new_tokens=config.max_new_tokens, generator=generator, **options)
        name = ", ".join(f"{key} {value}" for key, value in options.items()) or "the likeliest token"
        print(f"{name}: {tokenizer.decode(tokens[0])!r}")
    found = {}
    for use_cache in (True, False):
        begin = time.perf_counter()
        found[use_cache] = ours.generate(input_ids, max_new_tokens=config.max_new_tokens, use_cache=use_cache)
        print(f"{'with' if use_cache else 'without'} the cache: {time.perf_counter() - begin:.3f} seconds")
    print(f"same tokens: {found[True].equal(found[False])}")


if __name__ == "__main__":
    from lab.launch import launch

    launch(Demonstration, main)
