"""The demonstration of `bpe_tokenizer.py`: texts, printing, and the reference from the `tokenizers` library."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import tokenizers
from rich.console import Console
from rich.text import Text

from lab.texts import printable
from tokenizer.byte_level import ALPHABET, CHAR_TO_BYTE
from tokenizer.training import Merge

STORY = """\
The mouse in the maze looked for the cheese. The cheese was in the middle of the maze, and the mouse was not. It walked
along the walls, it looked around the corners, it turned where the walls turned, and it walked on. At the first corner
the mouse thought: if I walk to the left, I have walked there before. So the mouse walked to the right. At the second
corner the mouse thought the same, and walked the other way. Walking and thinking, thinking and walking, the mouse came
nearer to the cheese. "There it is," thought the mouse, and there it was: the biggest cheese in the biggest maze. The
mouse that had been looking was now eating, and the eating took longer than the looking.
"""
EXAMPLE = "The mouse thinks: “I’ve walked 1024 miles!” 🧀"
MAX_TOKENS = 100  # that are printed of a text
FIRST_MERGES = 20  # all of which are printed


def reference_tokenizer(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], special: Iterable[str] = ()
) -> tokenizers.Tokenizer:
    """Return the library's byte-level BPE tokenizer with this vocabulary, without normalization."""
    return _byte_level(tokenizers.models.BPE(dict(vocabulary), list(merges)), special)


def reference_merges(text: str, vocab_size: int) -> list[tuple[str, str]]:
    """Return the merges that the library learns from `text`, in order."""
    library = _byte_level(tokenizers.models.BPE())
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator([text], trainer)
    return [tuple(merge) for merge in json.loads(library.to_str())["model"]["merges"]]


def _byte_level(model: tokenizers.models.BPE, special: Iterable[str] = ()) -> tokenizers.Tokenizer:
    library = tokenizers.Tokenizer(model)
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    library.add_special_tokens(list(special))
    return library


def readable(token: bytes) -> str:
    """Return a token in brackets; incomplete characters and control characters are escaped."""
    return "[" + printable(token.decode("utf-8", errors="backslashreplace")).replace("\n", "\\n") + "]"


def print_merges(merges: Iterable[Merge], max_merges: int) -> Iterator[Merge]:
    """Yield the merges and print them as they are learned: the first 20, and about 20 of the others."""
    tokens = [bytes([CHAR_TO_BYTE[character]]) for character in ALPHABET]
    print(f"{'merge':>6} {'id':>6} {'count':>7}  pair -> token")
    for number, merge in enumerate(merges, 1):
        left, right = (tokens[symbol] for symbol in merge.pair)
        tokens.append(left + right)
        if number <= FIRST_MERGES or number % max(1, max_merges // 20) == 0:
            row = f"{readable(left)} {readable(right)} -> {readable(left + right)}"
            print(f"{number:>6} {merge.token:>6} {merge.frequency:>7,}  {row}")
        yield merge


def print_tokens(name: str, tokens: Sequence[bytes]) -> None:
    """Print the tokens of a text in a row, in two alternating colors if the terminal has colors."""
    row = Text(f"\n{name}: {len(tokens):,} tokens\n")
    for token, style in zip(tokens[:MAX_TOKENS], itertools.cycle(("black on yellow", "black on cyan")), strict=False):
        row.append(readable(token), style)
    if len(tokens) > MAX_TOKENS:
        row.append(f" and {len(tokens) - MAX_TOKENS:,} more")
    Console(highlight=False, soft_wrap=True).print(row)


def print_bytes(tokens: Mapping[int, bytes], ids: Sequence[int]) -> None:
    """Print each distinct token of `ids` with its bytes and its id."""
    print(f"\n{'token':<14} {'bytes':<24} {'id':>6}")
    for id in dict.fromkeys(ids[:MAX_TOKENS]):
        print(f"{readable(tokens[id]):<14} {tokens[id].hex(' '):<24} {id:>6}")
