"""`accelerate(model, precision)`: the fast form of a model, for inference; it equals the plain one within rounding."""

import contextlib
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lab.errors import UserError
from models.distilbert import DistilBertClassifier
from models.generation import KVCache
from models.gpt2 import GPT2
from models.hub import check_finite
from models.internals import ModelOutput
from speed.choice import ROWS, Size, choose, linear_factory
from speed.cuda_graph import StaticCache, StaticSteps, uses_graphs
from speed.inference_block import ScriptedBlock
from speed.kernels import scripted
from speed.quantization import check_precision
from transformer_block import TransformerBlock

ASK_THE_PLAIN_MODEL = "an accelerated model is for inference only; ask the plain model"
MOVE_THE_PLAIN_MODEL = "an accelerated model keeps its device and type; accelerate the plain one again where it is now"
Model = TypeVar("Model", bound=GPT2 | DistilBertClassifier)


def layer_sizes(blocks: Iterable[TransformerBlock]) -> set[Size]:
    """Return the sizes (O, I) of the linear layers of an `InferenceBlock`."""
    sizes: set[Size] = set()
    for block in blocks:
        sizes |= {
            (layer.out_features, layer.in_features) for layer in (block.attention.output, block.ff_in, block.ff_out)
        }
        query = block.attention.query
        sizes.add((3 * query.out_features, query.in_features))  # query, key and value as one layer
    return sizes


def _layers_for_rows(model: GPT2, precision: str) -> Callable[[int], tuple[list[ScriptedBlock], nn.Module]]:
    """Return a function: number of rows -> fast blocks and output projection.

    Where one text and several need the same kernels, they are made now, and the plain blocks are not kept.
    """
    blocks, embeddings = list(model.blocks), model.token_embeddings
    sizes = layer_sizes(blocks) | {(model.config.vocab_size, model.config.n_embd)}
    names = {rows: choose(precision, sizes, rows, embeddings.weight) for rows in ROWS[:2]}

    @functools.cache
    def layers_for(rows: int) -> tuple[list[ScriptedBlock], nn.Module]:
        make = linear_factory(precision, names[rows], embeddings.weight)
        return [ScriptedBlock(block, make) for block in blocks], scripted(make(embeddings), embeddings.weight.device)

    if names[ROWS[0]] != names[ROWS[1]]:
        return layers_for
    layers = layers_for(ROWS[0])
    return lambda _: layers


def _without_autocast(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a `forward` for inference that ignores autocast: the layers have a precision of their own."""

    @functools.wraps(forward)
    @torch.no_grad()
    def run(model: nn.Module, input_ids: Tensor, *arguments: Any, **options: Any) -> Tensor:
        device = input_ids.device.type
        is_enabled = device in ("cpu", "cuda") and torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False) if is_enabled else contextlib.nullcontext():
            return forward(model, input_ids, *arguments, **options)

    return run


class InferenceOnly:
    """The methods of a model that its accelerated form refuses."""

    def forward_with_internals(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> ModelOutput:
        """Raise UserError: the fused kernels keep no attention weights."""
        raise UserError(ASK_THE_PLAIN_MODEL)

    def state_dict(self, *_: Any, **__: Any) -> Any:
        """Raise UserError: packed weights have no place in it."""
        raise UserError(ASK_THE_PLAIN_MODEL)

    def load_state_dict(self, *_: Any, **__: Any) -> Any:
        """Raise UserError: packed weights would stay as they are."""
        raise UserError(ASK_THE_PLAIN_MODEL)

    def _apply(self, *_: Any, **__: Any) -> Any:
        """Raise UserError: the plain model has some of these tensors, too."""
        raise UserError(MOVE_THE_PLAIN_MODEL)


class AcceleratedGPT2(InferenceOnly, GPT2):
    """A GPT-2 with fast blocks and a fast output projection; for inference only. Use `accelerate` to make one.

    One text and several may need different kernels: the layers for several are made when they are first needed.
    """

    def __init__(self, model: GPT2, precision: str) -> None:
        nn.Module.__init__(self)
        self.config = model.config
        self.token_embeddings = model.token_embeddings
        self.position_embeddings = model.position_embeddings
        self.norm = model.norm
        self.dropout = nn.Identity()
        self.layers_for = _layers_for_rows(model, precision)
        self.blocks, self.lm_head = self.layers(batch_size=1)
        self.static_steps = StaticSteps(self) if uses_graphs(model.norm.weight.device) else None

    @_without_autocast
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: list[KVCache] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        if isinstance(cache, StaticCache) and cache.is_step(self, input_ids, attention_mask):
            return cache.next_logits(input_ids, attention_mask)
        self.blocks, self.lm_head = self.layers(len(input_ids))
        return super().forward(input_ids, attention_mask, cache, last_only)

    def layers(self, batch_size: int) -> tuple[list[ScriptedBlock], nn.Module]:
        """Return the blocks and the output projection for one text or several."""
        return self.layers_for(ROWS[0] if batch_size == 1 else ROWS[1])

    def new_cache(self, batch_size: int, capacity: int) -> list[KVCache]:
        """Return an empty cache for each layer, with room for `capacity` positions; on a GPU for CUDA graphs."""
        if self.static_steps is not None:
            return self.static_steps.new_cache(batch_size, capacity)
        return super().new_cache(batch_size, capacity)

    def next_token_logits(self, x: Tensor) -> Tensor:
        """Return the logits (B, T, V) of x (B, T, E)."""
        return self.lm_head(x).to(x.dtype)

    def save_pretrained(self, folder: Path, dtype: torch.dtype = torch.float32, **settings: Any) -> None:
        """Raise UserError: packed weights have no place in a checkpoint."""
        raise UserError(ASK_THE_PLAIN_MODEL)


class AcceleratedDistilBert(InferenceOnly, DistilBertClassifier):
    """A DistilBERT with fast blocks, the last for the first position only; for inference only. Use `accelerate`."""

    def __init__(self, model: DistilBertClassifier, precision: str) -> None:
        nn.Module.__init__(self)
        weight = model.norm.weight
        make = linear_factory(precision, choose(precision, layer_sizes(model.blocks), ROWS[2], weight), weight)
        self.config = model.config
        self.labels = model.labels
        self.word_embeddings = model.word_embeddings
        self.position_embeddings = model.position_embeddings
        self.norm = model.norm
        self.dropout = nn.Identity()
        self.head_dropout = nn.Identity()
        self.pre_classifier = model.pre_classifier
        self.classifier = model.classifier
        last = len(model.blocks) - 1
        self.blocks = [ScriptedBlock(block, make, number == last) for number, block in enumerate(model.blocks)]

    @_without_autocast
    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return super().forward(input_ids, attention_mask)


def check_weights(model: nn.Module, precision: str) -> None:
    """Raise UserError for weights that `precision` cannot hold: kernels differ in what they make of them."""
    weights = [weight for weight in model.parameters() if not weight.is_meta]
    check_finite(weights)
    largest = max((float(weight.abs().max()) for weight in weights), default=0.0)
    limit = torch.finfo(torch.float16).max
    if precision == "float16" and largest > limit:
        raise UserError(f"float16 holds numbers up to {limit:g}, and the weights reach {largest:g}; choose bfloat16")


@torch.no_grad()
def accelerate(model: Model, precision: str = "float32") -> Model:
    """Return the fast form of a GPT-2 or DistilBERT, for inference on the device where `model` is.

    The plain model stays as it is. In float32 the two may share memory, so do not train it afterwards.

    Args:
        precision: of the weights: "float32" (equal to the plain model within rounding), "float16", "bfloat16", "int8".
            On a CPU int8 rounds the inputs of a batch with one scale: the result for a text depends on the others.

    Raises UserError for another precision, another model, one that is accelerated already, a lower precision of a
    model that is not float32, and weights that are no numbers or beyond the range of float16.
    """
    check_precision(precision)
    if isinstance(model, AcceleratedGPT2 | AcceleratedDistilBert):
        raise UserError("the model is accelerated already; accelerate the plain one")
    if not isinstance(model, GPT2 | DistilBertClassifier):
        raise UserError(f"only GPT2 and DistilBertClassifier can be accelerated, not {type(model).__name__}")
    dtype = model.norm.weight.dtype
    if precision != "float32" and dtype != torch.float32:
        raise UserError(f"precision {precision} is made from a float32 model, not {dtype}; call model.float() first")
    check_weights(model, precision)
    accelerated: Any = AcceleratedGPT2 if isinstance(model, GPT2) else AcceleratedDistilBert
    return accelerated(model, precision)
