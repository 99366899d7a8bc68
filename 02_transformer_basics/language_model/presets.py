"""The two lessons of `train_language_model.py`: their settings, and where their text comes from."""

import dataclasses
import importlib.util
from dataclasses import dataclass

from lab.errors import UserError
from language_model.data import Texts, split
from language_model.training import LanguageConfig

SHAKESPEARE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"


@dataclass(frozen=True)
class Preset:
    """The settings of a lesson."""

    model: LanguageConfig
    vocab_size: int  # 0: characters
    held_out: tuple[str, ...]
    prompt: str
    source: str


PRESETS = {
    "shakespeare": Preset(
        model=LanguageConfig(),
        vocab_size=0,
        held_out=(),
        prompt="ROMEO:\n",
        source="Tiny Shakespeare, plays in the public domain.",
    ),
    "books": Preset(
        model=LanguageConfig(
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
        vocab_size=2048,
        held_out=("austen-persuasion", "sawyer-twain"),
        prompt="It was",
        source="Novels and tales of Project Gutenberg, in the public domain in the United States.",
    ),
}


def describe_presets() -> str:
    """The settings of all presets, for --help."""
    lines = []
    for name, preset in PRESETS.items():
        own = {"vocab_size": preset.vocab_size, "held_out": " ".join(preset.held_out) or "(the last tenth)"}
        settings = dataclasses.asdict(preset.model) | own
        lines.append(f"--preset {name}: " + ", ".join(f"{key} {value}" for key, value in settings.items()) + ".")
    return "\n\n".join(lines)


def fetch(preset: Preset) -> Texts:
    """Tiny Shakespeare from the network. Raises UserError for other presets, and where it cannot be had."""
    if preset.held_out:
        raise UserError("--data is missing: a folder of .txt files, books of Project Gutenberg for example")
    if importlib.util.find_spec("datasets") is None:
        raise UserError("--data is missing; the library datasets fetches tiny Shakespeare: pip install datasets")
    from datasets import load_dataset  # pyright: ignore[reportMissingImports] - optional

    try:
        text = load_dataset("text", data_files=SHAKESPEARE, sample_by="document", split="train")[0]["text"]
    except Exception as error:  # one of the many ways in which a network fails
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"--data is missing, and tiny Shakespeare cannot be fetched ({reason})") from None
    return split({"tiny_shakespeare": text}, (), "tiny Shakespeare")
