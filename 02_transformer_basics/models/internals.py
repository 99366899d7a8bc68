"""What a model computes on the way to its answer: every hidden state, every attention weight.

Shapes: B batch, T time (positions), H heads, E embedding, L layers.
"""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor

from lab.errors import UserError
from transformer_block import TransformerBlock


class Inside(NamedTuple):
    """The answer; L + 1 hidden states (B, T, E), the embeddings first; and the attention weights (B, H, T, T) of all
    L layers, weights[l][b, h, i, j] from position i to position j.
    """

    logits: Tensor
    hidden_states: list[Tensor]
    attentions: list[Tensor]


def run_and_keep(
    blocks: Iterable[TransformerBlock], embedded: Tensor, mask: Tensor | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Run `embedded` (B, T, E) through all blocks by the plain formula -> hidden states and weights, as in `Inside`."""
    hidden_states, attentions = [embedded], []
    for block in blocks:
        x, weights = block.run(hidden_states[-1], mask)
        hidden_states.append(x)
        attentions.append(weights)
    return hidden_states, attentions


def check_layer_and_head(layers: int, heads: int, layer: int, head: int) -> None:
    """Raise UserError, naming the flag and what there is, for a layer or head that a model of such sizes lacks."""
    for flag, number, count in (("--layer", layer, layers), ("--head", head, heads)):
        if not 0 <= number < count:
            raise UserError(f"{flag} is {number}; the model has {count}, numbered 0 to {count - 1}")
