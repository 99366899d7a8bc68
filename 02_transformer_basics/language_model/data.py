"""Text for a language model: read, split into training and validation, turned into tokens, cut into windows.

Shapes: B batch, T time (positions of a window), N tokens of the whole text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lab.distributed import rank, world_size
from lab.errors import UserError
from lab.files import read_text

END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "\ufffd"  # stands for characters that a character-level vocabulary lacks
NO_TARGET = -100  # what cross_entropy leaves out
BYTES = 256


@dataclass(frozen=True)
class Texts:
    """What a model learns from, and what it is measured on and never sees, both by name."""

    training: dict[str, str]
    validation: dict[str, str]


def read_texts(data: Path, held_out: Sequence[str] = ()) -> Texts:
    """Read a file, or every `.txt` of a folder, and set validation apart: the files that `held_out` names, without
    `.txt`; if it names none, the last tenth of every file.

    Raises OSError for what cannot be read; UserError for no UTF-8, and where either side would be empty.
    """
    paths = sorted(data.glob("*.txt")) if data.is_dir() else [data]
    return split({path.stem: read_text(path) for path in paths}, held_out, str(data))


def split(texts: dict[str, str], held_out: Sequence[str], source: str) -> Texts:
    """Set validation apart, as `read_texts` says; `source` is what mistakes are told of."""
    for name in held_out:
        if name not in texts:
            raise UserError(f"{source}: no {name}.txt, which --held_out asks for")
    if held_out:
        training = {name: text for name, text in texts.items() if name not in held_out}
        validation = {name: texts[name] for name in held_out}
    else:
        training = {name: text[: len(text) * 9 // 10] for name, text in texts.items()}
        validation = {name: text[len(text) * 9 // 10 :] for name, text in texts.items()}
    for part, what in ((training, "to train on"), (validation, "to measure the model on")):
        if not any(part.values()):
            raise UserError(f"{source}: no text {what}")
    return Texts(*({name: text for name, text in part.items() if text} for part in (training, validation)))


def byte_pair_tokenizer(texts: Sequence[str], vocab_size: int, context: int) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE vocabulary, as GPT-2 has it: any text is encoded, and decoded to the same text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _wrapped(tokenizer, context, unknown=END_OF_TEXT)


def character_tokenizer(texts: Sequence[str], context: int) -> PreTrainedTokenizerFast:
    """One token for every character of `texts`; any other becomes U+FFFD, which says that something was there."""
    characters = sorted({character for text in texts for character in set(text)} | {UNKNOWN})
    vocabulary = {END_OF_TEXT: 0} | {character: number for number, character in enumerate(characters, 1)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))  # pairs are never merged
    tokenizer.decoder = decoders.Fuse()
    return _wrapped(tokenizer, context, unknown=UNKNOWN)


def _wrapped(tokenizer: Tokenizer, context: int, unknown: str) -> PreTrainedTokenizerFast:
    special = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": unknown}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=context, clean_up_tokenization_spaces=False, **special
    )


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """All texts in a row, an end-of-text token before each: (N,)."""
    ids: list[int] = []
    for text in texts:
        ids += [tokenizer.bos_token_id, *tokenizer.encode(text, verbose=False)]
    return torch.tensor(ids)


@dataclass
class Windows:
    """Batches of windows, without end; an epoch after the other visits every token of `ids` but the first once.

    In every epoch the text is cut anew, from another place on, and the windows come in another order; both follow from
    `seed` and the epoch alone. A batch takes up the next epoch where one ends. Each of several processes gets its share
    of every batch. Where a cut leaves a piece shorter than a window, the tokens around it are read as well, but count
    as targets in their own window only.
    """

    ids: Tensor  # (N,)
    context: int
    batch_size: int  # over all processes
    seed: int
    epoch: int = 0
    position: int = 0  # windows of the epoch that are done

    def __post_init__(self) -> None:
        if len(self.ids) <= self.context:
            raise UserError(f"--context is {self.context}; the whole training text has only {len(self.ids)} tokens")
        if self.batch_size % world_size():
            raise UserError(f"--batch_size {self.batch_size} is no multiple of the {world_size()} processes")
        self.windows = self.cut()

    def cut(self) -> Tensor:
        """The epoch's windows in its order: (windows, 2), the first of each's targets and the one after the last."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
        offset = int(torch.randint(self.context, (), generator=generator))
        inner = torch.arange(1 + offset, len(self.ids), self.context)  # (windows,)
        starts = torch.cat([torch.ones(1, dtype=torch.long), inner]).unique()
        ends = torch.cat([starts[1:], torch.tensor([len(self.ids)])])
        pairs = torch.stack([starts, ends], dim=1)  # (windows,), (windows,) -> (windows, 2)
        return pairs[torch.randperm(len(pairs), generator=generator)]

    def next(self) -> tuple[Tensor, Tensor]:
        """This process's share of the next batch: what is read and what is to be foretold, both (B, T)."""
        taken: list[Tensor] = []
        missing = self.batch_size
        while missing:
            part = self.windows[self.position : self.position + missing]
            taken, missing, self.position = [*taken, part], missing - len(part), self.position + len(part)
            if self.position == len(self.windows):
                self.epoch, self.position = self.epoch + 1, 0
                self.windows = self.cut()
        return self.read(torch.cat(taken)[rank() :: world_size()])

    def read(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """windows (B, 2) -> inputs (B, T), targets (B, T) with NO_TARGET where a token is another window's."""
        first, end = windows.split(1, dim=1)  # (B, 2) -> (B, 1), (B, 1)
        places = first.clamp(max=len(self.ids) - self.context) + torch.arange(self.context)  # (B, 1) -> (B, T)
        targets = self.ids[places].masked_fill((places < first) | (places >= end), NO_TARGET)
        return self.ids[places - 1], targets

    def state_dict(self) -> dict[str, Any]:
        """How far it has come."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.epoch, self.position = state["epoch"], state["position"]
        self.windows = self.cut()
