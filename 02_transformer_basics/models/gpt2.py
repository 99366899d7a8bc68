"""GPT-2, built from the lesson's `TransformerBlock`: reads official checkpoints of any size.

Shapes: B batch, T time (positions), H heads, D head size, E embedding = H * D, V vocabulary,
L layers. With a cache, T counts the new positions and Tk all of them.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners": pre-norm
blocks, one more norm at the end, and the token embeddings as output projection. Weights and their
names: OpenAI's release, as the Hugging Face `transformers` library stores it.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.errors import UserError
from models.batching import check_ids
from models.checkpoints import (
    accept_old_names,
    build,
    read_checkpoint,
    read_settings,
    write_checkpoint,
)
from models.generation import KVCache
from models.internals import ModelOutput, recorded
from transformer_block import TransformerBlock, causal_mask, padding_mask

ACTIVATION_NAMES = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}
LAYER_NAMES = {  # Hugging Face's -> ours, in every block; c_attn is three projections side by side
    "ln_1": ("norm1",),
    "attn.c_attn": ("attention.query", "attention.key", "attention.value"),
    "attn.c_proj": ("attention.output",),
    "ln_2": ("norm2",),
    "mlp.c_fc": ("ff_in",),
    "mlp.c_proj": ("ff_out",),
}
OLD_NAMES = {"tokens": "token_embeddings", "positions": "position_embeddings"}
IGNORED_TENSORS = (".attn.bias", ".attn.masked_bias")  # masks, not parameters


@dataclass(frozen=True)
class GPT2Config:
    """Sizes, by the names of `config.json`; the defaults are the smallest GPT-2 (124M)."""

    ALIASES: ClassVar = {
        "n_embd": "hidden_size",
        "n_positions": "max_position_embeddings",
        "n_head": "num_attention_heads",
        "n_layer": "num_hidden_layers",
    }

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    resid_pdrop: float = 0.1
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    add_cross_attention: bool = False
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        rescaled = not self.scale_attn_weights or self.scale_attn_by_inverse_layer_idx
        if rescaled or self.add_cross_attention:
            raise UserError("config.json requires attention that GPT-2 as published does not have")
        if self.activation_function not in ACTIVATION_NAMES:
            raise UserError(f"activation_function is {self.activation_function!r}; GPT-2 has GELU")
        if not self.tie_word_embeddings:
            raise UserError("tie_word_embeddings is false; GPT-2 as published ties them")


class GPT2(nn.Module):
    """GPT-2 with its language-model head.

    `forward(input_ids, attention_mask=None, cache=None, last_only=False)`: input_ids (B, T),
    attention_mask (B, Tk), 1 for tokens and 0 for padding -> logits of the next token (B, T, V),
    or (B, 1, V) with `last_only`. With a cache from `new_cache`, which it fills, input_ids are the
    new positions alone. Positions count from the first token that is not padding, so a text gets
    the same logits with padding on either side.
    Raises UserError for ids outside the vocabulary, more positions than the model has, and other
    shapes.
    """

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.token_embeddings = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embeddings = nn.Embedding(config.n_positions, config.n_embd)
        self.blocks: Any = nn.ModuleList([new_block(config) for _ in range(config.n_layer)])
        self.norm = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.embd_pdrop)
        self.register_load_state_dict_pre_hook(accept_old_names(OLD_NAMES))

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path) -> "GPT2":
        """Return the model of a checkpoint, in eval mode, float32, on the CPU.

        `name_or_folder`: a folder in the Hugging Face layout, or a name on the Hugging Face hub.
        Raises UserError as `models.checkpoints` does.
        """
        checkpoint = read_checkpoint(name_or_folder, "gpt2")
        config = read_settings(GPT2Config, checkpoint)
        return build(checkpoint, lambda: cls(config))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: list[KVCache] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        past = 0 if cache is None else cache[0].length
        self.check(input_ids, attention_mask, past)
        mask = self.mask(input_ids.shape[1], past, attention_mask)
        x = self.embed(input_ids, attention_mask, past)  # (B, T) -> (B, T, E)
        for layer, block in enumerate(self.blocks):
            x = block(x, mask, None if cache is None else cache[layer])
        if last_only:
            x = x[:, -1:]  # (B, T, E) -> (B, 1, E)
        return self.next_token_logits(self.norm(x))  # (B, T, E) -> (B, T, V)

    def embed(self, input_ids: Tensor, attention_mask: Tensor | None, past: int) -> Tensor:
        """Return token plus position embeddings (B, T, E) of input_ids (B, T)."""
        new = input_ids.shape[1]
        if attention_mask is None:
            positions = torch.arange(past, past + new, device=input_ids.device)  # (T,)
        else:
            counts = attention_mask.long().cumsum(dim=-1)  # (B, Tk): tokens so far, padding not
            positions = (counts - 1).clamp(min=0)[:, -new:]  # (B, Tk) -> (B, T)
        tokens = self.token_embeddings(input_ids)  # (B, T) -> (B, T, E)
        return self.dropout(tokens + self.position_embeddings(positions))

    def mask(self, new: int, past: int, attention_mask: Tensor | None) -> Tensor | None:
        """Return which keys each new position may attend to: earlier ones that are not padding.

        The mask broadcasts to (B, H, T, Tk); None where everything is allowed.
        """
        mask = None
        if new > 1:  # a single new position is the last: it sees all keys
            mask = causal_mask(new, past + new, self.norm.weight.device)  # (T, Tk)
        if attention_mask is None:
            return mask
        padding = padding_mask(attention_mask)  # (B, 1, 1, Tk)
        return padding if mask is None else mask & padding  # (B, 1, T, Tk)

    def next_token_logits(self, x: Tensor) -> Tensor:
        """Return the product of x (B, T, E) with every token's embedding: logits (B, T, V)."""
        return F.linear(x, self.token_embeddings.weight)

    def new_cache(self, batch_size: int, capacity: int) -> list[KVCache]:
        """Return an empty cache for each layer, with room for `capacity` positions."""
        head_size = self.config.n_embd // self.config.n_head
        shape = (2, batch_size, self.config.n_head, capacity, head_size)  # keys and values
        return [KVCache(self.norm.weight.new_empty(shape)) for _ in self.blocks]

    def forward_with_internals(
        self, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> ModelOutput:
        """Return `forward` with all hidden states, the last one normed, and attention weights."""
        with recorded(self.blocks) as (hidden_states, attentions):
            logits = self(input_ids, attention_mask)
        hidden_states[-1] = self.norm(hidden_states[-1])
        return ModelOutput(logits, hidden_states, attentions)

    def check(self, input_ids: Tensor, attention_mask: Tensor | None, past: int) -> None:
        """Raise UserError for ids and masks that the model cannot read."""
        check_ids(input_ids, self.config.vocab_size, self.config.n_positions)
        total = past + input_ids.shape[1]
        if total > self.config.n_positions:
            raise UserError(f"{total} tokens are more than the model's {self.config.n_positions}")
        expected = (input_ids.shape[0], total)
        if attention_mask is not None and attention_mask.shape != expected:
            shape = tuple(attention_mask.shape)
            raise UserError(f"attention_mask must be {expected}, one per token so far, not {shape}")

    def hf_parameter_names(self) -> dict[str, tuple[str, ...]]:
        """Return the checkpoint's name of every module -> our names."""
        names: dict[str, tuple[str, ...]] = {
            "wte": ("token_embeddings",),
            "wpe": ("position_embeddings",),
            "ln_f": ("norm",),
        }
        for layer in range(self.config.n_layer):
            for theirs, ours in LAYER_NAMES.items():
                names[f"h.{layer}.{theirs}"] = tuple(f"blocks.{layer}.{name}" for name in ours)
        return names

    def convert_hf_state_dict(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the checkpoint's tensors under our names; unknown ones keep their own.

        OpenAI stored the weights of projections as (in, out), nn.Linear wants (out, in).
        Raises UserError for a tensor that is there twice, with and without `transformer.`, and for
        an output projection that is not the token embeddings.
        """
        ours = {}
        names = self.hf_parameter_names()
        for key, tensor in tensors.items():
            if key.endswith(IGNORED_TENSORS):
                continue
            module, _, kind = key.removeprefix("transformer.").rpartition(".")
            targets = names.get(module, (module,))
            parts = tensor.chunk(len(targets), dim=-1)  # c_attn: (E, 3E) -> three of (E, E)
            for target, part in zip(targets, parts, strict=False):
                if f"{target}.{kind}" in ours:
                    raise UserError(f"its weights hold {module}.{kind} twice")
                stored_in_out = ".c_" in module and kind == "weight" and part.ndim == 2
                ours[f"{target}.{kind}"] = part.t() if stored_in_out else part
        # Some files hold the token embeddings a second time, as the output projection.
        if "lm_head.weight" in ours:
            lm_head = ours.pop("lm_head.weight").float()  # (V, E)
            embeddings = ours.setdefault("token_embeddings.weight", lm_head).float()  # (V, E)
            if not torch.equal(lm_head.nan_to_num(), embeddings.nan_to_num()):
                raise UserError("lm_head.weight is not wte.weight; GPT-2 as published ties them")
        return ours

    def to_hf_state_dict(self) -> dict[str, Tensor]:
        """Return our tensors under the checkpoint's names: the inverse conversion."""
        ours = self.state_dict()
        official = {}
        for theirs, modules in self.hf_parameter_names().items():
            for kind in ("weight", "bias"):
                tensors = [ours[f"{name}.{kind}"] for name in modules if f"{name}.{kind}" in ours]
                if ".c_" in theirs and kind == "weight":
                    tensors = [tensor.t() for tensor in tensors]  # (out, in) -> (in, out)
                if tensors:
                    official[f"transformer.{theirs}.{kind}"] = torch.cat(tensors, dim=-1)
        return official

    def save_pretrained(
        self, folder: Path, dtype: torch.dtype = torch.float32, **settings: Any
    ) -> None:
        """Write weights in `dtype` and `config.json`, with more `settings` if given."""
        tensors = {name: tensor.to(dtype) for name, tensor in self.to_hf_state_dict().items()}
        header = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "dtype": "float32"}
        write_checkpoint(folder, header | asdict(self.config) | settings, tensors)


def new_block(config: GPT2Config) -> TransformerBlock:
    """Return a pre-norm block of the configured size; GPT-2 has no dropout between its layers."""
    block = TransformerBlock(
        config.n_embd,
        config.n_head,
        config.n_inner or 4 * config.n_embd,
        dropout=config.resid_pdrop,
        activation=ACTIVATION_NAMES[config.activation_function],
        norm_first=True,
        eps=config.layer_norm_epsilon,
    )
    block.attention.dropout.p = config.attn_pdrop
    block.hidden_dropout.p = 0.0
    return block
