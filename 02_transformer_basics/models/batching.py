"""Batches of texts of different lengths: padded, checked, and grouped by length so that little is padding.

Shapes: B batch, T time (positions).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lab.errors import UserError

TOKENS_PER_BATCH = 512  # measured: with more, the activations no longer fit into the processor's cache


def batches_by_length(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Return the indices of the texts in batches, shortest first, of at most `tokens_per_batch` with padding.

    A longer text is a batch by itself. Raises UserError for a text of no tokens.
    """
    if lengths and min(lengths) < 1:
        raise UserError(f"text {lengths.index(min(lengths)) + 1} has no tokens")
    batches: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not batches or (len(batches[-1]) + 1) * lengths[number] > tokens_per_batch:
            batches.append([])
        batches[-1].append(number)
    return batches


def pad_right(texts: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor | None]:
    """Return input_ids (B, T), padded with 0 on the right, and attention_mask (B, T), None if nothing is padded."""
    return _pad(texts, device, left=False)


def pad_left(texts: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor | None]:
    """Return input_ids and attention_mask as `pad_right`, but padded on the left: new tokens then follow the text."""
    return _pad(texts, device, left=True)


def _pad(texts: Sequence[Sequence[int]], device: torch.device | str, left: bool) -> tuple[Tensor, Tensor | None]:
    longest = max(map(len, texts))
    rows, ones = [], []
    for text in texts:
        padding = [0] * (longest - len(text))
        rows.append([*padding, *text] if left else [*text, *padding])
        ones.append([*padding, *[1] * len(text)] if left else [*[1] * len(text), *padding])
    input_ids = torch.tensor(rows, device=device)  # (B, T)
    if min(map(len, texts)) == longest:
        return input_ids, None
    return input_ids, torch.tensor(ones, device=device)  # (B, T), (B, T)


def check_ids(input_ids: Tensor, vocab_size: int, positions: int) -> None:
    """Raise UserError unless `input_ids` is (B, T) of integers, T at most `positions`, all in the vocabulary."""
    if input_ids.ndim != 2 or input_ids.dtype not in (torch.int64, torch.int32) or 0 in input_ids.shape:
        raise UserError(f"input_ids must be (batch, time) of integers, not {input_ids.dtype} {tuple(input_ids.shape)}")
    if input_ids.shape[1] > positions:
        raise UserError(f"{input_ids.shape[1]} tokens are more than the model's {positions}")
    if int(input_ids.min()) < 0 or int(input_ids.max()) >= vocab_size:
        unknown = input_ids[(input_ids < 0) | (input_ids >= vocab_size)][0].item()
        raise UserError(f"input_ids hold {unknown}; the vocabulary ends at {vocab_size - 1}")
