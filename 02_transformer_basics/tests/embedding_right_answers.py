"""Right answers to the exercise on embeddings in other styles than the lab's: all must pass."""

import torch
import torch.nn.functional as F
from torch import Tensor


def embed_by_slicing(token_ids: Tensor, token_table: Tensor, position_table: Tensor, past: int) -> Tensor:
    return token_table[token_ids] + position_table[past : past + token_ids.size(1)]


def embed_by_the_library(token_ids: Tensor, token_table: Tensor, position_table: Tensor, past: int) -> Tensor:
    batch, new = token_ids.shape
    positions = (torch.arange(new) + past).unsqueeze(0).expand(batch, -1)
    return F.embedding(token_ids, token_table) + F.embedding(positions, position_table)


def embed_by_loops(token_ids: Tensor, token_table: Tensor, position_table: Tensor, past: int) -> Tensor:
    rows = []
    for sequence in token_ids.tolist():
        rows.append(torch.stack([token_table[id] + position_table[past + t] for t, id in enumerate(sequence)]))
    return torch.stack(rows)


def embed_by_one_hot(token_ids: Tensor, token_table: Tensor, position_table: Tensor, past: int) -> Tensor:
    """A look-up is a product with a one-hot row."""
    tokens = F.one_hot(token_ids, len(token_table)).to(token_table.dtype) @ token_table
    places = torch.eye(len(position_table), dtype=position_table.dtype)[past:][: token_ids.shape[1]] @ position_table
    return places[None] + tokens


def embed_in_place(token_ids: Tensor, token_table: Tensor, position_table: Tensor, past: int) -> Tensor:
    result = token_table[token_ids]
    for t in range(token_ids.shape[1]):
        result[:, t] += position_table[past + t]
    return result


RIGHT = {
    "embed": {
        "slicing": {"embed": embed_by_slicing},
        "library": {"embed": embed_by_the_library},
        "loops": {"embed": embed_by_loops},
        "one-hot": {"embed": embed_by_one_hot},
        "in place": {"embed": embed_in_place},
    },
}
