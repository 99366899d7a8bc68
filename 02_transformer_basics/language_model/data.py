"""Text for a language model: read, split into training and validation, tokenized, cut into windows.

Text is encoded in pieces into one array of small integers, so that it takes a few bytes of memory per character.

Shapes: B batch, T time (positions of a window), N tokens of the whole text, W windows of an epoch.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lab.distributed import rank, world_size
from lab.errors import UserError
from lab.files import read_text

END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "\ufffd"  # the unknown token of a character-level vocabulary
IGNORE_INDEX = -100  # targets with this value are skipped by cross_entropy
NUM_BYTES = 256
PIECE = 16_000  # characters that are encoded at a time, at least: a tokenizer needs some 200 bytes for each
PIECES_AT_ONCE = 16  # on all cores
MAX_CHARACTERS_IN_MEMORY = 100_000_000  # the ids of a longer text are in a temporary file
TOKENIZER_SAMPLE = 20_000_000  # characters that a BPE tokenizer is trained on, at most
# Where a text can be cut without a difference to its tokens: GPT-2's pre-tokenizer splits there in any case, since none
# of its patterns has a letter or sign before a space or line break, nor a letter or digit before a punctuation mark.
CUT = re.compile(r"\S(?=[ \n])|[^\W_](?=[.,;:!?。，、；：！？])")


@dataclass(frozen=True)
class TextSplit:
    """Training texts and validation texts, by name."""

    training: dict[str, str]
    validation: dict[str, str]


def read_texts(data: Path, held_out: Sequence[str] = ()) -> TextSplit:
    """Read a file, or every `.txt` file of a folder, and split off the validation texts.

    Args:
        held_out: names, without `.txt`, of the files to validate on; if empty, the last tenth of every file.

    Raises OSError for files that cannot be read; UserError if a file is not UTF-8 or either side would be empty.
    """
    paths = sorted(data.glob("*.txt")) if data.is_dir() else [data]
    texts = {path.stem: read_text(path) for path in paths}
    return split_texts(texts, held_out, source=str(data))


def split_texts(texts: dict[str, str], held_out: Sequence[str], source: str) -> TextSplit:
    """Split texts by name into training and validation, as `read_texts` does; error messages name the `source`."""
    for name in held_out:
        if name not in texts:
            raise UserError(f"{source}: no {name}.txt, which --held_out names")
    if held_out:
        training = {name: text for name, text in texts.items() if name not in held_out}
        validation = {name: texts[name] for name in held_out}
    else:
        training = {name: text[: len(text) * 9 // 10] for name, text in texts.items()}
        validation = {name: text[len(text) * 9 // 10 :] for name, text in texts.items()}
    training = {name: text for name, text in training.items() if text}
    validation = {name: text for name, text in validation.items() if text}
    if not training:
        raise UserError(f"{source}: no text to train on")
    if not validation:
        raise UserError(f"{source}: no text to validate on")
    return TextSplit(training, validation)


def sample_texts(texts: Mapping[str, str], num_characters: int) -> dict[str, str]:
    """Return the beginning of every text, the same fraction of each, so that all have `num_characters` at most."""
    total = sum(map(len, texts.values()))
    if total <= num_characters:
        return dict(texts)
    return {name: text[: max(len(text) * num_characters // total, 1)] for name, text in texts.items()}


def cut_text(text: str) -> Iterator[str]:
    """Yield a text in pieces of PIECE characters or a few more, whose tokens together are those of the text."""
    start = 0
    while start < len(text):
        cut = CUT.search(text, start + PIECE)
        end = cut.end() if cut else len(text)
        yield text[start:end]
        start = end


def byte_pair_tokenizer(texts: Sequence[str], vocab_size: int, context: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, as GPT-2 has it: it encodes any text, and decoding gives the text back.

    Of longer texts it sees the first TOKENIZER_SAMPLE characters.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sample = sample_texts({str(number): text for number, text in enumerate(texts)}, TOKENIZER_SAMPLE)
    tokenizer.train_from_iterator((piece for text in sample.values() for piece in cut_text(text)), trainer)
    return _wrap(tokenizer, context, unknown=END_OF_TEXT)


def character_tokenizer(texts: Sequence[str], context: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per character of `texts`; any other character becomes U+FFFD."""
    characters = sorted({character for text in texts for character in set(text)} | {UNKNOWN})
    vocabulary = {END_OF_TEXT: 0} | {character: id for id, character in enumerate(characters, 1)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))  # BPE without merges
    tokenizer.decoder = decoders.Fuse()
    return _wrap(tokenizer, context, unknown=UNKNOWN)


def tokenizer_from_json(text: str, context: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of either kind from the contents of its tokenizer.json."""
    tokenizer = Tokenizer.from_str(text)
    return _wrap(tokenizer, context, unknown=tokenizer.model.unk_token or END_OF_TEXT)


def _wrap(tokenizer: Tokenizer, context: int, unknown: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=unknown,
    )


def encode_texts(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """Return the token ids of all texts in one row, an end-of-text token before each: (N,), uint16 or uint32.

    They are the ids of encoding each text as a whole. Those of a long text are mapped from a temporary file, which
    disappears with the tensor. Raises OSError, naming the folder, if it has no room for that file.
    """
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
    pieces = _encode_in_pieces(tokenizer, texts, dtype)
    if sum(map(len, texts)) <= MAX_CHARACTERS_IN_MEMORY:
        return torch.from_numpy(np.concatenate([np.empty(0, dtype), *pieces]))
    try:
        with tempfile.TemporaryFile() as file:
            for piece in pieces:
                file.write(piece.data)
            file.flush()
            return torch.from_numpy(np.memmap(file, dtype, mode="r+"))
    except OSError as error:
        raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from None


def _encode_in_pieces(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], dtype: np.dtype[Any]
) -> Iterator[NDArray[Any]]:
    """Yield the ids of the texts, a few pieces at a time."""
    for text in texts:
        yield np.array([tokenizer.bos_token_id], dtype)
        pieces = cut_text(text)
        while some := list(islice(pieces, PIECES_AT_ONCE)):
            for encoding in tokenizer.backend_tokenizer.encode_batch_fast(some, add_special_tokens=False):
                yield np.array(encoding.ids, dtype)


@dataclass
class Windows:
    """An endless stream of batches of windows; every epoch has each token but the first as a target exactly once.

    Each epoch cuts the text at a different offset and shuffles the windows; both depend on `seed` and the epoch alone.
    A batch that reaches the end of an epoch is completed from the next one. With several processes each gets its slice
    of every batch. The first or last window of an epoch may hold fewer targets than the others: it is filled up with
    the tokens next to it, whose targets are ignored.
    """

    ids: Tensor  # (N,), integers of any size
    context: int
    batch_size: int  # of all processes together
    seed: int
    epoch: int = 0
    position: int = 0  # windows of this epoch that are done

    def __post_init__(self) -> None:
        if len(self.ids) <= self.context:
            raise UserError(f"--context is {self.context}, but the whole training text has only {len(self.ids)} tokens")
        if self.batch_size % world_size():
            raise UserError(f"--batch_size {self.batch_size} is not a multiple of the {world_size()} processes")
        self.windows = self.shuffle_epoch()

    def shuffle_epoch(self) -> Tensor:
        """Return the windows of this epoch, shuffled: (W, 2), the start and the end (exclusive) of their targets."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
        offset = int(torch.randint(self.context, (), generator=generator))
        inner_starts = torch.arange(1 + offset, len(self.ids), self.context)  # (W,) or (W - 1,)
        starts = torch.cat([torch.ones(1, dtype=torch.long), inner_starts]).unique()  # (W,)
        ends = torch.cat([starts[1:], torch.tensor([len(self.ids)])])  # (W,)
        windows = torch.stack([starts, ends], dim=1)  # (W,), (W,) -> (W, 2)
        return windows[torch.randperm(len(windows), generator=generator)]

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """Return this process's slice of the next batch: inputs and targets, both (B, T)."""
        parts: list[Tensor] = []
        missing = self.batch_size
        while missing:
            part = self.windows[self.position : self.position + missing]  # (at most missing, 2)
            parts.append(part)
            missing -= len(part)
            self.position += len(part)
            if self.position == len(self.windows):
                self.epoch += 1
                self.position = 0
                self.windows = self.shuffle_epoch()
        batch = torch.cat(parts)  # (batch_size, 2)
        return self.inputs_and_targets(batch[rank() :: world_size()])

    def inputs_and_targets(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Turn windows (B, 2) into inputs (B, T) and targets (B, T), which are IGNORE_INDEX outside of the window."""
        start, end = windows.split(1, dim=1)  # (B, 2) -> (B, 1), (B, 1)
        first = start.clamp(max=len(self.ids) - self.context)  # (B, 1): a short last window begins earlier
        positions = first + torch.arange(self.context)  # (B, 1) + (T,) -> (B, T)
        outside = (positions < start) | (positions >= end)  # (B, T)
        targets = self.ids[positions].long().masked_fill(outside, IGNORE_INDEX)  # (B, T)
        inputs = self.ids[positions - 1].long()  # (B, T)
        return inputs, targets

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the stream."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a `state_dict`. Raises ValueError for a position that is none."""
        self.epoch = state["epoch"]
        self.position = state["position"]
        self.windows = self.shuffle_epoch()
        if not 0 <= self.position < len(self.windows):
            raise ValueError(f"the position {self.position} is outside of the {len(self.windows)} windows")
