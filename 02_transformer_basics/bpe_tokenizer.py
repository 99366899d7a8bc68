"""Byte-level byte-pair encoding (BPE), the tokenizer of GPT-2, from the bytes up: train, encode, decode.
Run this file to watch it train: each merge as it is learned, then a sentence split into tokens, their ids, and back.

    text -> pre-tokens, about words -> bytes -> symbols merged, earliest learned merge first -> token ids
            tokenizer/byte_level.py             tokenizer/training.py learns the merges

A *symbol* is the id of a token inside a pre-token: a byte at first; every merge replaces two symbols by one. The plain
and the fast algorithm (`merge_by_scanning`, `merge_by_queue`) give the same result. For teaching: the models of this
lab use the `tokenizers` library, and the tests show that this tokenizer equals it. The lesson is tokenizer/README.md.

Sources: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; Radford et al. 2019,
"Language Models are Unsupervised Multitask Learners", section 2.2.
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

import heapq
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro

from lab.errors import UserError, require_at_least
from lab.files import ROOT, atomic, read_text, write_json
from lab.launch import launch, warn_once
from lab.record import RunRecord
from lab.texts import collect_texts, printable
from tokenizer.byte_level import ALPHABET, BYTE_TO_CHAR, CHAR_TO_BYTE, pre_tokenize
from tokenizer.demo import (
    EXAMPLE,
    MAX_TOKENS,
    STORY,
    print_bytes,
    print_merges,
    print_tokens,
    reference_merges,
    reference_tokenizer,
)
from tokenizer.training import Merge, Pair, learn_merges, merge_pair


class Rule(NamedTuple):
    """A merge as encoding needs it: its rank (0 was learned first) and the token that replaces the pair."""

    rank: int
    token: int


def merge_by_scanning(symbols: list[int], rules: Mapping[Pair, Rule]) -> list[int]:
    """Merge the pair that was learned first, everywhere, until no rule applies: the plain algorithm.

    Every round scans all symbols, and longer input takes more rounds: O(n^2). Fine for words, too slow for 100,000
    letters without a space.
    """
    while True:
        candidates = [pair for pair in itertools.pairwise(symbols) if pair in rules]
        if not candidates:
            return symbols
        pair = min(candidates, key=lambda candidate: rules[candidate].rank)
        symbols = merge_pair(symbols, pair, rules[pair].token)


def merge_by_queue(symbols: list[int], rules: Mapping[Pair, Rule]) -> list[int]:
    """Return the same as `merge_by_scanning` in O(n log n): a heap of possible merges and a linked list of symbols."""
    symbols = list(symbols)
    end = len(symbols)
    previous = list(range(-1, end - 1))  # position of the symbol on the left; -1 if there is none
    following = list(range(1, end + 1))  # position of the symbol on the right; `end` if there is none
    queue: list[tuple[int, int, Pair]] = []  # rank, position, pair

    def push(left: int, right: int) -> None:
        """Put the pair at these positions into the queue if there is a rule for it."""
        if left < 0 or right >= end:
            return
        pair = (symbols[left], symbols[right])
        if pair in rules:
            heapq.heappush(queue, (rules[pair].rank, left, pair))  # at equal rank, the leftmost comes first

    for position in range(end - 1):
        push(position, position + 1)
    while queue:
        _, left, pair = heapq.heappop(queue)
        right = following[left]
        if right == end or (symbols[left], symbols[right]) != pair:
            continue  # outdated: one of the two has been merged with another neighbor since

        # The token replaces the left symbol, and the right one leaves the list.
        symbols[left] = rules[pair].token
        symbols[right] = -1
        following[left] = following[right]
        if following[left] < end:
            previous[following[left]] = left

        # The token forms new pairs with both of its neighbors.
        push(previous[left], left)
        push(left, following[left])
    return [symbol for symbol in symbols if symbol >= 0]


class BytePairTokenizer:
    """A byte-level BPE tokenizer: text to token ids and back; decoding gives back any text exactly.

    Args:
        vocabulary: id of every token, written in the characters of `bytes_to_unicode`. A token that is neither a byte
            nor the result of a merge is a special token, such as `<|endoftext|>`: it is written as it is, and encoding
            looks for it before anything else.
        merges: pairs of tokens, in the order in which they were learned.
    Attributes: tokens, the bytes of every id; rules, by pair of ids; special, the ids of the special tokens.
    Raises UserError if the vocabulary lacks a byte, or a part or the result of a merge.
    """

    def __init__(self, vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> None:
        merged = {left + right for left, right in merges}
        for token in (*BYTE_TO_CHAR, *merged, *itertools.chain.from_iterable(merges)):
            if token not in vocabulary:
                raise UserError(f"the vocabulary lacks {token!r}, which is a byte or part of a merge")
        self.vocabulary = dict(vocabulary)
        self.merges = list(merges)
        self.rules: dict[Pair, Rule] = {}
        for rank, (left, right) in enumerate(merges):
            self.rules[vocabulary[left], vocabulary[right]] = Rule(rank, vocabulary[left + right])
        self.special: dict[str, int] = {}
        self.tokens: dict[int, bytes] = {}
        for token, id in vocabulary.items():
            if token in merged or token in CHAR_TO_BYTE:
                self.tokens[id] = bytes(CHAR_TO_BYTE[character] for character in token)
            else:
                self.special[token] = id
                self.tokens[id] = token.encode("utf-8")
        self._special_pattern = _any_of(self.special)
        self._byte_to_symbol = [vocabulary[character] for character in BYTE_TO_CHAR]

    @classmethod
    def train(cls, text: str, vocab_size: int, min_frequency: int = 1) -> "BytePairTokenizer":
        """Return a tokenizer trained on `text`; arguments and errors as in `learn_merges`."""
        return cls.from_merges(learn_merges(text, vocab_size, min_frequency))

    @classmethod
    def from_merges(cls, merges: Iterable[Merge]) -> "BytePairTokenizer":
        """Return the tokenizer with these learned merges, and without special tokens."""
        tokens = list(ALPHABET)
        pairs = []
        for merge in merges:
            left, right = (tokens[symbol] for symbol in merge.pair)
            pairs.append((left, right))
            tokens.append(left + right)
        return cls({token: id for id, token in enumerate(tokens)}, pairs)

    @classmethod
    def from_folder(cls, folder: Path) -> "BytePairTokenizer":
        """Read `vocab.json` and `merges.txt`, or `encoder.json` and `vocab.bpe` as OpenAI published them.

        Raises UserError, naming the file, if they are missing or damaged.
        """
        for vocabulary_name, merges_name in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
            vocabulary, merges = folder / vocabulary_name, folder / merges_name
            if not vocabulary.is_file() or not merges.is_file():
                continue
            try:
                return cls(_read_vocabulary(vocabulary), _read_merges(merges))
            except UserError as error:
                raise UserError(str(error) if str(folder) in str(error) else f"{folder}: {error}") from None
        raise UserError(f"{folder}: no vocab.json and merges.txt in it, nor encoder.json and vocab.bpe")

    def save(self, folder: Path) -> None:
        """Write `vocab.json` and `merges.txt`, which the `tokenizers` library reads too. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "vocab.json", self.vocabulary)
        lines = ["#version: 0.2", *(f"{left} {right}" for left, right in self.merges)]
        with atomic(folder / "merges.txt") as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`. Raises UserError as `pre_tokenize` does."""
        ids: list[int] = []
        encoded: dict[str, list[int]] = {}  # a text repeats its words: each distinct pre-token is merged once
        parts = self._special_pattern.split(text) if self._special_pattern else [text]
        for number, part in enumerate(parts):
            if number % 2:  # text and special tokens alternate
                ids.append(self.special[part])
                continue
            for pre_token in pre_tokenize(part):
                if pre_token not in encoded:
                    symbols = [self._byte_to_symbol[byte] for byte in pre_token.encode("utf-8")]
                    encoded[pre_token] = merge_by_queue(symbols, self.rules)
                ids += encoded[pre_token]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids. Bytes that are not UTF-8, such as half a character, become U+FFFD.

        Raises UserError for an id that is not in the vocabulary.
        """
        try:
            return b"".join(self.tokens[id] for id in ids).decode("utf-8", errors="replace")
        except KeyError as error:
            raise UserError(f"token id {error} is not in the vocabulary of {len(self.vocabulary):,} tokens") from None


def _any_of(special: Iterable[str]) -> re.Pattern[str] | None:
    """Return a pattern that splits a text at special tokens, the longest first; None if there are none."""
    longest_first = sorted(filter(None, special), key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None


def _read_vocabulary(path: Path) -> dict[str, int]:
    try:
        vocabulary = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    ids = vocabulary.values() if isinstance(vocabulary, dict) else [""]
    if not all(type(id) is int and id >= 0 for id in ids) or len(set(ids)) < len(ids):
        raise UserError(f"{path}: not a vocabulary; it must map every token to a different id")
    return vocabulary


def _read_merges(path: Path) -> list[tuple[str, str]]:
    merges = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line or line.startswith("#version"):
            continue
        left, _, right = line.partition(" ")
        if not left or not right or " " in right:
            raise UserError(f"{path}, line {number}: expected two tokens with a space between them")
        merges.append((left, right))
    return merges


# --- demonstration: train on a small text, tokenize a sentence, compare with the library ------------------------------

GPT2_FILES = ROOT.parent / "shared/data/gpt2_bpe"


@dataclass(frozen=True)
class Config:
    """Train a byte-level BPE tokenizer, tokenize texts with it, and compare it with the `tokenizers` library."""

    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts to encode; `-` reads them from standard input, one per line. Default: a built-in example."""
    data: Path | None = None
    """UTF-8 file to train on. Default: a built-in short story."""
    vocab_size: int = 320
    """Size of the vocabulary, including the 256 bytes."""
    gpt2: Path | None = None
    """Folder with GPT-2's vocab.json and merges.txt. Default: ../shared/data/gpt2_bpe next to the lab, if it exists."""
    output_dir: Path = Path(__file__).parent / "results"
    """Folder for the record of the run; the vocabulary is saved in its subfolder bpe_tokenizer."""

    def __post_init__(self) -> None:
        require_at_least(len(ALPHABET), self, "vocab_size")


def compare(tokenizer: BytePairTokenizer, texts: Sequence[str]) -> tuple[str, str, bool]:
    """Compare the ids of `texts` with the library's, and decode them; return a check: value, expectation, result."""
    library = reference_tokenizer(tokenizer.vocabulary, tokenizer.merges, tokenizer.special)
    num_ids = 0
    ids_equal = text_restored = True
    for text in texts:
        ids = tokenizer.encode(text)
        num_ids += len(ids)
        ids_equal &= ids == library.encode(text).ids
        text_restored &= tokenizer.decode(ids) == text
    result = f"{num_ids:,} {'equal' if ids_equal else 'NOT equal'}, text {'' if text_restored else 'NOT '}restored"
    return result, "equal, text restored", ids_equal and text_restored


def main(config: Config) -> None:
    """Train, print the tokens of the texts, compare with the library, save."""
    texts = collect_texts(config.texts, None, (EXAMPLE,))
    corpus = read_text(config.data) if config.data else STORY
    if not corpus.strip():
        raise UserError(f"{config.data}: no text in it to train on")
    gpt2_folder = config.gpt2 or (GPT2_FILES if GPT2_FILES.is_dir() else None)
    gpt2 = BytePairTokenizer.from_folder(gpt2_folder) if gpt2_folder else None
    record = RunRecord(__file__, config.output_dir, config)

    # Train, and keep the tokenizers with no merges, a quarter of them, and all of them.
    max_merges = config.vocab_size - len(ALPHABET)
    merges = list(print_merges(learn_merges(corpus, config.vocab_size), max_merges))
    if len(merges) < max_merges:
        warn_once(f"stopped after {len(merges):,} of {max_merges:,} merges: every word of the text is one token")
    stages = {}
    for count in (0, len(merges) // 4, len(merges)):
        stages[f"after {count:,} merges"] = BytePairTokenizer.from_merges(merges[:count])
    trained_name, trained = list(stages.items())[-1]
    if gpt2 is not None:
        stages["GPT-2"] = gpt2

    # Print the tokens of the texts.
    for text, (name, tokenizer) in itertools.product(texts, stages.items()):
        print_tokens(name, [tokenizer.tokens[id] for id in tokenizer.encode(text)])
    ids = trained.encode(texts[0])
    print_bytes(trained.tokens, ids)
    print("\nencoded:", *ids[:MAX_TOKENS])
    print("decoded:", printable(trained.decode(ids[:MAX_TOKENS])), end="\n\n")

    # Compare merges, ids and decoded text with the library's.
    expected = reference_merges(corpus, config.vocab_size)
    num_equal = sum(ours == theirs for ours, theirs in zip(trained.merges, expected, strict=False))
    value = f"{num_equal:,} of {len(expected):,}"
    record.check("merges equal to the library's", value, "all", trained.merges == expected)
    for name, tokenizer in {trained_name: trained, **({"GPT-2": gpt2} if gpt2 else {})}.items():
        record.check(f"ids, {name}, compared with the library", *compare(tokenizer, [*texts, corpus[:100_000]]))
    record.results["tokens"] = {name: len(tokenizer.encode(texts[0])) for name, tokenizer in stages.items()}
    trained.save(record.output_dir / "bpe_tokenizer")
    record.files += [record.output_dir / "bpe_tokenizer" / name for name in ("vocab.json", "merges.txt")]
    record.save()


if __name__ == "__main__":
    launch(Config, main)
