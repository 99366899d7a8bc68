"""Steps of generation on a GPU as CUDA graphs: recorded once, then replayed by a single call.

A step computes one new position. With one prompt it launches hundreds of kernels, and launching them one by one takes
longer than running them; a graph launches all of them at once. It reads and writes the same memory in every replay. So
the cache has a fixed number of slots, the position is a tensor, and a mask hides the slots that are not filled yet.

Checks of values make the program wait for the GPU, so a step has none: the ids and the mask of a prompt, which takes
the ordinary path, are checked, and the tokens that are generated from it cannot be out of range. An id that is not in
the vocabulary gives logits of NaN, which `generate` refuses. On the CPU nothing changes.

`StaticStep.compute` is ordinary PyTorch, and `capture` is the only function that knows about graphs: without a GPU the
tests run the same step.

Shapes: B batch, C slots, L layers, H heads, D head size, E embedding, V vocabulary.

Source: the notes on CUDA graphs in PyTorch's documentation, "CUDA semantics".
"""

import math
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.generation import KVCache
from models.gpt2 import GPT2

if TYPE_CHECKING:
    from speed.inference_block import InferenceBlock

SLOT_MULTIPLE = 128  # of the number of slots, so that generations of similar lengths share a graph
MAX_FREE_STEPS = 4  # steps whose cache is gone are kept for the next cache of the same size; no more than these
WARM_UP_RUNS = 3  # before a graph is captured: libraries allocate and choose kernels in the first runs


def uses_graphs(device: torch.device) -> bool:
    """Return True if generation on this device uses CUDA graphs."""
    return device.type == "cuda"


def capture(compute: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """Return `compute` as a CUDA graph: each call replays it and returns the same tensor with new values.

    `compute` is run a few times first, so its result must not depend on how often it runs. The caller keeps the tensors
    that it reads and writes: the graph has their addresses only. On other devices than GPUs it is returned as it is.
    """
    if device.type != "cuda":
        return compute
    with torch.cuda.device(device):
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(WARM_UP_RUNS):
                compute()
        torch.cuda.current_stream().wait_stream(side_stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may use the GPU meanwhile
            result = compute()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


def attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Return the attention (B, H, 1, D) of one query (B, H, 1, D) per head over keys and values (B, H, C, D) each.

    `bias` (B, 1, 1, C) is added to the scores. In float32 PyTorch's fused kernel divides its work by queries, so that
    a single one occupies a small part of a GPU: two products take a third of its time on an H100.
    """
    if query.dtype != torch.float32:
        return F.scaled_dot_product_attention(query, keys, values, bias)
    scores = query @ keys.mT  # (B, H, 1, D) @ (B, H, D, C) -> (B, H, 1, C)
    weights = bias.add(scores, alpha=query.shape[-1] ** -0.5).softmax(dim=-1)
    return weights @ values  # (B, H, 1, C) @ (B, H, C, D) -> (B, H, 1, D)


def block_step(block: "InferenceBlock", x: Tensor, bias: Tensor, buffer: Tensor, position: Tensor) -> Tensor:
    """Return the output (B, 1, E) of a pre-norm block for one new position, x (B, 1, E).

    Args:
        bias: added to the attention scores, (B, 1, 1, C): 0 for visible slots, -inf for the others.
        buffer: keys and values of all slots, (2, B, H, C, D); those of the new position are written.
        position: slot of the new position, (1,).
    """
    qkv = block.project(block.normalize1(x))  # (B, 1, E) -> (3, B, H, 1, D)
    buffer.index_copy_(3, position, qkv[1:])
    heads = attend(qkv[0], buffer[0], buffer[1], bias)
    x = x + block.output(heads.transpose(1, 2).reshape(x.shape))  # (B, H, 1, D) -> (B, 1, H, D) -> (B, 1, E)
    return x + block.feed_forward(block.normalize2(x))


class StaticStep:
    """The step of generation for one batch size and number of slots, with all the memory that it reads and writes.

    The last slot always has keys and values of zero. Only a position that may attend to nothing sees it, so that its
    attention is zero, as in the plain model.
    """

    def __init__(self, model: Any, batch_size: int, slots: int) -> None:
        """`model`: an accelerated GPT-2."""
        config, weight = model.config, model.norm.weight
        self.model = model
        self.blocks, self.lm_head = model.layers(batch_size)
        self.sizes = batch_size, slots
        self.cache: Callable[[], StaticCache | None] = lambda: None  # the cache that is in this memory, while it exists
        self.has_padding = False
        self.replay: Callable[[], Tensor] | None = None
        shape = (config.n_layer, 2, batch_size, config.n_head, slots, config.n_embd // config.n_head)
        with torch.inference_mode(False):  # so that these tensors can be changed in and outside of inference mode
            keys = self.blocks[0].compute.project(weight.new_zeros(1, 1, config.n_embd))
            self.buffers = weight.new_zeros(shape, dtype=keys.dtype)  # (L, 2, B, H, C, D)
            self.ids = weight.new_zeros((batch_size, 1), dtype=torch.long)
            self.position = weight.new_zeros(1, dtype=torch.long)
            self.is_token = weight.new_ones((batch_size, slots), dtype=torch.bool)
            self.slots = torch.arange(slots, device=weight.device)  # (C,)

    def __call__(self, input_ids: Tensor, attention_mask: Tensor | None, past: int) -> Tensor:
        """Return the logits (B, 1, V) after input_ids (B, 1), the position that follows `past` others."""
        self.ids.copy_(input_ids)
        self.position.fill_(past)
        if attention_mask is not None:
            self.is_token[:, : past + 1].copy_(attention_mask)
        elif self.has_padding:
            self.is_token.fill_(True)
        self.has_padding = attention_mask is not None
        if self.replay is None:
            self.replay = capture(self.compute, self.ids.device)
        return self.replay().clone()  # the next replay overwrites the tensor itself

    def compute(self) -> Tensor:
        """Return the logits (B, 1, V) after `ids`, and write their keys and values; it depends on tensors only."""
        # The new position may attend to the slots up to its own, but not to padding.
        visible = self.is_token & (self.slots <= self.position)  # (B, C)
        positions = (visible.sum(dim=-1, keepdim=True) - 1).clamp(min=0)  # (B, 1): tokens before it, padding not
        visible[:, -1] = ~visible.any(dim=-1)
        bias = self.buffers.new_zeros(self.sizes).masked_fill_(~visible, -math.inf)[:, None, None]  # (B, 1, 1, C)

        is_known = (self.ids >= 0) & (self.ids < self.model.config.vocab_size)  # (B, 1)
        tokens = self.model.token_embeddings(self.ids.masked_fill(~is_known, 0))  # (B, 1) -> (B, 1, E)
        x = tokens + self.model.position_embeddings(positions)
        x = x.masked_fill(~is_known[..., None], math.nan)
        for block, buffer in zip(self.blocks, self.buffers, strict=True):
            x = block_step(block.compute, x, bias, buffer, self.position)
        return self.lm_head(self.model.norm(x)).to(x.dtype)  # (B, 1, E) -> (B, 1, V)

    def new_cache(self) -> "StaticCache":
        """Return an empty cache in this memory."""
        self.buffers.zero_()  # hidden slots count too: their weight is 0, but 0 times NaN is NaN
        cache = StaticCache(self)
        self.cache = weakref.ref(cache)
        return cache


class StaticCache(list[KVCache]):
    """The cache of each layer in the memory of a `StaticStep`."""

    def __init__(self, step: StaticStep) -> None:
        super().__init__(KVCache(buffer[:, :, :, :-1]) for buffer in step.buffers)  # without the slot of zeros
        self.step = step

    def is_step(self, model: GPT2, input_ids: Tensor, attention_mask: Tensor | None) -> bool:
        """Return True for one new position that `next_logits` can compute; the ordinary path takes all others.

        The latter also refuses what neither can compute.
        """
        batch_size, slots = self.step.sizes
        past = self[0].length
        fits = past < min(slots - 1, model.config.n_positions) and input_ids.shape == (batch_size, 1)
        has_valid_mask = attention_mask is None or attention_mask.shape == (batch_size, past + 1)
        is_whole = input_ids.dtype in (torch.int64, torch.int32)
        return fits and has_valid_mask and is_whole and model is self.step.model

    def next_logits(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return the logits (B, 1, V) after input_ids (B, 1), as `GPT2.forward` does with a cache."""
        past = self[0].length
        for layer in self:
            layer.length = past + 1
        return self.step(input_ids, attention_mask, past)


class StaticSteps:
    """The steps of a model: memory and graph of a cache that is gone serve the next one of the same size."""

    def __init__(self, model: GPT2) -> None:
        self.model = model
        self.steps: list[StaticStep] = []  # those that were used last are at the end

    def new_cache(self, batch_size: int, capacity: int) -> StaticCache:
        """Return an empty cache with room for `capacity` positions or more."""
        slots = math.ceil((capacity + 1) / SLOT_MULTIPLE) * SLOT_MULTIPLE  # one for the slot of zeros
        free = [step for step in self.steps if step.cache() is None]
        in_use = [step for step in self.steps if step.cache() is not None]
        fitting = [step for step in free if step.sizes == (batch_size, slots)]
        step = fitting[-1] if fitting else StaticStep(self.model, batch_size, slots)
        others = [each for each in free if each is not step]
        self.steps = [*others[-MAX_FREE_STEPS:], *in_use, step]
        return step.new_cache()
