"""Learning a byte-pair vocabulary: merge the most frequent pair of neighbours, count again, and so on.

A *symbol* is the id of a token inside a word: at first one a byte (0 to 255), after every merge fewer. Merge number n
makes the token 256 + n. A word is a piece of the text, as `byte_level.split` cuts it.

Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", algorithm 1.
"""

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from lab.errors import UserError
from tokenizer.byte_level import ALPHABET, CHARACTERS, split

Pair = tuple[int, int]  # two symbols that stand side by side
_SYMBOL_OF = [ALPHABET.index(character) for character in CHARACTERS]  # of each byte


class Merge(NamedTuple):
    """One learned rule: `pair` becomes `token`; when it was learned, the pair stood in the text `times` times."""

    pair: Pair
    token: int
    times: int


def merge_pair(symbols: list[int], pair: Pair, token: int) -> list[int]:
    """`symbols` with every occurrence of `pair` replaced by `token`, from the left: of three alike, the first two."""
    merged, position = [], 0
    while position < len(symbols):
        found = position + 1 < len(symbols) and (symbols[position], symbols[position + 1]) == pair
        merged.append(token if found else symbols[position])
        position += 2 if found else 1
    return merged


def learn_merges(text: str, vocab_size: int, min_frequency: int = 1) -> Iterator[Merge]:
    """Merge the most frequent pair of neighbours, again and again (Sennrich et al., algorithm 1); yield every merge.

    Among pairs of equal count the one with the smaller ids is taken, first symbol before second, as the `tokenizers`
    library does it. Ends when there are `vocab_size` tokens, bytes included, or no pair stands `min_frequency` times.
    Raises UserError for a `vocab_size` below 256, and for text as in `split`.
    """
    if vocab_size < len(ALPHABET):
        raise UserError(f"vocab_size is {vocab_size}; it must be at least 256, one token for every byte")
    frequency = Counter(split(text))  # each different piece is looked at once, however often it stands in the text
    words = [[_SYMBOL_OF[byte] for byte in piece.encode("utf-8")] for piece in frequency]
    times = list(frequency.values())
    counts, places = _count_pairs(words, times)
    queue = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(queue)
    for token in range(len(ALPHABET), vocab_size):
        pair = _most_frequent(queue, counts)
        if pair is None or counts[pair] < min_frequency:
            return
        yield Merge(pair, token, counts[pair])
        born = set()  # only words with the pair in them change, and only pairs with the new token are new
        for place in places.pop(pair):
            before, words[place] = words[place], merge_pair(words[place], pair, token)
            for gone in itertools.pairwise(before):
                counts[gone] -= times[place]
            for here in itertools.pairwise(words[place]):
                counts[here] += times[place]
                places[here].add(place)
                if token in here:
                    born.add(here)
        for new in born:
            heapq.heappush(queue, (-counts[new], new))


def _count_pairs(words: list[list[int]], times: list[int]) -> tuple[Counter[Pair], defaultdict[Pair, set[int]]]:
    """How often each pair stands in the text, and in which words."""
    counts, places = Counter(), defaultdict(set)
    for place, word in enumerate(words):
        for pair in itertools.pairwise(word):
            counts[pair] += times[place]
            places[pair].add(place)
    return counts, places


def _most_frequent(queue: list[tuple[int, Pair]], counts: Counter[Pair]) -> Pair | None:
    """Take the most frequent pair from the queue. Counts only fall while a pair waits, so a stale one is put back."""
    while queue:
        negative, pair = heapq.heappop(queue)
        if counts[pair] == -negative:
            return pair
        if counts[pair] > 0:
            heapq.heappush(queue, (-counts[pair], pair))
    return None
