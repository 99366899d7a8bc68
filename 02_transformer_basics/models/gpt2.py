"""GPT-2, whole, from the lesson's own block: reads an official checkpoint of any size and predicts the next token.

Run this file by itself for a demonstration with the model that ships.

Shapes: B batch, T time (positions), H heads, D head size, E embedding = H * D, V vocabulary, L layers.
With a cache, T counts the new positions and Tk all of them.

Sources: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners": pre-norm blocks, one more norm at
the end, and the token embeddings once more as output map. Weights and their names: OpenAI's release, as the Hugging
Face `transformers` library stores it.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.errors import UserError
from lab.files import ROOT
from models import generation
from models.batching import check_ids
from models.checkpoints import build, read_checkpoint, read_settings, write_checkpoint
from models.generation import LayerCache
from models.internals import Inside, run_and_keep
from speed.quantization import check_precision, pack
from transformer_block import CAUSAL, TransformerBlock, causal_mask, padding_mask

ACTIVATION_NAMES = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
LAYER_NAMES = {  # theirs -> ours, in every block; c_attn is three maps side by side
    "ln_1": ("norm1",),
    "attn.c_attn": ("attention.query", "attention.key", "attention.value"),
    "attn.c_proj": ("attention.output",),
    "ln_2": ("norm2",),
    "mlp.c_fc": ("ff_in",),
    "mlp.c_proj": ("ff_out",),
}
NO_WEIGHTS = (".attn.bias", ".attn.masked_bias", "lm_head.weight")  # masks, and the token embeddings a second time


@dataclass(frozen=True)
class GPT2Config:
    """Sizes, by the names of `config.json`; the defaults are those of the smallest GPT-2, of 124 million parameters."""

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
        if not self.scale_attn_weights or self.scale_attn_by_inverse_layer_idx or self.add_cross_attention:
            raise UserError("config.json asks for attention that GPT-2 as published does not have")
        if self.activation_function not in ACTIVATION_NAMES or not self.tie_word_embeddings:
            raise UserError("config.json asks for another activation or output map than GPT-2 as published has")


class GPT2(nn.Module):
    """GPT-2 with its language-model head.

    `forward(input_ids, attention_mask=None, cache=None, last_only=False)`: input_ids (B, T), attention_mask (B, Tk),
    1 for tokens and 0 for padding -> logits of the next token (B, T, V), (B, 1, V) with `last_only`. With a cache from
    `new_cache`, which it fills, input_ids are the new positions alone. Positions count from the first token that is no
    padding, so a text gets the same logits with padding on either side.
    Raises UserError for ids outside the vocabulary, more positions than there are embeddings for, and other shapes.
    """

    generate = generation.generate
    stream = generation.stream

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = nn.Embedding(config.n_positions, config.n_embd)
        sizes = (config.n_embd, config.n_head, config.n_inner or 4 * config.n_embd)
        options = (ACTIVATION_NAMES[config.activation_function], True, config.layer_norm_epsilon)
        blocks = [TransformerBlock(*sizes, config.resid_pdrop, *options) for _ in range(config.n_layer)]
        for block in blocks:
            block.attention.dropout.p = config.attn_pdrop
            block.hidden_dropout.p = 0.0  # GPT-2 drops what the feed-forward network gives, nothing inside it
        self.blocks: Any = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.embd_pdrop)
        self.fast: Any = None  # the blocks once more, for inference, and a fast output map, both from `pack`
        self.head: Any = None

    @classmethod
    def from_pretrained(
        cls, name_or_directory: str | Path, precision: str = "float32", device: torch.device | str = "cpu"
    ) -> "GPT2":
        """Read a checkpoint, in eval mode. `precision` of the weights: "float32", "float16", "bfloat16" or "int8".
        Raises UserError as `checkpoint_files` does, and for another precision.
        """
        check_precision(precision)
        checkpoint = read_checkpoint(name_or_directory, "gpt2")
        config = read_settings(GPT2Config, checkpoint)
        model = build(checkpoint, lambda: cls(config))
        return pack(model.to(device), precision)

    def official_names(self) -> dict[str, tuple[str, ...]]:
        """The checkpoint's name of every part -> ours."""
        names: dict[str, tuple[str, ...]] = {"wte": ("tokens",), "wpe": ("positions",), "ln_f": ("norm",)}
        for layer in range(self.config.n_layer):
            for theirs, ours in LAYER_NAMES.items():
                names[f"h.{layer}.{theirs}"] = tuple(f"blocks.{layer}.{name}" for name in ours)
        return names

    def from_official(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The checkpoint's tensors under our names; what has no place here keeps its own.

        OpenAI stored maps as (in, out), nn.Linear wants (out, in). The transposed view keeps the order in memory, in
        which a product with one row is faster; the token embeddings are brought into it for the same reason.
        """
        ours, names = {}, self.official_names()
        for key, tensor in tensors.items():
            part, _, kind = key.removeprefix("transformer.").rpartition(".")
            if key.endswith(NO_WEIGHTS):
                continue
            targets = names.get(part, (part,))
            for target, piece in zip(targets, tensor.chunk(len(targets), dim=-1), strict=False):  # (E, 3E) -> (E, E)
                if ".c_" in part and kind == "weight" and piece.ndim == 2:
                    piece = piece.t()  # (in, out) -> (out, in)
                elif part == "wte" and piece.ndim == 2:
                    piece = piece.t().contiguous().t()  # (V, E) -> (E, V) -> (V, E)
                ours[f"{target}.{kind}"] = piece
        return ours

    def to_official(self) -> dict[str, Tensor]:
        """The inverse: our tensors under the checkpoint's names, in its layout."""
        ours, official = self.state_dict(), {}
        for theirs, parts in self.official_names().items():
            for kind in ("weight", "bias"):
                tensors = [ours[f"{part}.{kind}"] for part in parts if f"{part}.{kind}" in ours]
                if ".c_" in theirs and kind == "weight":
                    tensors = [tensor.t() for tensor in tensors]  # (out, in) -> (in, out)
                if tensors:
                    official[f"transformer.{theirs}.{kind}"] = torch.cat(tensors, dim=-1)  # (E, E) -> (E, 3E)
        return official

    def save_pretrained(self, folder: Path, dtype: torch.dtype = torch.float32, **settings: Any) -> None:
        """Write `config.json`, with more `settings` if given, and weights in `dtype`; readers compute in float32."""
        tensors = {name: tensor.to(dtype) for name, tensor in self.to_official().items()}
        described = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "dtype": "float32"}
        write_checkpoint(folder, described | asdict(self.config) | settings, tensors)

    def new_cache(self, batch_size: int, capacity: int) -> list[LayerCache]:
        """Room for the keys and values of `capacity` positions in every layer."""
        shape = (batch_size, self.config.n_head, capacity, self.config.n_embd // self.config.n_head)
        return [LayerCache(self.norm.weight.new_empty(2, *shape)) for _ in self.blocks]  # L times (2, B, H, Tk, D)

    def embed(self, input_ids: Tensor, attention_mask: Tensor | None, past: int) -> Tensor:
        """input_ids (B, T), attention_mask (B, past + T) -> what the first block reads, (B, T, E)."""
        new = input_ids.shape[1]
        if attention_mask is None:
            positions = torch.arange(past, past + new, device=input_ids.device)  # (T,)
        else:
            positions = (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)[:, -new:]  # (B, Tk) -> (B, T)
        return self.dropout(self.tokens(input_ids) + self.positions(positions))  # (B, T) -> (B, T, E)

    def mask(self, new: int, total: int, attention_mask: Tensor | None) -> Tensor | None:
        """Who may see whom, to broadcast to (B, H, T, Tk): only what came before, no padding; None for everything."""
        mask = None if new == 1 else causal_mask(total, self.norm.weight.device)[-new:]  # (Tk, Tk) -> (T, Tk)
        if attention_mask is None:
            return mask
        padding = padding_mask(attention_mask)  # (B, 1, 1, Tk)
        return padding if mask is None else mask & padding  # (B, 1, T, Tk)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: list[LayerCache] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        past = cache[0].length if cache else 0
        new, total = input_ids.shape[-1], input_ids.shape[-1] + past
        self.check(input_ids, attention_mask, total)
        trains = self.training or torch.is_grad_enabled()
        plain = trains and attention_mask is None and cache is None
        mask = CAUSAL if plain else self.mask(new, total, attention_mask)
        x = self.embed(input_ids, attention_mask, past)  # (B, T) -> (B, T, E)
        for layer, block in enumerate(self.blocks if trains or not self.fast else self.fast):
            x, _ = block.run(x, mask, cache[layer] if cache else None, need_weights=False)
        return self.next_token_logits(x[:, -1:] if last_only else x)

    def next_token_logits(self, x: Tensor) -> Tensor:
        """The last block's (B, T, E) -> logits (B, T, V): how well each token's embedding fits."""
        x = self.norm(x)
        return F.linear(x, self.tokens.weight) if self.head is None else self.head(x)  # (B, T, E) -> (B, T, V)

    def look_inside(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Inside:
        """The same by the plain formula, with every hidden state, the last one normed, and every attention weight."""
        self.check(input_ids, attention_mask, input_ids.shape[-1])
        mask = self.mask(input_ids.shape[1], input_ids.shape[1], attention_mask)
        hidden_states, attentions = run_and_keep(self.blocks, self.embed(input_ids, attention_mask, 0), mask)
        logits = self.next_token_logits(hidden_states[-1])
        return Inside(logits, [*hidden_states[:-1], self.norm(hidden_states[-1])], attentions)

    def check(self, input_ids: Tensor, attention_mask: Tensor | None, total: int) -> None:
        """Raise UserError for what the model cannot read."""
        check_ids(input_ids, self.config.vocab_size, self.config.n_positions)
        if total > self.config.n_positions:
            raise UserError(f"{total} tokens are more than the {self.config.n_positions} the model can see at once")
        if attention_mask is not None and attention_mask.shape != (input_ids.shape[0], total):
            shape, wanted = tuple(attention_mask.shape), (input_ids.shape[0], total)
            raise UserError(f"attention_mask must be {wanted}, one number for each token so far, not {shape}")


@dataclass
class Demonstration:
    """Continue a prompt, and say how far our logits are from those of the transformers library."""

    prompt: str = "It was a dark night, and"  # What to continue.
    model: Path = ROOT / "assets/models/language"  # Folder of a GPT-2 with its tokenizer.
    precision: str = "float32"  # Of the weights: float32, float16, bfloat16 or int8.


def main(config: Demonstration) -> None:
    """Load both, compare, generate."""
    from models.hub import GENERATION, load_folder

    ours = GPT2.from_pretrained(config.model, config.precision)
    theirs = load_folder(GENERATION, config.model, str(config.model))
    input_ids = torch.tensor([theirs.tokenizer(config.prompt)["input_ids"]], dtype=torch.long)  # (1, T)
    print(config.prompt, end="")
    for token in ours.stream(input_ids, max_new_tokens=24):
        print(theirs.tokenizer.decode(token), end="", flush=True)
    with torch.no_grad():
        difference = (ours(input_ids) - theirs.model(input_ids).logits).abs().max()
    print(f"\nlargest difference from the library's logits: {difference:.1e}")


if __name__ == "__main__":
    from lab.launch import launch

    launch(Demonstration, main)
