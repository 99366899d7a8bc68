"""The options of a run of `train_language_model.py`, and its presets, which are instances of them."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lab.errors import UserError, require_at_least
from lab.training import TrainingKind, flag_defaults, given_value, restoring_state, run_to_resume
from language_model.data import NUM_BYTES, TextSplit, split_texts
from language_model.training import LanguageConfig

SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SOURCES = {  # of the preset's text, for the model card
    "shakespeare": "Tiny Shakespeare, plays in the public domain.",
    "shakespeare_gpu": "Tiny Shakespeare, plays in the public domain.",
    "books": "Novels and tales of Project Gutenberg, in the public domain in the United States.",
}


@dataclass(frozen=True)
class RunOptions:
    """Options beyond the training loop: text, tokenizer, files and intervals."""

    data: Path | None = None
    """A text file, or a folder of `.txt` files. Default: download Tiny Shakespeare with the `datasets` library."""
    preset: Literal["shakespeare", "shakespeare_gpu", "books"] = "shakespeare"
    """Sets the defaults of all other flags. `--preset books --help` shows those of the books preset."""
    output_dir: Path = Path("runs/language")
    """Folder for the model. The files of a model that is already there are replaced once the new one is complete."""
    resume: bool = False
    """Resume the run whose checkpoint.pth is in the output folder, with its settings. A larger `--num_steps` makes it
    longer; the learning-rate schedule is from there on that of the longer run."""
    device: str = "auto"
    """Device to train on: auto, cpu, cuda or mps."""
    held_out: tuple[str, ...] = ()
    """Files to validate on, by name without `.txt`. If there are none, the last tenth of every file is held out."""
    vocab_size: int = 0
    """Size of the byte-level BPE vocabulary; 0 for one token per character."""
    prompt: str = "ROMEO:\n"
    """Prompt of the samples."""
    evaluation_tokens: int = 20_000
    """Validation tokens per evaluation during training; the final evaluation uses all of them."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""


@dataclass(frozen=True)
class Config(LanguageConfig, RunOptions):  # in this order, so that --help begins with the fields of RunOptions
    """Train a small GPT-2 from random weights on text files.

    A preset gives all settings for one kind of text: `shakespeare` for a character-level model of Tiny Shakespeare,
    `shakespeare_gpu` for a larger one that needs a GPU, `books` for the language model that is bundled with the lab.
    Flags override the preset.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "evaluation_tokens", "checkpoint_every")
        if self.vocab_size and self.vocab_size <= NUM_BYTES:  # every byte and the end of text
            raise UserError(f"--vocab_size is {self.vocab_size}; it must be above {NUM_BYTES}, or 0 for characters")

    @classmethod
    def default_for(cls, arguments: Sequence[str]) -> "Config":
        """Return the defaults of the flags: the preset that command-line arguments choose, or the run that they resume.

        Raises UserError or OSError for a damaged checkpoint.
        """
        preset = given_value(arguments, "preset")
        default = PRESETS.get(preset or "", PRESETS["shakespeare"])  # the parser then rejects an unknown name
        run = run_to_resume(TRAINING, arguments, default.output_dir)
        if run is None:
            return default
        settings = flag_defaults(TRAINING, run) if preset is None else {}  # a preset counts as all of its flags
        data = run.paths.get("data")
        with restoring_state():
            return dataclasses.replace(default, data=Path(data) if data else None, **settings)

    def settings(self) -> dict[str, Any]:
        """Return the settings that a checkpoint keeps, by the name of their flag."""
        names = [field.name for field in dataclasses.fields(self) if field.name not in ("data", "output_dir", "resume")]
        return {name: getattr(self, name) for name in names}

    def training(self) -> LanguageConfig:
        """Return the settings of the training loop alone."""
        names = [field.name for field in dataclasses.fields(LanguageConfig)]
        return LanguageConfig(**{name: getattr(self, name) for name in names})


PRESETS = {
    "shakespeare": Config(),
    "shakespeare_gpu": Config(  # the sizes of nanoGPT's character-level model
        preset="shakespeare_gpu",
        embed_dim=384,
        num_layers=6,
        num_heads=6,
        context=256,
        batch_size=64,
        dropout=0.3,
        num_steps=2500,
        precision="bfloat16",
        evaluate_every=500,
    ),
    "books": Config(
        preset="books",
        held_out=("austen-persuasion", "sawyer-twain"),
        vocab_size=2048,
        prompt="It was",
        embed_dim=256,
        num_layers=5,
        num_heads=4,
        context=512,
        batch_size=8,
        num_steps=6000,
        learning_rate=7e-3,
        warmup_steps=100,
        evaluate_every=500,
    ),
}


TRAINING = TrainingKind(
    "a language model's training run",
    defaults=Config().settings(),
    length="num_steps",
    places=frozenset({"device", "checkpoint_every"}),
    added=frozenset(field.name for field in dataclasses.fields(RunOptions)),
)


def download_shakespeare(config: Config) -> TextSplit:
    """Download Tiny Shakespeare. Raises UserError if the run holds out files by name, and if the download fails."""
    if config.held_out:
        raise UserError("--data is missing: a folder of .txt files, books of Project Gutenberg for example")
    if importlib.util.find_spec("datasets") is None:
        raise UserError("--data is missing; to download Tiny Shakespeare instead: pip install datasets")
    from datasets import load_dataset  # pyright: ignore[reportMissingImports] - optional

    try:
        text = load_dataset("text", data_files=SHAKESPEARE_URL, sample_by="document", split="train")[0]["text"]
    except Exception as error:  # a network can fail in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"--data is missing, and Tiny Shakespeare cannot be downloaded ({reason})") from None
    return split_texts({"tiny_shakespeare": text}, (), source="Tiny Shakespeare")
