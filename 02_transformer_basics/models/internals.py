"""Hidden states and attention weights: the intermediate results of a model.

Shapes: B batch, T time (positions), H heads, E embedding, L layers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn

from lab.errors import UserError


class ModelOutput(NamedTuple):
    """Logits, L + 1 hidden states (B, T, E), the embeddings first, and attention weights.

    attentions[l][b, h, i, j] is the weight of position j for position i, (B, H, T, T) per layer.
    """

    logits: Tensor
    hidden_states: list[Tensor]
    attentions: list[Tensor]


@contextmanager
def recorded(blocks: nn.ModuleList) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Yield two lists that one forward pass through `blocks` fills: hidden states, attentions.

    Forward hooks watch the `TransformerBlock`s, so what is recorded is what really ran.
    """
    hidden_states: list[Tensor] = []
    attentions: list[Tensor] = []

    def keep_input(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        hidden_states.append(inputs[0])

    def keep_output(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        hidden_states.append(output)

    def keep_weights(_: nn.Module, inputs: object, output: tuple[Tensor, Tensor]) -> None:
        attentions.append(output[1])

    handles = [blocks[0].register_forward_pre_hook(keep_input)]
    for block in blocks:
        handles.append(block.register_forward_hook(keep_output))
        handles.append(block.get_submodule("attention").register_forward_hook(keep_weights))
    try:
        yield hidden_states, attentions
    finally:
        for handle in handles:
            handle.remove()


def check_layer_and_head(num_layers: int, num_heads: int, layer: int, head: int) -> None:
    """Raise UserError, naming the flag, for a layer or head that the model does not have."""
    for flag, number, count in (("--layer", layer, num_layers), ("--head", head, num_heads)):
        if not 0 <= number < count:
            raise UserError(f"{flag} is {number}; the model has {count}, numbered 0 to {count - 1}")
