"""The settings of a run of train_sentiment.py, and what they are for each of its three methods."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lab.errors import UserError, require_at_least
from lab.files import ROOT
from lab.seeding import check_seed
from models.distilbert import DistilBertConfig
from sentiment.model_setup import MAX_LENGTH, SPECIAL_TOKENS
from sentiment.training import TrainingConfig

Method = Literal["scratch", "finetune", "distill"]
DEFAULTS: dict[str, dict[str, Any]] = {
    "scratch": {
        "epochs": 6,
        "learning_rate": 1e-3,
        "batch_size": 64,
        "weight_decay": 0.05,
        "dropout": 0.3,
        "word_dropout": 0.1,
        "label_smoothing": 0.05,
        "embed_dim": 128,
        "num_layers": 2,
        "num_heads": 4,
        "ff_dim": 512,
        "vocab_size": 8000,
    },
    "finetune": {
        "epochs": 4,
        "learning_rate": 1.5e-4,
        "batch_size": 32,
        "layer_decay": 0.8,
        "average_over": 333,
        "dropout": 0.1,
        "phrases": 2000,
    },
    "distill": {
        "epochs": 8,
        "learning_rate": 5e-4,
        "batch_size": 64,
        "dropout": 0.1,
        "num_layers": 3,
        "ff_dim": 512,
        "vocab_size": 4000,
        "phrases": 20_000,
        "temperature": 2.0,
        "summary_weight": 1.0,
    },
}
COMMON = {
    "weight_decay": 0.01,
    "layer_decay": 1.0,
    "average_over": 1,
    "word_dropout": 0.0,
    "label_smoothing": 0.0,
    "temperature": 1.0,
    "summary_weight": 0.0,
}


@dataclass(frozen=True)
class Options:
    """What a run depends on. What is None is set by the method; `resolved` fills it in.

    Raises UserError, naming the flag, for values that make no sense.
    """

    method: Method = "scratch"
    """From random weights, from a pre-trained encoder, or from a teacher's answers."""
    epochs: int | None = None
    """Passes over the training texts. Default: 6 from scratch, 4 to fine-tune, 8 to distill."""
    batch_size: int | None = None
    """Texts a step, of all processes together. Default: 64, 32 to fine-tune."""
    learning_rate: float | None = None
    """Learning rate at its highest. Default: 1e-3 from scratch, 1.5e-4 to fine-tune, 5e-4 to distill."""
    weight_decay: float | None = None
    """Share of a matrix that is taken off a step, times the learning rate."""
    layer_decay: float | None = None
    """What the learning rate is multiplied by for every block further down. Default: 1, 0.8 to fine-tune."""
    average_over: int | None = None
    """Steps whose weights are averaged in those that are measured and kept. Default: 1, 333 to fine-tune."""
    dropout: float | None = None
    """Dropout everywhere in the model. Default: 0.3 from scratch, else 0.1."""
    word_dropout: float | None = None
    """Share of the training tokens that are replaced by [MASK]. Default: 0.1 from scratch, else 0."""
    label_smoothing: float | None = None
    """Share of certainty that labels give to the other class. Default: 0.05 from scratch, else 0."""
    temperature: float | None = None
    """What a student's and its teacher's logits are divided by before they are compared. Default: 2 to distill."""
    summary_weight: float | None = None
    """Weight of the distance between a student's summary of a text and its teacher's. Default: 1 to distill."""
    embed_dim: int | None = None
    """Width of an encoder from scratch; others have their teacher's. Default: 128."""
    num_heads: int | None = None
    """Attention heads a block from scratch; others have their teacher's. Default: 4."""
    num_layers: int | None = None
    """Blocks of an encoder from scratch, or a student. Default: 2, 3 for a student."""
    ff_dim: int | None = None
    """Size of the feed-forward networks of the same. Default: 512."""
    vocab_size: int | None = None
    """Entries of their WordPiece vocabulary. Default: 8,000 from scratch, 4,000 for a student."""
    phrases: int | None = None
    """Product phrases to train on, of the lesson's files. Default: all, 2,000 to fine-tune, 20,000 to distill."""
    sentences: int = 64_000
    """Sentences without labels, of the lesson's reviews, that the teacher is asked about."""
    copies: int = 4
    """Varied copies of every labelled sentence that the teacher is asked about as well."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type in which matrix products are computed while training."""
    seed: int = 0
    """Seed of the weights, the order, the dropout, and the division of a CSV."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        given = {field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None}
        sizes = ("embed_dim", "num_heads", "num_layers", "ff_dim")
        require_at_least(1, self, *(name for name in sizes if name in given))
        require_at_least(0, self, *({"phrases", "sentences", "copies"} & given))
        if self.vocab_size is not None:
            require_at_least(len(SPECIAL_TOKENS) + 1, self, "vocab_size")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise UserError(f"--dropout is {self.dropout}; it must be at least 0 and below 1")
        whole = self.resolved()
        whole.training()
        if self.method == "scratch" and whole.size("embed_dim") % whole.size("num_heads"):
            raise UserError(
                f"--embed_dim is {whole.embed_dim}; it must be a multiple of --num_heads, {whole.num_heads}"
            )

    def resolved(self) -> "Options":
        """The same with what the method sets filled in."""
        defaults = COMMON | DEFAULTS[self.method]
        left = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **left) if left else self

    def size(self, name: str) -> int:
        """A size that the method of a resolved run has."""
        value = getattr(self, name)
        assert value is not None, name
        return value

    def training(self) -> TrainingConfig:
        """The part that the training loop needs, of resolved options."""
        fields = {field.name for field in dataclasses.fields(TrainingConfig)} & set(vars(self))
        return TrainingConfig(**{name: getattr(self, name) for name in fields})

    def architecture(self, like: DistilBertConfig | None, vocab_size: int) -> DistilBertConfig:
        """The sizes of the model to train: of resolved options, with the width and heads of a teacher `like`."""
        rate = self.dropout or 0.0
        return DistilBertConfig(
            vocab_size=vocab_size,
            max_position_embeddings=min(MAX_LENGTH, like.max_position_embeddings) if like else MAX_LENGTH,
            dim=like.dim if like else self.size("embed_dim"),
            n_heads=like.n_heads if like else self.size("num_heads"),
            n_layers=self.size("num_layers"),
            hidden_dim=self.size("ff_dim"),
            dropout=rate,
            attention_dropout=rate,
            seq_classif_dropout=rate,
        )


@dataclass(frozen=True)
class Config:
    """Train a DistilBERT classifier: from scratch, from a pre-trained encoder, or from a teacher."""

    data: Path | None = None
    """Folder with the lesson's sentiment files, or a CSV with the columns text and label. Default: fetch some."""
    options: Options = dataclasses.field(default_factory=Options)
    """The run."""
    encoder: Path = ROOT / "runs/minilm"
    """Folder of the pre-trained encoder that is fine-tuned; minilm.py makes it."""
    teacher: Path | None = None
    """Folder of the classifier that answers for a student, made by --method finetune."""
    output_dir: Path = Path("runs/sentiment")
    """Folder for the model, its card and its figures; an earlier one is replaced only when the new one is whole."""
    resume: bool = False
    """Go on with the run whose checkpoint.pth lies in the output folder, with the settings it was started with."""
    checkpoint_every: int = 200
    """Steps between two checkpoints."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or mps."""
    num_threads: int | None = None
    """Threads that PyTorch uses. Default: what it takes by itself."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "checkpoint_every")
        if self.num_threads is not None:
            require_at_least(1, self, "num_threads")
        if (self.teacher is not None) != (self.options.method == "distill"):
            raise UserError(f"--teacher is {self.teacher}; --method distill needs the folder of one, the others none")
