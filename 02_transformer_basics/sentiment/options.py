"""The settings of a sentiment training run: every option once, and a preset per method."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from lab.errors import UserError, require_at_least
from lab.seeding import check_seed
from models.distilbert import DistilBertConfig
from sentiment.model_setup import MAX_LENGTH, SPECIAL_TOKENS
from sentiment.training import TrainingConfig

Method = Literal["scratch", "finetune", "distill"]
MODEL_SIZES = ("embed_dim", "num_heads", "num_layers", "ff_dim")


@dataclass(frozen=True)
class Options:
    """Options of a run. None stands for the value of the method's preset; `resolved` fills it in.

    Raises UserError, naming the flag, for invalid values.
    """

    method: Method = "scratch"
    """Start from random weights, from a pre-trained encoder, or from a fine-tuned teacher."""
    epochs: int | None = None
    """Epochs over the training texts."""
    batch_size: int | None = None
    """Texts per optimizer step, summed over all processes."""
    learning_rate: float | None = None
    """Peak learning rate, after a linear warm-up of a tenth of the steps; then cosine decay to 0."""
    weight_decay: float | None = None
    """Decoupled weight decay of matrices."""
    layer_decay: float | None = None
    """Layer-wise learning-rate decay: the factor per block, going down from the head."""
    average_over: int | None = None
    """Length in steps of the moving average of the weights, which is evaluated and saved; 1: no averaging."""
    dropout: float | None = None
    """Dropout probability in the whole model."""
    word_dropout: float | None = None
    """Fraction of the training tokens replaced by [MASK]."""
    label_smoothing: float | None = None
    """Label smoothing: the probability that is spread uniformly over the classes."""
    temperature: float | None = None
    """Distillation temperature, which divides the logits of student and teacher."""
    summary_weight: float | None = None
    """Weight of the loss between the pooled outputs of student and teacher."""
    embed_dim: int | None = None
    """Embedding size of a model from scratch; other methods keep the pre-trained one."""
    num_heads: int | None = None
    """Attention heads per block of a model from scratch; other methods keep the pre-trained number."""
    num_layers: int | None = None
    """Transformer blocks of a model from scratch or of a student."""
    ff_dim: int | None = None
    """Hidden size of the feed-forward networks of a model from scratch or of a student."""
    vocab_size: int | None = None
    """WordPiece vocabulary size of a model from scratch or of a student."""
    phrases: int | None = None
    """Number of product phrases to train on, from the lesson's files. Default from scratch: all."""
    sentences: int = 64_000
    """Number of unlabeled review sentences for the teacher to label (distillation)."""
    copies: int = 4
    """Augmented copies per labeled sentence for the teacher to label (distillation)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Data type of the matrix products in training."""
    seed: int = 0
    """Seed of weights, shuffling, dropout, augmentation and the split of a CSV."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        is_set = {field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None}
        require_at_least(1, self, *(name for name in MODEL_SIZES if name in is_set))
        require_at_least(0, self, *({"phrases", "sentences", "copies"} & is_set))
        if self.vocab_size is not None:
            require_at_least(len(SPECIAL_TOKENS) + 1, self, "vocab_size")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise UserError(f"--dropout is {self.dropout}; it must be at least 0 and below 1")
        if self.method == "scratch" and self.embed_dim and self.num_heads and self.embed_dim % self.num_heads:
            raise UserError(f"--embed_dim is {self.embed_dim}; it must be a multiple of --num_heads, {self.num_heads}")

    def resolved(self) -> "Options":
        """Return these options with the method's preset in place of None, all of them checked."""
        preset = PRESETS[self.method]
        names = [field.name for field in dataclasses.fields(self)]
        missing = {name: getattr(preset, name) for name in names if getattr(self, name) is None}
        options = dataclasses.replace(self, **missing)
        options.training_config()
        return options

    def size(self, name: str) -> int:
        """Return a size that resolved options of this method have."""
        value = getattr(self, name)
        assert value is not None, name
        return value

    def training_config(self) -> TrainingConfig:
        """Return what the training loop needs, from resolved options."""
        names = {field.name for field in dataclasses.fields(TrainingConfig)} & set(vars(self))
        return TrainingConfig(**{name: getattr(self, name) for name in names})

    def architecture(self, pretrained: DistilBertConfig | None, vocab_size: int) -> DistilBertConfig:
        """Return the sizes of the model, from resolved options; width and heads those of `pretrained`, if any."""
        dropout = self.dropout or 0.0
        max_length = min(MAX_LENGTH, pretrained.max_position_embeddings) if pretrained else MAX_LENGTH
        return DistilBertConfig(
            vocab_size=vocab_size,
            max_position_embeddings=max_length,
            dim=pretrained.dim if pretrained else self.size("embed_dim"),
            n_heads=pretrained.n_heads if pretrained else self.size("num_heads"),
            n_layers=self.size("num_layers"),
            hidden_dim=self.size("ff_dim"),
            dropout=dropout,
            attention_dropout=dropout,
            seq_classif_dropout=dropout,
        )


PRESETS: dict[Method, Options] = {
    "scratch": Options(
        method="scratch",
        epochs=6,
        batch_size=64,
        learning_rate=1e-3,
        weight_decay=0.05,
        layer_decay=1.0,
        average_over=1,
        dropout=0.3,
        word_dropout=0.1,
        label_smoothing=0.05,
        temperature=1.0,
        summary_weight=0.0,
        embed_dim=128,
        num_heads=4,
        num_layers=2,
        ff_dim=512,
        vocab_size=8000,
    ),
    "finetune": Options(
        method="finetune",
        epochs=4,
        batch_size=32,
        learning_rate=1.5e-4,
        weight_decay=0.01,
        layer_decay=0.8,
        average_over=333,
        dropout=0.1,
        word_dropout=0.0,
        label_smoothing=0.0,
        temperature=1.0,
        summary_weight=0.0,
        phrases=2000,
    ),
    "distill": Options(
        method="distill",
        epochs=8,
        batch_size=64,
        learning_rate=5e-4,
        weight_decay=0.01,
        layer_decay=1.0,
        average_over=1,
        dropout=0.1,
        word_dropout=0.0,
        label_smoothing=0.0,
        temperature=2.0,
        summary_weight=1.0,
        num_layers=3,
        ff_dim=512,
        vocab_size=4000,
        phrases=20_000,
    ),
}


def describe_presets() -> str:
    """Return the settings of all presets, for --help."""
    lines = []
    for method, preset in PRESETS.items():
        values = {field.name: getattr(preset, field.name) for field in dataclasses.fields(preset)}
        names = [field.name for field in dataclasses.fields(preset) if field.default is None]
        settings = [f"{name} {values[name]}" for name in names if values[name] is not None]
        lines.append(f"--method {method}: {', '.join(settings)}.")
    return "\n\n".join(lines)
