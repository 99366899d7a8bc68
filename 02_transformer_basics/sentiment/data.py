"""Labelled sentences to train a classifier with: the files that the lesson names, or a CSV of your own.

A folder holds the public data sets under the names of `README.md`: what may be trained on, the dev part of SST-2 that
selects, its test part and the UCI sentences that only report. A CSV has the columns `text` and `label`; it is divided
by the seed. No sentence that selects or reports, nor a long part of one, stays in what is trained on.

Where the folder also holds the package RATED (Hutto and Gilbert 2014, "VADER"), most film sentences have a rating
beside their label, and other sentences and single words that were rated are trained on as well.
"""

import csv
import importlib.util
import io
import itertools
import os
import random
import re
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lab.errors import UserError
from lab.files import read_text
from models.hub import hub_reachable

Examples = list[tuple[str, int]]  # text and class, for the lesson's files 1 for positive
LABELS = ("NEGATIVE", "POSITIVE")
SENTENCES, PHRASES = "mr_minus_sst_devtest.tsv", ("IntegratedPros.txt", "IntegratedCons.txt")
REVIEWS = "movie_reviews.zip"
RATED = "vaderSentiment-3.3.2.tar.gz"  # pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
RATED_FILMS = "movieReviewSnippets"
RATED_OTHERS = ("amazonReviewSnippets", "nytEditorialSnippets", "tweets")  # on products, from leading articles, tweets
DEV, TESTS = "stsa.binary.dev", {
    "sst2_test": "stsa.binary.test",
    "uci_amazon": "amazon_cells_labelled.txt",
    "uci_imdb": "imdb_labelled.txt",
}  # fmt: skip
HUB = "cornell-movie-review-data/rotten_tomatoes"
PART, RUN = 20, 40  # letters: a whole sentence of PART inside another is a leak, and a shared run of RUN is


@dataclass(frozen=True)
class SentimentData:
    """What to train on, what selects, and what only reports, by name."""

    train: Examples
    dev: Examples
    tests: dict[str, Examples]
    labels: tuple[str, ...] = LABELS
    unlabelled: list[str] = field(default_factory=list)  # for distillation: the teacher labels it
    ratings: dict[str, float] = field(default_factory=dict)  # of texts to train on, from -4, awful, to 4, wonderful
    dropped: int = 0  # sentences that also stand in what selects or reports
    source: str = "folder"


class Rated(NamedTuple):
    """Texts and the mean of what twenty people rated each, from -4, awful, to 4, wonderful."""

    films: list[tuple[str, float]]
    others: list[tuple[str, float]]
    words: list[tuple[str, float]]


def read_data(path: Path | None, seed: int, phrases: int | None = None) -> SentimentData:
    """The lesson's folder, with `phrases` of the product phrases (default: all), a CSV of the user's own, or with None
    what the network has.

    Raises UserError or OSError, naming file and line.
    """
    if path is None:
        return fetch()
    return _read_folder(path, seed, phrases) if path.is_dir() else _read_csv(path, seed)


def fetch() -> SentimentData:
    """The film-review sentences of the data set `rotten_tomatoes` in its own three parts, from the Hugging Face hub or
    its cache.

    Raises UserError where the library `datasets` or the network is missing, which takes two seconds to find out.
    """
    if importlib.util.find_spec("datasets") is None:
        raise UserError("--data is needed; the library datasets fetches some: python -m pip install datasets")
    if not hub_reachable():
        os.environ["HF_DATASETS_OFFLINE"] = "1"  # else the library tries again and again
    import datasets  # pyright: ignore[reportMissingImports]

    try:
        parts = datasets.load_dataset(HUB)
    except Exception as error:  # whatever its network layer raises
        raise UserError(f"--data is needed; {HUB} could not be fetched ({type(error).__name__})") from None
    train, dev, test = (
        list(zip(parts[name]["text"], parts[name]["label"], strict=True)) for name in ("train", "validation", "test")
    )
    kept = without_leaks(train, [text for text, _ in dev + test])
    return SentimentData(kept, dev, {"test": test}, LABELS, dropped=len(train) - len(kept), source=HUB)


def _read_folder(folder: Path, seed: int, phrases: int | None) -> SentimentData:
    dev = read_examples(folder / DEV)
    tests = {name: read_examples(folder / file) for name, file in TESTS.items() if (folder / file).exists()}
    short = [example for name in PHRASES for example in read_examples(folder / name)]
    if phrases is not None:
        short = random.Random(seed).sample(short, min(phrases, len(short)))
    films = read_examples(folder / SENTENCES)
    rated = read_rated(folder / RATED) if (folder / RATED).exists() else Rated([], [], [])
    others = [*rated.others, *rated.words]
    labelled = [*films, *short, *((text, int(rating > 0)) for text, rating in others)]
    evaluated = [text for part in (dev, *tests.values()) for text, _ in part]
    train = without_leaks(labelled, evaluated)
    if not train:
        raise UserError(f"{folder}: nothing left to train on; every sentence also stands in what selects or reports")
    whole = read_reviews(folder / REVIEWS) if (folder / REVIEWS).exists() else []
    unlabelled = without_leaks(whole, evaluated)
    dropped = len(labelled) - len(train) + len(whole) - len(unlabelled)
    ratings = dict(others) | of_sentences(rated.films, films)
    ratings = {text: ratings[text] for text, _ in train if text in ratings}
    return SentimentData(train, dev, tests, LABELS, [text for text, _ in unlabelled], ratings, dropped)


def read_examples(path: Path) -> Examples:
    """Sentences of one of the files that the lesson names; the file's name tells its format.

    Raises OSError or UserError, naming the file.
    """
    lines = read_text(path).split("\n")  # not splitlines(): U+0085 occurs in text
    examples = [_read_line(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not examples:
        raise UserError(f"{path}: no sentence in it")
    return examples


def _read_line(line: str, path: Path, number: int) -> tuple[str, int]:
    """Text and label of a line that is not blank."""
    if path.name.startswith("Integrated"):  # <Pros>good value, light</Pros>
        tag = path.name.removeprefix("Integrated").removesuffix(".txt")
        text = line.strip()
        if tag not in ("Pros", "Cons") or not (text.startswith(f"<{tag}>") and text.endswith(f"</{tag}>")):
            raise UserError(f"{path}, line {number}: it must be <{tag}>text</{tag}>")
        return text[len(tag) + 2 : -len(tag) - 3], int(tag == "Pros")
    separator, label_first = ("\t", True) if path.suffix == ".tsv" else (" ", True)
    if path.name.endswith("_labelled.txt"):
        separator, label_first = "\t", False
    left, _, right = line.partition(separator) if label_first else line.rpartition(separator)
    label, text = (left, right) if label_first else (right, left)
    if label.strip() not in ("0", "1"):
        raise UserError(f"{path}, line {number}: the label is {label[:20]!r}; it must be 0 or 1")
    return text.strip(), int(label)


def read_reviews(path: Path) -> Examples:
    """The sentences of the 2,000 whole reviews, one a line of a file in `neg` or `pos`, with their review's label.

    Raises OSError or UserError, naming the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if re.search(r"/(neg|pos)/[^/]+\.txt$", name))
            texts = {name: archive.read(name).decode("latin-1") for name in names}
    except zipfile.BadZipFile:
        raise UserError(f"{path}: damaged, or no zip archive") from None
    if not texts:
        raise UserError(f"{path}: no review (.../neg/*.txt, .../pos/*.txt) in it")
    return [
        (line.strip(), int("/pos/" in name))
        for name, text in texts.items()
        for line in text.split("\n")
        if len(line.split()) >= 3
    ]


def read_rated(path: Path) -> Rated:
    """What is rated in the package RATED, as it is downloaded. Raises OSError or UserError, naming the file."""
    try:
        with tarfile.open(path) as package:
            lexicon, rated = (_member(package, name) for name in ("vader_lexicon.txt", "hutto_ICWSM_2014.tar.gz"))
        with tarfile.open(fileobj=io.BytesIO(rated)) as archive:
            films, *others = (
                _rated_sentences(_member(archive, f"{name}_GroundTruth.txt")) for name in (RATED_FILMS, *RATED_OTHERS)
            )
        words = [(word, float(mean)) for word, mean, *_ in _cells(lexicon) if word.isalpha()]  # no :-)
        return Rated(films, list(itertools.chain(*others)), words)
    except (tarfile.TarError, EOFError, zlib.error, KeyError, ValueError):
        raise UserError(f"{path}: damaged, or not the package {RATED}") from None


def _member(archive: tarfile.TarFile, file: str) -> bytes:
    """The content of the file of that name, in whatever folder. Raises KeyError where there is none."""
    for name in archive.getnames():
        if Path(name).name == file and (content := archive.extractfile(name)):
            return content.read()
    raise KeyError(file)


def _rated_sentences(table: bytes) -> list[tuple[str, float]]:
    """The sentences of a table of number, mean rating and sentence."""
    return [(text.strip(), float(mean)) for _, mean, text in _cells(table)]


def _cells(table: bytes) -> list[list[str]]:
    """The cells of a table with tabs between them."""
    return [line.split("\t") for line in table.decode().splitlines() if line]


def _read_csv(path: Path, seed: int) -> SentimentData:
    """A user's own examples: 80% to train on, 10% to select by, 10% to report; equal texts stay on one side."""
    rows = _csv_rows(path)
    names = sorted({label.upper() for _, label, _ in rows})
    if len(names) != 2:
        shown = ", ".join(repr(name) for name in names[:5])
        raise UserError(f"{path}: the column label holds {len(names)} different values ({shown}); it must hold two")
    labels = LABELS if set(names) in ({"0", "1"}, set(LABELS)) else tuple(names)
    classes: dict[str, tuple[str, int]] = {}
    for text, label, line in rows:
        chosen = names.index(label.upper())
        if classes.setdefault(letters(text), (text, chosen))[1] != chosen:
            raise UserError(f"{path}, line {line}: the same text has another label further up")
    examples = list(classes.values())
    random.Random(seed).shuffle(examples)
    tenth = len(examples) // 10
    if not tenth:
        raise UserError(f"{path}: {len(examples)} different texts; ten or more are needed to divide them")
    test, dev = examples[:tenth], examples[tenth : 2 * tenth]
    train = without_leaks(examples[2 * tenth :], [text for text, _ in dev + test])
    if len({label for _, label in train}) < 2:
        raise UserError(f"{path}: the part to train on holds one label only; more examples are needed")
    dropped = len(examples) - 2 * tenth - len(train)
    return SentimentData(train, dev, {"test": test}, labels, dropped=dropped, source=path.name)


def _csv_rows(path: Path) -> list[tuple[str, str, int]]:
    """Text, label and line of every row. Raises UserError, naming file and line."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    rows = []
    try:
        missing = {"text", "label"} - set(reader.fieldnames or ())
        if missing:
            raise UserError(f"{path}, line 1: no column {min(missing)!r}; the first line must name text and label")
        for row in reader:
            text, label = ((row[column] or "").strip() for column in ("text", "label"))
            if not text or not label:
                raise UserError(f"{path}, line {reader.line_num}: no {'label' if text else 'text'}")
            if None in row:
                raise UserError(f"{path}, line {reader.line_num}: more fields than columns; quote texts with commas")
            rows.append((text, label, reader.line_num))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.reader.line_num}: {error}") from None
    if not rows:
        raise UserError(f"{path}: no example in it")
    return rows


def of_sentences(rated: list[tuple[str, float]], sentences: Examples) -> dict[str, float]:
    """The ratings of those sentences that were rated, however their words are spaced and spelled in capitals there."""
    ratings = {letters(text): rating for text, rating in rated}
    return {text: ratings[letters(text)] for text, _ in sentences if letters(text) in ratings}


def letters(text: str) -> str:
    """The letters and digits of a text alone: what stays the same however it is cut into words."""
    return re.sub(r"[\W_]+", "", text.lower())


def without_leaks(examples: Examples, evaluated: Iterable[str]) -> Examples:
    """The examples that share no sentence with `evaluated`: see `Leaks`."""
    leaks = Leaks(evaluated)
    return [(text, label) for text, label in examples if text and not leaks.shared(text)]


class Leaks:
    """Knows the texts that select and report, to tell whether another text gives one of them away."""

    def __init__(self, evaluated: Iterable[str]) -> None:
        self.whole = {letters(text) for text in evaluated}
        self.runs = {text[i : i + RUN] for text in self.whole for i in range(len(text) - RUN + 1)}
        self.parts: dict[str, list[str]] = defaultdict(list)  # the first PART letters from each place on
        self.starts: dict[str, list[str]] = defaultdict(list)  # the first PART letters of each text
        for text in self.whole:
            for i in range(len(text) - PART + 1):
                self.parts[text[i : i + PART]].append(text)
            if len(text) >= PART:
                self.starts[text[:PART]].append(text)

    def shared(self, text: str) -> bool:
        """Whether `text` equals one of them, holds one of them or lies in one (of PART letters), or shares a RUN."""
        own = letters(text)
        if own in self.whole or any(own in other for other in self.parts.get(own[:PART], ())):
            return True
        if any(own[i : i + RUN] in self.runs for i in range(len(own) - RUN + 1)):
            return True
        places = range(len(own) - PART + 1)
        return any(other in own for i in places for other in self.starts.get(own[i : i + PART], ()))
