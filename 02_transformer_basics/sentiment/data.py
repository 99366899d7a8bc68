"""Labeled sentences to train a classifier: the lesson's files, or your own CSV; and leak detection.

The lesson's folder holds public data sets under the file names below: film sentences, product phrases and reviews to
train on, the dev part of SST-2 as validation set, its test part and the UCI sentences as test sets. A CSV has the
columns `text` and `label`; the seed splits it into training, validation and test set. No sentence of a validation or
test set, nor a long part of one, stays in the training set.

With the package RATED_PACKAGE in the folder (Hutto and Gilbert 2014, "VADER"), most film sentences have a mean rating
in addition to their label, and other rated sentences and words join the training set.
"""

import importlib.util
import io
import os
import random
import re
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lab.errors import UserError
from lab.files import read_text
from models.hub import hub_reachable
from sentiment.csv_table import distinct_rows, read_rows, two_labels
from sentiment.leaks import Examples, drop_leaks, letters_of

Ratings = list[tuple[str, float]]  # text and mean rating, from -4 to 4
LABELS = ("NEGATIVE", "POSITIVE")
FILM_SENTENCES = "mr_minus_sst_devtest.tsv"
PRODUCT_PHRASES = ("IntegratedPros.txt", "IntegratedCons.txt")
REVIEWS = "movie_reviews.zip"
VALIDATION = "stsa.binary.dev"
TESTS = {
    "sst2_test": "stsa.binary.test",
    "uci_amazon": "amazon_cells_labelled.txt",
    "uci_imdb": "imdb_labelled.txt",
}
RATED_PACKAGE = "vaderSentiment-3.3.2.tar.gz"  # pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
RATED_FILMS = "movieReviewSnippets"
RATED_OTHERS = ("amazonReviewSnippets", "nytEditorialSnippets", "tweets")
HUB_DATASET = "cornell-movie-review-data/rotten_tomatoes"


@dataclass(frozen=True)
class SentimentData:
    """Training set, validation set `dev` and the test sets by name."""

    train: Examples
    dev: Examples
    tests: dict[str, Examples]
    labels: tuple[str, ...] = LABELS
    unlabeled: list[str] = field(default_factory=list)  # for distillation: the teacher labels it
    ratings: dict[str, float] = field(default_factory=dict)  # of training texts, from -4 (awful) to 4 (wonderful)
    dropped: int = 0  # training texts removed as leaks, and duplicates in a CSV
    source: str = "folder"

    @property
    def validation_name(self) -> str:
        """The name of the validation set in metrics.json."""
        return "sst2_dev" if self.source == "folder" else "dev"

    def evaluation_sets(self) -> dict[str, Examples]:
        """Return the validation set and the test sets by name."""
        return {self.validation_name: self.dev, **self.tests}


class RatedTexts(NamedTuple):
    """Texts with the mean of about twenty people's ratings, from -4 (awful) to 4 (wonderful)."""

    films: Ratings
    others: Ratings
    words: Ratings


def read_data(path: Path | None, seed: int, phrases: int | None = None) -> SentimentData:
    """Read the lesson's folder, with `phrases` of the product phrases (default: all), or a CSV; None: fetch a data set.

    Raises UserError or OSError, naming file and line.
    """
    if path is None:
        return fetch_rotten_tomatoes()
    return _read_folder(path, seed, phrases) if path.is_dir() else _read_csv(path, seed)


def fetch_rotten_tomatoes() -> SentimentData:
    """Load the film sentences `rotten_tomatoes` with their own split, from the Hugging Face hub or its cache.

    Raises UserError if the library `datasets` or the network is missing; the network is tried for two seconds.
    """
    if importlib.util.find_spec("datasets") is None:
        raise UserError("--data is needed; the library datasets fetches some: python -m pip install datasets")
    if not hub_reachable():
        os.environ["HF_DATASETS_OFFLINE"] = "1"  # otherwise the library retries for a long time
    import datasets  # pyright: ignore[reportMissingImports]

    try:
        splits = datasets.load_dataset(HUB_DATASET)
    except Exception as error:  # its network layer raises many kinds
        raise UserError(f"--data is needed; {HUB_DATASET} could not be fetched ({type(error).__name__})") from None
    train, dev, test = (
        list(zip(splits[name]["text"], splits[name]["label"], strict=True)) for name in ("train", "validation", "test")
    )
    kept = drop_leaks(train, [text for text, _ in dev + test])
    return SentimentData(kept, dev, {"test": test}, LABELS, dropped=len(train) - len(kept), source=HUB_DATASET)


# --- the lesson's files -----------------------------------------------------------------------------------------------


def _read_folder(folder: Path, seed: int, num_phrases: int | None) -> SentimentData:
    """Read the lesson's files; the package of ratings, the reviews and the test sets may be missing."""
    dev = read_examples(folder / VALIDATION)
    tests = {name: read_examples(folder / file) for name, file in TESTS.items() if (folder / file).exists()}
    phrases = [example for name in PRODUCT_PHRASES for example in read_examples(folder / name)]
    if num_phrases is not None:
        phrases = random.Random(seed).sample(phrases, min(num_phrases, len(phrases)))
    films = read_examples(folder / FILM_SENTENCES)
    rated = RatedTexts([], [], [])
    if (folder / RATED_PACKAGE).exists():
        rated = read_rated(folder / RATED_PACKAGE)
    rated_others = [*rated.others, *rated.words]
    labeled = [*films, *phrases, *((text, int(rating > 0)) for text, rating in rated_others)]
    held_out = [text for examples in (dev, *tests.values()) for text, _ in examples]
    train = drop_leaks(labeled, held_out)
    if not train:
        raise UserError(f"{folder}: no training text left; every one overlaps with the validation or test sets")
    reviews = read_reviews(folder / REVIEWS) if (folder / REVIEWS).exists() else []
    unlabeled = drop_leaks(reviews, held_out)
    ratings = dict(rated_others) | match_ratings(rated.films, films)
    return SentimentData(
        train,
        dev,
        tests,
        unlabeled=[text for text, _ in unlabeled],
        ratings={text: ratings[text] for text, _ in train if text in ratings},
        dropped=len(labeled) - len(train) + len(reviews) - len(unlabeled),
    )


def read_examples(path: Path) -> Examples:
    """Read labeled sentences from one of the lesson's files; the file's name determines its format.

    Raises OSError or UserError, naming the file.
    """
    lines = read_text(path).split("\n")  # not splitlines(): U+0085 occurs in text
    examples = [_read_line(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not examples:
        raise UserError(f"{path}: no sentence in it")
    return examples


def _read_line(line: str, path: Path, number: int) -> tuple[str, int]:
    """Return text and label of a line that is not blank."""
    if path.name.startswith("Integrated"):  # <Pros>good value, light</Pros>
        return _read_phrase(line.strip(), path, number)
    if path.name.endswith("_labelled.txt"):  # text, tab, label
        text, _, label = line.rpartition("\t")
    else:  # label, then a tab in .tsv and a space in SST-2, text
        label, _, text = line.partition("\t" if path.suffix == ".tsv" else " ")
    if label.strip() not in ("0", "1"):
        raise UserError(f"{path}, line {number}: the label is {label[:20]!r}; it must be 0 or 1")
    return text.strip(), int(label)


def _read_phrase(line: str, path: Path, number: int) -> tuple[str, int]:
    """Return text and label of a line of the pros and cons."""
    tag = path.name.removeprefix("Integrated").removesuffix(".txt")
    start, end = f"<{tag}>", f"</{tag}>"
    if tag not in ("Pros", "Cons") or not (line.startswith(start) and line.endswith(end)):
        raise UserError(f"{path}, line {number}: it must be {start}text{end}")
    return line[len(start) : -len(end)], int(tag == "Pros")


def read_reviews(path: Path) -> Examples:
    """Read the sentences of whole reviews with their review's label, from a zip archive.

    It holds a text file per review, in a folder `neg` or `pos`, with a sentence per line; those of fewer than three
    words are skipped. Raises OSError or UserError, naming the file.
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


def read_rated(path: Path) -> RatedTexts:
    """Read the rated texts of RATED_PACKAGE as downloaded. Raises OSError or UserError, naming the file."""
    try:
        with tarfile.open(path) as package:
            lexicon = _read_member(package, "vader_lexicon.txt")
            inner = _read_member(package, "hutto_ICWSM_2014.tar.gz")
        with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
            films = _rated_sentences(_read_member(archive, f"{RATED_FILMS}_GroundTruth.txt"))
            others: Ratings = []
            for name in RATED_OTHERS:
                others += _rated_sentences(_read_member(archive, f"{name}_GroundTruth.txt"))
        words = [(word, float(mean)) for word, mean, *_ in _cells(lexicon) if word.isalpha()]  # no :-)
        return RatedTexts(films, others, words)
    except (tarfile.TarError, EOFError, zlib.error, KeyError, ValueError):
        raise UserError(f"{path}: damaged, or not the package {RATED_PACKAGE}") from None


def _read_member(archive: tarfile.TarFile, file: str) -> bytes:
    """Return the content of the file of that name, in whatever folder. Raises KeyError if there is none."""
    for name in archive.getnames():
        if Path(name).name == file and (content := archive.extractfile(name)):
            return content.read()
    raise KeyError(file)


def _rated_sentences(table: bytes) -> Ratings:
    """Return the sentences of a table with the columns number, mean rating and sentence."""
    return [(text.strip(), float(mean)) for _, mean, text in _cells(table)]


def _cells(table: bytes) -> list[list[str]]:
    """Return the cells of a tab-separated table, row by row."""
    return [line.split("\t") for line in table.decode().splitlines() if line]


def match_ratings(rated: Ratings, sentences: Examples) -> dict[str, float]:
    """Return the ratings of those sentences that were rated, ignoring differences in spacing and case."""
    ratings = {letters_of(text): rating for text, rating in rated}
    matched = {}
    for text, _ in sentences:
        key = letters_of(text)
        if key in ratings:
            matched[text] = ratings[key]
    return matched


# --- a CSV ------------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, seed: int) -> SentimentData:
    """Read a user's own examples and split them 80/10/10 into training, validation and test set, without duplicates."""
    rows = read_rows(path)
    names = two_labels(path, rows)
    labels = LABELS if set(names) in ({"0", "1"}, set(LABELS)) else tuple(names)
    examples = [(row.text, names.index(row.label)) for row in distinct_rows(path, rows)]
    random.Random(seed).shuffle(examples)
    tenth = len(examples) // 10
    if not tenth:
        raise UserError(f"{path}: {len(examples)} different texts; ten or more are needed to split them")
    test, dev = examples[:tenth], examples[tenth : 2 * tenth]
    train = drop_leaks(examples[2 * tenth :], [text for text, _ in dev + test])
    if len({label for _, label in train}) < 2:
        leaks = len(examples) - 2 * tenth - len(train)
        reason = f" after {leaks} texts that overlap with the validation or test set were dropped" if leaks else ""
        raise UserError(f"{path}: the training set has fewer than two labels{reason}; more examples are needed")
    dropped = len(rows) - 2 * tenth - len(train)  # duplicates and leaks
    return SentimentData(train, dev, {"test": test}, labels, dropped=dropped, source=path.name)
