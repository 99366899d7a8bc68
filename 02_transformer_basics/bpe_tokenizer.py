"""Byte-level byte-pair encoding, the tokenizer of GPT-2, from the bytes up: train, encode, decode.
Run this file to watch it learn: each merge as it comes, then a sentence cut into tokens, their ids, and the way back.

    text -> pieces, about words -> bytes of a piece -> pairs merged, the earliest learned first -> token ids
            byte_level.py                              bpe_training.py learns which

A *symbol* is the id of a token inside a piece: at first one a byte, after every merge fewer. The slow and the fast way
to merge stand side by side (`merge_by_scanning`, `merge_by_queue`) and give the same. For teaching: the models of this
lab use the `tokenizers` library, to which all of this is proven equal.

Sources: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; Radford et al. 2019,
"Language Models are Unsupervised Multitask Learners", section 2.2.
"""

import heapq
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tokenizers
import tyro
from rich.console import Console
from rich.text import Text

from lab.errors import UserError, require_at_least
from lab.files import ROOT, atomic, read_text, write_json
from lab.launch import launch, warn_once
from lab.record import RunRecord
from lab.texts import collect_texts, printable
from tokenizer.byte_level import ALPHABET, BYTE_OF, CHARACTERS, split
from tokenizer.training import Merge, Pair, learn_merges, merge_pair


class Rule(NamedTuple):
    """What becomes of a pair: its rank, 0 learned first, and the token that it makes."""

    rank: int
    token: int


def merge_by_scanning(symbols: list[int], rules: Mapping[Pair, Rule]) -> list[int]:
    """Merge the pair that was learned first, wherever it stands, until no rule applies: the idea in four lines.
    Every round looks at the whole piece, and the longer the piece, the more rounds: fine for words, not for 100,000
    letters without a space.
    """
    while known := [pair for pair in itertools.pairwise(symbols) if pair in rules]:
        pair = min(known, key=lambda each: rules[each].rank)
        symbols = merge_pair(symbols, pair, rules[pair].token)
    return symbols


def merge_by_queue(symbols: list[int], rules: Mapping[Pair, Rule]) -> list[int]:
    """The same in n log n steps: a queue of the merges that are possible, and each symbol knows its neighbours."""
    symbols, end = list(symbols), len(symbols)
    before, after = list(range(-1, end - 1)), list(range(1, end + 1))
    queue: list[tuple[int, int, Pair]] = []

    def offer(left: int, right: int) -> None:
        if left >= 0 and right < end and (pair := (symbols[left], symbols[right])) in rules:
            heapq.heappush(queue, (rules[pair].rank, left, pair))  # equal ranks: the leftmost first

    for position in range(end - 1):
        offer(position, position + 1)
    while queue:
        _, left, pair = heapq.heappop(queue)
        right = after[left]
        if right == end or (symbols[left], symbols[right]) != pair:
            continue  # one of the two has been merged with another neighbour since
        symbols[left], symbols[right] = rules[pair].token, -1  # the left place holds the token, the right one nothing
        after[left] = after[right]
        if after[right] < end:
            before[after[right]] = left
        offer(before[left], left)
        offer(left, after[left])
    return [symbol for symbol in symbols if symbol >= 0]


class BytePairTokenizer:
    """Text to token ids and back; any text comes back as it was.

    Args:
        vocabulary: id of every token, tokens written in byte characters. What neither is a byte nor comes of a merge is
            a special token, such as `<|endoftext|>`: it is written as it is, and found in texts before all else.
        merges: pairs of tokens, in the order in which they were learned.
    Attributes: tokens, the bytes of every id; rules; special, the ids of the special tokens.
    Raises UserError where the vocabulary lacks a byte or what a merge names or makes.
    """

    def __init__(self, vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> None:
        made = {left + right for left, right in merges}
        for token in (*CHARACTERS, *made, *itertools.chain.from_iterable(merges)):
            if token not in vocabulary:
                raise UserError(f"the vocabulary lacks {token!r}, which is a byte or part of a merge")
        self.vocabulary, self.merges = dict(vocabulary), list(merges)
        self.rules = {
            (vocabulary[left], vocabulary[right]): Rule(rank, vocabulary[left + right])
            for rank, (left, right) in enumerate(merges)
        }
        self.special = {token: id for token, id in vocabulary.items() if token not in made and token not in BYTE_OF}
        self.tokens = {
            id: token.encode("utf-8") if token in self.special else bytes(BYTE_OF[character] for character in token)
            for token, id in vocabulary.items()
        }
        longest_first = sorted(filter(None, self.special), key=len, reverse=True)
        self._special = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None
        self._symbol_of = [vocabulary[character] for character in CHARACTERS]  # of each byte

    @classmethod
    def train(cls, text: str, vocab_size: int, min_frequency: int = 1) -> "BytePairTokenizer":
        """A tokenizer learned from `text`; arguments and errors as in `learn_merges`."""
        return cls.from_merges(learn_merges(text, vocab_size, min_frequency))

    @classmethod
    def from_merges(cls, merges: Iterable[Merge]) -> "BytePairTokenizer":
        """The tokenizer that these learned merges make."""
        tokens, pairs = list(ALPHABET), []
        for (left, right), _, _ in merges:
            pairs.append((tokens[left], tokens[right]))
            tokens.append(tokens[left] + tokens[right])
        return cls({token: number for number, token in enumerate(tokens)}, pairs)

    @classmethod
    def from_folder(cls, folder: Path) -> "BytePairTokenizer":
        """Read `vocab.json` and `merges.txt`, or `encoder.json` and `vocab.bpe` as OpenAI published them.

        Raises UserError, naming the file, where they are missing or damaged.
        """
        for names in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
            vocabulary, merges = (folder / name for name in names)
            if vocabulary.is_file() and merges.is_file():
                try:
                    return cls(_read_vocabulary(vocabulary), _read_merges(merges))
                except UserError as error:
                    raise UserError(str(error) if str(folder) in str(error) else f"{folder}: {error}") from None
        raise UserError(f"{folder}: no vocab.json and merges.txt in it, nor encoder.json and vocab.bpe")

    def save(self, folder: Path) -> None:
        """Write `vocab.json` and `merges.txt`, which the `tokenizers` library reads too. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "vocab.json", self.vocabulary)
        with atomic(folder / "merges.txt") as temporary:
            lines = ("#version: 0.2", *(f"{left} {right}" for left, right in self.merges))
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`. Raises UserError for text as in `split`."""
        ids, known = [], {}  # a text repeats its words: each different piece is merged once
        for number, part in enumerate(self._special.split(text) if self._special else [text]):
            if number % 2:
                ids.append(self.special[part])
                continue
            for piece in split(part):
                if piece not in known:
                    symbols = [self._symbol_of[byte] for byte in piece.encode("utf-8")]
                    known[piece] = merge_by_queue(symbols, self.rules)
                ids += known[piece]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids. Bytes that are no UTF-8, as when a character is cut in two, become U+FFFD.

        Raises UserError for an id that is not in the vocabulary.
        """
        try:
            return b"".join(self.tokens[id] for id in ids).decode("utf-8", errors="replace")
        except KeyError as error:
            raise UserError(f"token id {error} is not in the vocabulary of {len(self.vocabulary):,} tokens") from None


def _read_vocabulary(path: Path) -> dict[str, int]:
    try:
        vocabulary = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    ids = vocabulary.values() if isinstance(vocabulary, dict) else [""]
    if not all(type(id) is int and id >= 0 for id in ids) or len(set(ids)) < len(ids):
        raise UserError(f"{path}: not a vocabulary; tokens, each with an id of its own, are expected")
    return vocabulary


def _read_merges(path: Path) -> list[tuple[str, str]]:
    merges = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line and not line.startswith("#version"):
            left, _, right = line.partition(" ")
            if not (left and right) or " " in right:
                raise UserError(f"{path}, line {number}: two tokens with a space between them are expected")
            merges.append((left, right))
    return merges


# --- demonstration: learn from a small text, cut a sentence, compare with the library ---------------------------------

STORY = """\
The mouse in the maze looked for the cheese. The cheese was in the middle of the maze, and the mouse was not. It walked
along the walls, it looked around the corners, it turned where the walls turned, and it walked on. At the first corner
the mouse thought: if I walk to the left, I have walked there before. So the mouse walked to the right. At the second
corner the mouse thought the same, and walked the other way. Walking and thinking, thinking and walking, the mouse came
nearer to the cheese. "There it is," thought the mouse, and there it was: the biggest cheese in the biggest maze. The
mouse that had been looking was now eating, and the eating took longer than the looking.
"""
SHOWN = 100  # tokens of a row
EXAMPLE = "The mouse thinks: “I’ve walked 1024 miles!” 🧀"
GPT2_FILES = ROOT.parent / "shared/data/gpt2_bpe"


@dataclass(frozen=True)
class Config:
    """Learn a byte-level BPE vocabulary, cut texts into its tokens, and compare with the `tokenizers` library."""

    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts to encode; `-` reads them from standard input, one a line. A built-in example if there are none."""
    data: Path | None = None
    """UTF-8 file to learn from. Default: a short story in this file."""
    vocab_size: int = 320
    """Tokens to learn, the 256 bytes included."""
    gpt2: Path | None = None
    """Folder with GPT-2's vocab.json and merges.txt. Default: ../shared/data/gpt2_bpe beside the lab, where it is."""
    output_dir: Path = Path(__file__).parent / "results"
    """Folder for the record of the run, and for the learned vocabulary in the folder bpe_tokenizer there."""

    def __post_init__(self) -> None:
        require_at_least(len(ALPHABET), self, "vocab_size")


def library_tokenizer(model: tokenizers.models.BPE, special: Iterable[str] = ()) -> tokenizers.Tokenizer:
    """The library's tokenizer of the same kind: GPT-2's pieces, bytes, no normalisation."""
    library = tokenizers.Tokenizer(model)
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    library.add_special_tokens(list(special))
    return library


def library_merges(text: str, vocab_size: int) -> list[tuple[str, str]]:
    """The merges that the library learns from `text`, in order."""
    library = library_tokenizer(tokenizers.models.BPE())
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator([text], trainer)
    return [tuple(merge) for merge in json.loads(library.to_str())["model"]["merges"]]


def readable(token: bytes) -> str:
    """A token in brackets; bytes that are no whole character, and what would steer a terminal, as escapes."""
    return "[" + printable(token.decode("utf-8", errors="backslashreplace")).replace("\n", "\\n") + "]"


def watch_merges(merges: Iterable[Merge], most: int) -> Iterator[Merge]:
    """Pass the merges on and print them as they are learned: the first 20, and of the others (at most `most`) some."""
    tokens = [bytes([BYTE_OF[character]]) for character in ALPHABET]
    print(f"{'merge':>6} {'id':>6} {'times':>7}  pair -> token")
    for number, merge in enumerate(merges, 1):
        left, right = (tokens[symbol] for symbol in merge.pair)
        tokens.append(left + right)
        if number <= 20 or number % max(1, most // 20) == 0:
            row = f"{readable(left)} {readable(right)} -> {readable(left + right)}"
            print(f"{number:>6} {merge.token:>6} {merge.times:>7,}  {row}")
        yield merge


def show_row(name: str, tokenizer: BytePairTokenizer, ids: list[int]) -> None:
    """The tokens side by side, in turns of two colours where the terminal has colours."""
    row = Text(f"\n{name}: {len(ids):,} tokens\n")
    for number, id in enumerate(ids[:SHOWN]):
        row.append(readable(tokenizer.tokens[id]), "black on cyan" if number % 2 else "black on yellow")
    row.append(f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else "")
    Console(highlight=False, soft_wrap=True).print(row)


def show_bytes(tokenizer: BytePairTokenizer, ids: list[int]) -> None:
    """Each different token with its bytes and its id, then all ids in a row and the text that they give back."""
    print(f"\n{'token':<14} {'bytes':<24} {'id':>6}")
    for id in dict.fromkeys(ids[:SHOWN]):
        print(f"{readable(tokenizer.tokens[id]):<14} {tokenizer.tokens[id].hex(' '):<24} {id:>6}")
    print("\nencoded:", *ids[:SHOWN])
    print("decoded:", printable(tokenizer.decode(ids[:SHOWN])), end="\n\n")


def compare(tokenizer: BytePairTokenizer, texts: Sequence[str]) -> tuple[str, str, bool]:
    """Encode with the library too, and decode: a figure in words, what is expected, whether it is so."""
    library = library_tokenizer(tokenizers.models.BPE(tokenizer.vocabulary, tokenizer.merges), tokenizer.special)
    ids = [tokenizer.encode(text) for text in texts]
    same = all(ours == library.encode(text).ids for text, ours in zip(texts, ids, strict=True))
    back = all(tokenizer.decode(ours) == text for text, ours in zip(texts, ids, strict=True))
    figure = f"{sum(map(len, ids)):,} {'equal' if same else 'NOT equal'}, text {'' if back else 'NOT '}back whole"
    return figure, "equal, text back whole", same and back


def main(config: Config) -> None:
    """Learn, show, compare, record."""
    texts = collect_texts(config.texts, None, (EXAMPLE,))
    source = read_text(config.data) if config.data else STORY
    if not source.strip():
        raise UserError(f"{config.data}: no text in it to learn from")
    folder = config.gpt2 or (GPT2_FILES if GPT2_FILES.is_dir() else None)
    gpt2 = BytePairTokenizer.from_folder(folder) if folder else None
    record = RunRecord(__file__, config.output_dir, config)
    most = config.vocab_size - len(ALPHABET)
    merges = list(watch_merges(learn_merges(source, config.vocab_size), most))
    if len(merges) < most:
        warn_once(f"after {len(merges):,} merges, not {most:,}, every piece of the text is one token")
    stages = {n: BytePairTokenizer.from_merges(merges[:n]) for n in (0, len(merges) // 4, len(merges))}
    shown = {f"after {n:,} merges": tokenizer for n, tokenizer in stages.items()} | ({"GPT-2": gpt2} if gpt2 else {})
    for text, (name, tokenizer) in itertools.product(texts, shown.items()):
        show_row(name, tokenizer, tokenizer.encode(text))
    learned = stages[len(merges)]
    show_bytes(learned, learned.encode(texts[0]))
    theirs = library_merges(source, config.vocab_size)
    same = sum(ours == its for ours, its in zip(learned.merges, theirs, strict=False))
    record.check("merges as the library", f"{same:,} of {len(theirs):,}", "all", learned.merges == theirs)
    for name, tokenizer in list(shown.items())[len(stages) - 1 :]:
        record.check(f"ids as the library, {name}", *compare(tokenizer, [*texts, source[:100_000]]))
    record.results["tokens"] = {name: len(tokenizer.encode(texts[0])) for name, tokenizer in shown.items()}
    learned.save(record.output_dir / "bpe_tokenizer")
    record.files += [record.output_dir / "bpe_tokenizer" / name for name in ("vocab.json", "merges.txt")]
    record.save()


if __name__ == "__main__":
    launch(Config, main)
