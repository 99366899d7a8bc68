"""Comparison of texts: which are the same, and which training texts overlap with the validation and test sets."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

import regex

Examples = list[tuple[str, int]]  # text and class
MIN_CONTAINED = 20  # characters: a sentence at least this long inside another one is a leak
NGRAM = 40  # characters: so many in common are a leak
NO_LETTER = regex.compile(r"[\W_]+")  # in `regex`, unlike `re`, \w contains the marks of Thai or Devanagari
# Copies of a text differ in most punctuation; # % & @ / are part of a word (C#, 50%), and so are these:
EMOTICON = r"[:;=][-'^]?(?:[()\[\]{}<>|*]+|[dpo]\b)|(?<!\S)([^\w\s])\2*+[^\w\s]+(?!\S)"  # :-) and ^.^, but not ...
IN_NUMBER = r"(?<=\d)\p{P}(?=\d)|(?<!\w)[-−](?=\d)"  # 1.5 and -1
GRADE = r"(?<=\b\w)[-*](?!\w)"  # A-
IGNORED = regex.compile(rf"(?V1)({EMOTICON}|{IN_NUMBER}|{GRADE})|[[\s\p{{P}}`´=]--[#%&@/]]")


def letters_of(text: str) -> str:
    """Return only the letters, marks and digits of a text, in lower case."""
    return NO_LETTER.sub("", unicodedata.normalize("NFC", text.lower()))


def normalize_for_matching(text: str) -> str:
    """Return what is left of a text without case, spacing and the punctuation that differs between copies of it.

    What carries meaning stays: symbols, emoji, emoticons, the sign of a number. A text without letters, such as "!!!",
    loses its spacing only.
    """
    if not letters_of(text):
        return "".join(text.split())
    return IGNORED.sub(r"\1", unicodedata.normalize("NFC", text.lower()))


def drop_leaks(examples: Examples, held_out: Iterable[str]) -> Examples:
    """Return the examples that share no sentence with the texts `held_out`; see `LeakDetector`."""
    detector = LeakDetector(held_out)
    return [(text, label) for text, label in examples if text and not detector.is_leak(text)]


class LeakDetector:
    """An index of the validation and test texts that recognizes training texts overlapping with them."""

    def __init__(self, held_out: Iterable[str]) -> None:
        held_out = list(held_out)
        self.normalized = {normalize_for_matching(text) for text in held_out}
        self.letters = {letters_of(text) for text in held_out}
        self.ngrams = {text[i : i + NGRAM] for text in self.letters for i in range(len(text) - NGRAM + 1)}
        self.containing: dict[str, list[str]] = defaultdict(list)  # any MIN_CONTAINED characters -> texts with them
        self.starting: dict[str, list[str]] = defaultdict(list)  # first MIN_CONTAINED characters -> texts
        for text in self.letters:
            for i in range(len(text) - MIN_CONTAINED + 1):
                self.containing[text[i : i + MIN_CONTAINED]].append(text)
            if len(text) >= MIN_CONTAINED:
                self.starting[text[:MIN_CONTAINED]].append(text)

    def is_leak(self, text: str) -> bool:
        """Return True if `text` equals a held-out text, contains one, is part of one, or shares an n-gram with one.

        Texts are equal if `normalize_for_matching` says so. Everything else is found by letters and digits alone:
        contained texts count from MIN_CONTAINED of them on, n-grams have NGRAM of them.
        """
        letters = letters_of(text)
        if letters in self.letters and normalize_for_matching(text) in self.normalized:
            return True
        if any(letters in held_out for held_out in self.containing.get(letters[:MIN_CONTAINED], ())):
            return True
        if any(letters[i : i + NGRAM] in self.ngrams for i in range(len(letters) - NGRAM + 1)):
            return True
        for i in range(len(letters) - MIN_CONTAINED + 1):
            candidates = self.starting.get(letters[i : i + MIN_CONTAINED], ())
            if any(held_out in letters for held_out in candidates):
                return True
        return False
