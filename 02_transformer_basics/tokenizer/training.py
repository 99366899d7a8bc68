"""Learn a byte-pair vocabulary: merge the most frequent pair of neighboring symbols, count again, and so on.

A *symbol* is the id of a token inside a word: a byte at first (ids 0 to 255); every merge replaces two symbols by one.
Merge number n creates token 256 + n. A *word* is a pre-token, as `byte_level.pre_tokenize` splits the text.

Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", algorithm 1.
"""

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from lab.errors import UserError
from tokenizer.byte_level import ALPHABET, BYTE_TO_CHAR, pre_tokenize

Pair = tuple[int, int]  # two neighboring symbols
_BYTE_TO_SYMBOL = [ALPHABET.index(character) for character in BYTE_TO_CHAR]


class Merge(NamedTuple):
    """A learned rule: `pair` becomes `token`; the pair occurred `frequency` times when it was learned."""

    pair: Pair
    token: int
    frequency: int


def merge_pair(symbols: list[int], pair: Pair, token: int) -> list[int]:
    """Return `symbols` with every occurrence of `pair` replaced by `token`, from left to right."""
    merged = []
    position = 0
    while position < len(symbols):
        if tuple(symbols[position : position + 2]) == pair:
            merged.append(token)
            position += 2
        else:
            merged.append(symbols[position])
            position += 1
    return merged


def learn_merges(text: str, vocab_size: int, min_frequency: int = 1) -> Iterator[Merge]:
    """Yield merges, each of the most frequent pair of symbols after those before it (Sennrich et al., algorithm 1).

    Among equally frequent pairs the one with the smaller ids is taken (first symbol, then second), as in the
    `tokenizers` library. Ends when there are `vocab_size` tokens, bytes included, or no pair occurs `min_frequency`
    times. Raises UserError for a `vocab_size` below 256, and as `pre_tokenize` does.
    """
    if vocab_size < len(ALPHABET):
        raise UserError(f"vocab_size is {vocab_size}; it must be at least 256, one token for every byte")
    word_counts = Counter(pre_tokenize(text))  # each distinct word is merged once, however often it occurs
    words = [[_BYTE_TO_SYMBOL[byte] for byte in word.encode("utf-8")] for word in word_counts]
    counts = list(word_counts.values())
    pair_counts, words_with = _count_pairs(words, counts)
    queue = [(-count, pair) for pair, count in pair_counts.items()]  # a heap: the most frequent pair comes first
    heapq.heapify(queue)
    for token in range(len(ALPHABET), vocab_size):
        pair = _pop_most_frequent(queue, pair_counts)
        if pair is None or pair_counts[pair] < min_frequency:
            return
        yield Merge(pair, token, pair_counts[pair])

        # Only words that contain the pair change, and only pairs with the new token are new.
        new_pairs: set[Pair] = set()
        for index in words_with.pop(pair):
            old_word = words[index]
            new_word = merge_pair(old_word, pair, token)
            words[index] = new_word
            for old_pair in itertools.pairwise(old_word):
                pair_counts[old_pair] -= counts[index]
            for new_pair in itertools.pairwise(new_word):
                pair_counts[new_pair] += counts[index]
                words_with[new_pair].add(index)
                if token in new_pair:
                    new_pairs.add(new_pair)
        for new_pair in new_pairs:
            heapq.heappush(queue, (-pair_counts[new_pair], new_pair))


def _count_pairs(words: list[list[int]], counts: list[int]) -> tuple[Counter[Pair], defaultdict[Pair, set[int]]]:
    """Return how often each pair occurs in the text, and the indices of the words that contain it."""
    pair_counts: Counter[Pair] = Counter()
    words_with: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, word in enumerate(words):
        for pair in itertools.pairwise(word):
            pair_counts[pair] += counts[index]
            words_with[pair].add(index)
    return pair_counts, words_with


def _pop_most_frequent(queue: list[tuple[int, Pair]], pair_counts: Counter[Pair]) -> Pair | None:
    """Pop the most frequent pair. A count can only fall while its pair waits, so an outdated entry is pushed again."""
    while queue:
        negative_count, pair = heapq.heappop(queue)
        if pair_counts[pair] == -negative_count:
            return pair
        if pair_counts[pair] > 0:
            heapq.heappush(queue, (-pair_counts[pair], pair))
    return None
