"""Wrong answers to the exercise on embeddings, each the right one with one mistake switched on."""

import math
from collections.abc import Set

import torch
from torch import Tensor

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def embed(token_ids: Tensor, token_table: Tensor, position_table: Tensor, past: int, wrong: Set[str] = NONE) -> Tensor:
    """Embed tokens with the given mistakes."""
    batch, new = token_ids.shape
    start = past
    if "from_zero" in wrong:
        start = 0
    if "prompt_twice" in wrong:
        start = past + new
    if "past_doubled" in wrong:
        start = 2 * past
    if "one_late" in wrong:
        start = past + 1
    if "one_early" in wrong:
        start = max(past - 1, 0)
    positions = torch.arange(start, start + new)
    if "from_the_end" in wrong:
        positions = torch.arange(len(position_table) - new, len(position_table))
    if "reversed" in wrong:
        positions = positions.flip(0)
    if "same_position" in wrong:
        positions = positions[:1]
    if "last_position_for_all" in wrong:
        positions = positions[-1:]
    if "counted_through_batch" in wrong:
        positions = torch.arange(start, start + batch * new).reshape(batch, new)
    if "per_batch" in wrong:
        positions = torch.arange(start, start + batch)[:, None]
    if "padding_counted" in wrong:
        positions = start + ((token_ids != 0).cumsum(1) - 1).clamp(min=0)
    if "by_token" in wrong:
        positions = token_ids
    if "tables_swapped" in wrong:
        token_table, position_table = position_table, token_table
    tokens, places = token_table[token_ids], position_table[positions]
    if "scaled" in wrong:
        tokens = tokens * math.sqrt(token_table.shape[-1])
    if "no_positions" in wrong:
        return tokens
    if "no_tokens" in wrong:
        return places.expand_as(tokens)
    if "subtracted" in wrong:
        return tokens - places
    if "positions_scaled" in wrong:
        return tokens + places / math.sqrt(token_table.shape[-1])
    if "normed" in wrong:
        return torch.nn.functional.layer_norm(tokens + places, tokens.shape[-1:])
    if "product" in wrong:
        return tokens * places
    if "concatenated" in wrong:
        return torch.cat([tokens, places.expand_as(tokens)], dim=-1)
    if "mean" in wrong:
        return (tokens + places) / 2
    result = tokens + places
    if "squeezed" in wrong:
        return result.squeeze()
    return result.transpose(0, 1) if "time_first" in wrong else result


STARTS = {"from_zero", "prompt_twice", "past_doubled", "one_late", "one_early", "from_the_end"}
POSITIONS = {
    "padding_counted",
    "same_position",
    "last_position_for_all",
    "counted_through_batch",
    "per_batch",
    "by_token",
    "no_positions",
}
SUMS = {"no_positions", "no_tokens", "product", "concatenated", "mean", "time_first", "squeezed"}


def ends_at_the_new(token_ids: Tensor, token_table: Tensor, position_table: Tensor, past: int) -> Tensor:
    return token_table[token_ids] + position_table[past : token_ids.shape[1]]


def slice_one_late(token_ids: Tensor, token_table: Tensor, position_table: Tensor, past: int) -> Tensor:
    return token_table[token_ids] + position_table[past + 1 : past + 1 + token_ids.shape[1]]


WRONG = {
    "embed": Wrong(
        {"embed": embed},
        switches(embed),
        exclusive=(
            STARTS,
            POSITIONS | {"reversed"},
            SUMS,
            *({each, other} for each in ("from_the_end",) for other in ("counted_through_batch", "per_batch")),
            *({"by_token", each} for each in STARTS),
            *({"no_positions", each} for each in STARTS),
            {"no_tokens", "scaled"},
            {"no_tokens", "tables_swapped"},
        ),
        plain={
            "ends_at_the_new": {"embed": ends_at_the_new},
            "slice_one_late": {"embed": slice_one_late},
        },
    ),
}
