"""DistilBERT, whole, from the lesson's own block: reads an official checkpoint and says what a text is about.

Run this file by itself for a demonstration with the model that ships.

Shapes: B batch, T time (positions), H heads, D head size, E embedding, N texts, C classes.

Sources: Sanh et al. 2019, "DistilBERT, a distilled version of BERT"; its blocks, post-norm with exact GELU, are BERT's:
Devlin et al. 2018. Weights and their names: the Hugging Face `transformers` library.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.errors import UserError
from lab.files import ROOT
from models.batching import TOKENS_PER_BATCH, batches_by_length, check_ids, pad_right
from models.checkpoints import build, read_checkpoint, read_settings
from models.internals import Inside, run_and_keep
from speed.onednn import FastProducts
from transformer_block import TransformerBlock, padding_mask

LAYER_NAMES = {  # ours -> theirs, in every block
    "attention.query": "attention.q_lin",
    "attention.key": "attention.k_lin",
    "attention.value": "attention.v_lin",
    "attention.output": "attention.out_lin",
    "norm1": "sa_layer_norm",
    "ff_in": "ffn.lin1",
    "ff_out": "ffn.lin2",
    "norm2": "output_layer_norm",
}


@dataclass(frozen=True)
class DistilBertConfig:
    """Sizes, by the names of `config.json`; the defaults are those of distilbert-base."""

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


def first_position(block: TransformerBlock, x: Tensor, mask: Tensor | None) -> Tensor:
    """What `block`, post-norm, makes of x (B, T, E) at the first position, (B, 1, E): a quarter of its work."""
    query, key, value = block.attention.project(x)  # (B, H, T, D) each
    attended, _ = block.attention.attend(query[:, :, :1], key, value, mask, need_weights=False)  # (B, 1, E)
    first = block.norm1(x[:, :1] + block.dropout(attended))
    return block.norm2(first + block.dropout(block.feed_forward(first)))


class DistilBertClassifier(nn.Module):
    """DistilBERT with a classifier on the first position.

    `forward(input_ids, attention_mask=None)`: input_ids (B, T), attention_mask (B, T), 1 for tokens and 0 for padding
    -> logits (B, C). Padding belongs on the right: the first position is the one that decides. In training mode there
    is dropout inside the feed-forward network too, as in `torch.nn` and unlike the library; in eval mode all are equal.
    Raises UserError for ids outside the vocabulary, more positions than there are embeddings for, and other shapes.
    """

    def __init__(self, config: DistilBertConfig, labels: Sequence[str] = ("NEGATIVE", "POSITIVE")) -> None:
        super().__init__()
        self.config, self.labels = config, tuple(labels)
        self.words = nn.Embedding(config.vocab_size, config.dim)
        self.positions = nn.Embedding(config.max_position_embeddings, config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=1e-12)
        sizes = (config.dim, config.n_heads, config.hidden_dim)
        options = (config.dropout, config.activation, False, 1e-12)
        blocks = [TransformerBlock(*sizes, *options) for _ in range(config.n_layers)]
        for block in blocks:
            block.attention.dropout.p = config.attention_dropout
        self.blocks: Any = nn.ModuleList(blocks)
        self.hidden, self.classifier = nn.Linear(config.dim, config.dim), nn.Linear(config.dim, len(labels))
        self.dropout, self.head_dropout = nn.Dropout(config.dropout), nn.Dropout(config.seq_classif_dropout)

    @classmethod
    def from_pretrained(cls, name_or_directory: str | Path) -> "DistilBertClassifier":
        """Read a checkpoint, in eval mode, float32, on the CPU. Raises UserError as `checkpoint_files` does."""
        checkpoint = read_checkpoint(name_or_directory, "distilbert")
        config = read_settings(DistilBertConfig, checkpoint)
        names = checkpoint.settings.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})
        if not isinstance(names, dict) or not names:
            raise UserError(f"{checkpoint.name}: id2label in config.json must map each class to its name")
        return build(checkpoint, lambda: cls(config, [str(label) for label in names.values()]))

    def official_names(self) -> dict[str, str]:
        """Our name of every part -> the checkpoint's."""
        names = {"words": "embeddings.word_embeddings", "positions": "embeddings.position_embeddings"}
        names |= {"norm": "embeddings.LayerNorm"}
        for layer in range(self.config.n_layers):
            names |= {f"blocks.{layer}.{a}": f"transformer.layer.{layer}.{b}" for a, b in LAYER_NAMES.items()}
        names = {ours: f"distilbert.{theirs}" for ours, theirs in names.items()}
        return names | {"hidden": "pre_classifier", "classifier": "classifier"}

    def from_official(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The checkpoint's tensors under our names; what has no place here keeps its own."""
        ours = {theirs: ours for ours, theirs in self.official_names().items()}
        parts = {key: key.rpartition(".") for key in tensors}
        return {f"{ours.get(parts[key][0], parts[key][0])}.{parts[key][2]}": tensors[key] for key in tensors}

    def embed(self, input_ids: Tensor) -> Tensor:
        """input_ids (B, T) -> what the first block reads, (B, T, E)."""
        check_ids(input_ids, self.config.vocab_size, self.config.max_position_embeddings)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)  # (T,)
        return self.dropout(self.norm(self.words(input_ids) + self.positions(positions)))  # (B, T) -> (B, T, E)

    def decide(self, hidden_states: Tensor) -> Tensor:
        """The last block's (B, T, E) -> logits (B, C), from the first position."""
        first = F.relu(self.hidden(hidden_states[:, 0]))  # (B, T, E) -> (B, E)
        return self.classifier(self.head_dropout(first))  # (B, E) -> (B, C)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.classify(self.embed(input_ids), attention_mask)

    def classify(self, embedded: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`forward` from the embeddings (B, T, E) on, with respect to which a gradient says which words decided."""
        return self.decide(self.summarize(embedded, attention_mask))

    def summarize(self, embedded: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The embeddings (B, T, E) -> what the last block makes of the first position, (B, 1, E)."""
        mask = None if attention_mask is None else padding_mask(attention_mask)  # (B, 1, 1, T)
        x = embedded
        for block in self.blocks[:-1]:
            x, _ = block.run(x, mask, need_weights=False)
        return first_position(self.blocks[-1], x, mask)

    def look_inside(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Inside:
        """The same by the plain formula, with every hidden state and every attention weight kept."""
        mask = None if attention_mask is None else padding_mask(attention_mask)  # (B, 1, 1, T)
        hidden_states, attentions = run_and_keep(self.blocks, self.embed(input_ids), mask)
        return Inside(self.decide(hidden_states[-1]), hidden_states, attentions)

    @torch.inference_mode()
    def predict(self, texts: Sequence[Sequence[int]], tokens_per_batch: int = TOKENS_PER_BATCH) -> Tensor:
        """Ids of N texts of any lengths -> probabilities of the classes (N, C), in the order of the texts.

        Texts of like length go through the model together, so that little is padding.
        """
        device = self.words.weight.device
        probabilities = torch.empty(len(texts), len(self.labels), device=device)  # (N, C)
        with FastProducts():
            for chosen in batches_by_length([len(text) for text in texts], tokens_per_batch):
                input_ids, attention_mask = pad_right([texts[i] for i in chosen], device)
                probabilities[chosen] = self(input_ids, attention_mask).softmax(dim=-1).float()
        return probabilities


@dataclass
class Demonstration:
    """Classify a text, and say how far our logits are from those of the transformers library."""

    text: str = "A wonderful film, funny and moving from start to finish."  # What to classify.
    model: Path = ROOT / "assets/models/sentiment"  # Folder of a DistilBERT classifier with its tokenizer.


def main(config: Demonstration) -> None:
    """Load both, compare."""
    from models.hub import SENTIMENT, load_folder

    ours = DistilBertClassifier.from_pretrained(config.model)
    theirs = load_folder(SENTIMENT, config.model, str(config.model))
    input_ids = torch.tensor([theirs.tokenizer(config.text)["input_ids"]])  # (1, T)
    for label, probability in zip(ours.labels, ours.predict(input_ids.tolist())[0].tolist(), strict=True):
        print(f"{label:<9} {probability:.4f}")
    with torch.no_grad():
        difference = (ours(input_ids) - theirs.model(input_ids).logits).abs().max()
    print(f"largest difference from the library's logits: {difference:.1e}")


if __name__ == "__main__":
    from lab.launch import launch

    launch(Demonstration, main)
