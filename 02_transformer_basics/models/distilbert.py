"""DistilBERT, built from the lesson's `TransformerBlock`: reads official checkpoints.

Shapes: B batch, T time (positions), H heads, D head size, E embedding, N texts, C classes.

Sources: Sanh et al. 2019, "DistilBERT, a distilled version of BERT"; its blocks, post-norm with
exact GELU, are BERT's: Devlin et al. 2018. Weights and their names: the Hugging Face
`transformers` library.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.errors import UserError
from models.batching import TOKENS_PER_BATCH, batches_by_length, check_ids, pad_right
from models.checkpoints import accept_old_names, build, read_checkpoint, read_settings
from models.internals import ModelOutput, recorded
from models.settings import class_labels
from transformer_block import TransformerBlock, padding_mask

LAYER_NAMES = {  # ours -> Hugging Face's, in every block
    "attention.query": "attention.q_lin",
    "attention.key": "attention.k_lin",
    "attention.value": "attention.v_lin",
    "attention.output": "attention.out_lin",
    "norm1": "sa_layer_norm",
    "ff_in": "ffn.lin1",
    "ff_out": "ffn.lin2",
    "norm2": "output_layer_norm",
}
OLD_NAMES = {
    "words": "word_embeddings",
    "positions": "position_embeddings",
    "hidden": "pre_classifier",
}


@dataclass(frozen=True)
class DistilBertConfig:
    """Sizes, by the names of `config.json`; the defaults are those of distilbert-base."""

    ALIASES: ClassVar = {
        "dim": "hidden_size",
        "n_heads": "num_attention_heads",
        "n_layers": "num_hidden_layers",
    }

    vocab_size: int = 30522
    max_position_embeddings: int = 512
    dim: int = 768
    n_layers: int = 6
    n_heads: int = 12
    hidden_dim: int = 3072
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    seq_classif_dropout: float = 0.2


class DistilBertClassifier(nn.Module):
    """DistilBERT with a classifier on the first position.

    `forward(input_ids, attention_mask=None)`: input_ids (B, T), attention_mask (B, T), 1 for
    tokens and 0 for padding -> logits (B, C). Padding belongs on the right: the first position is
    the one that is classified. In training mode there is dropout inside the feed-forward network
    too, as in `torch.nn` and unlike the library; in eval mode all are equal.
    Raises UserError for ids outside the vocabulary, more positions than the model has, and other
    shapes.
    """

    def __init__(
        self, config: DistilBertConfig, labels: Sequence[str] = ("NEGATIVE", "POSITIVE")
    ) -> None:
        super().__init__()
        self.config = config
        self.labels = tuple(labels)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.dim)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=1e-12)
        self.blocks: Any = nn.ModuleList([new_block(config) for _ in range(config.n_layers)])
        self.pre_classifier = nn.Linear(config.dim, config.dim)
        self.classifier = nn.Linear(config.dim, len(labels))
        self.dropout = nn.Dropout(config.dropout)
        self.head_dropout = nn.Dropout(config.seq_classif_dropout)
        self.register_load_state_dict_pre_hook(accept_old_names(OLD_NAMES))

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path) -> "DistilBertClassifier":
        """Return the model of a checkpoint, in eval mode, float32, on the CPU.

        `name_or_folder`: a folder in the Hugging Face layout, or a name on the Hugging Face hub.
        Raises UserError as `models.checkpoints` does.
        """
        checkpoint = read_checkpoint(name_or_folder, "distilbert")
        config = read_settings(DistilBertConfig, checkpoint)
        return build(checkpoint, lambda: cls(config, class_labels(checkpoint.settings)))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.classify(self.embed(input_ids), attention_mask)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Return the normed sum of word and position embeddings: (B, T) -> (B, T, E)."""
        check_ids(input_ids, self.config.vocab_size, self.config.max_position_embeddings)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)  # (T,)
        words = self.word_embeddings(input_ids)  # (B, T) -> (B, T, E)
        return self.dropout(self.norm(words + self.position_embeddings(positions)))

    def classify(self, embedded: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the logits (B, C) of embeddings (B, T, E): `forward` after `embed`."""
        return self.classification_head(self.pooled_output(embedded, attention_mask))

    def pooled_output(self, embedded: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the last block's output at the first position: (B, T, E) -> (B, E)."""
        expected = embedded.shape[:2]
        if attention_mask is not None and attention_mask.shape != expected:
            shapes = f"{tuple(expected)}, one per token, not {tuple(attention_mask.shape)}"
            raise UserError(f"attention_mask must be {shapes}")
        mask = None if attention_mask is None else padding_mask(attention_mask)  # (B, 1, 1, T)
        x = embedded
        for block in self.blocks:
            x = block(x, mask)
        return x[:, 0]  # (B, T, E) -> (B, E)

    def classification_head(self, pooled: Tensor) -> Tensor:
        """Return the logits (B, C) of the pooled output (B, E)."""
        hidden = F.relu(self.pre_classifier(pooled))  # (B, E)
        return self.classifier(self.head_dropout(hidden))  # (B, E) -> (B, C)

    def forward_with_internals(
        self, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> ModelOutput:
        """Return `forward` with every hidden state and every attention weight."""
        with recorded(self.blocks) as (hidden_states, attentions):
            logits = self(input_ids, attention_mask)
        return ModelOutput(logits, hidden_states, attentions)

    def predict(
        self, texts: Sequence[Sequence[int]], tokens_per_batch: int = TOKENS_PER_BATCH
    ) -> Tensor:
        """Return the class probabilities (N, C) of N texts of any lengths, in their order.

        Texts of similar length share a batch, so that little is padding.
        """
        device = self.norm.weight.device
        probabilities = torch.empty(len(texts), len(self.labels), device=device)  # (N, C)
        for numbers in batches_by_length([len(text) for text in texts], tokens_per_batch):
            input_ids, attention_mask = pad_right([texts[i] for i in numbers], device)
            with torch.inference_mode():
                logits = self(input_ids, attention_mask)  # (B, T) -> (B, C)
                probabilities[numbers] = logits.softmax(dim=-1).float()
        return probabilities

    def hf_parameter_names(self) -> dict[str, str]:
        """Return our name of every module -> the checkpoint's."""
        names = {
            "word_embeddings": "distilbert.embeddings.word_embeddings",
            "position_embeddings": "distilbert.embeddings.position_embeddings",
            "norm": "distilbert.embeddings.LayerNorm",
            "pre_classifier": "pre_classifier",
            "classifier": "classifier",
        }
        for layer in range(self.config.n_layers):
            for ours, theirs in LAYER_NAMES.items():
                names[f"blocks.{layer}.{ours}"] = f"distilbert.transformer.layer.{layer}.{theirs}"
        return names

    def convert_hf_state_dict(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the checkpoint's tensors under our names; unknown ones keep their own.

        Some files leave `distilbert.` out of all names.
        """
        ours = {theirs: ours for ours, theirs in self.hf_parameter_names().items()}
        converted = {}
        has_prefix = any(key.startswith("distilbert.") for key in tensors)
        for key, tensor in tensors.items():
            module, _, kind = key.rpartition(".")
            if not has_prefix and f"distilbert.{module}" in ours:
                module = f"distilbert.{module}"
            converted[f"{ours.get(module, module)}.{kind}"] = tensor
        return converted


def new_block(config: DistilBertConfig) -> TransformerBlock:
    """Return a post-norm block of the configured size."""
    block = TransformerBlock(
        config.dim,
        config.n_heads,
        config.hidden_dim,
        dropout=config.dropout,
        activation=config.activation,
        norm_first=False,
        eps=1e-12,
    )
    block.attention.dropout.p = config.attention_dropout
    return block
