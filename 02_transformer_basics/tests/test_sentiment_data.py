"""Labeled sentences: the lesson's files, a user's CSV, errors in both, and leaks."""

import importlib.machinery
import importlib.util
import io
import os
import random
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import UserError
from lab.files import ROOT
from sentiment import data as sentiment_data
from sentiment.data import RATED_PACKAGE, read_data, read_examples, read_rated, read_reviews
from sentiment.leaks import MIN_CONTAINED, NGRAM, LeakDetector, drop_leaks, letters_of, normalize_for_matching

DATA = ROOT.parent / "shared/data/sentiment"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs the sentiment files of shared/data")


# --- the lesson's files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("any.tsv", "1\tgood one\n\n0\tbad\tone\x85more\r\n", [("good one", 1), ("bad\tone\x85more", 0)]),
        ("stsa.binary.dev", "\ufeff1 good one\n0 bad\n", [("good one", 1), ("bad", 0)]),
        ("imdb_labelled.txt", "good  one \t1\nbad\x85\tone\t0\n", [("good  one", 1), ("bad\x85\tone", 0)]),
        (
            "IntegratedPros.txt",
            "<Pros>good, <b>1</b></Pros>\n \n\t<Pros>fine</Pros>\n",
            [("good, <b>1</b>", 1), ("fine", 1)],
        ),
        ("IntegratedCons.txt", "<Cons>bad</Cons>", [("bad", 0)]),
    ],
)
def test_every_format_is_read(tmp_path: Path, name: str, content: str, expected: list[tuple[str, int]]) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert read_examples(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("any.tsv", "1\tgood\n\n2\tbetter\n", 3),
        ("any.tsv", "good\t1\n", 1),
        ("any.tsv", "1 good\n", 1),
        ("stsa.binary.dev", "1 good\n-1 bad\n", 2),
        ("stsa.binary.dev", "good\n", 1),
        ("imdb_labelled.txt", "good\t1\nbad 0\n", 2),
        ("IntegratedPros.txt", "<Pros>good</Pros>\n<Cons>bad</Cons>\n", 2),
        ("IntegratedPros.txt", "<Pros>good\n", 1),
        ("IntegratedOther.txt", "<Other>good</Other>\n", 1),
    ],
)
def test_bad_labels_are_refused_with_file_and_line(tmp_path: Path, name: str, content: str, line: int) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=rf"{name}, line {line}: "):
        read_examples(tmp_path / name)


def test_empty_foreign_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.tsv").write_text("\n")
    (tmp_path / "latin.tsv").write_bytes(b"1\tcaf\xe9\n")
    for name in ("empty.tsv", "latin.tsv"):
        with pytest.raises(UserError, match=name):
            read_examples(tmp_path / name)
    for read in (read_examples, read_reviews, lambda path: read_data(path, 0)):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "missing.tsv")


def test_reviews_are_read_sentence_by_sentence(tmp_path: Path) -> None:
    path = tmp_path / "reviews.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("movie_reviews/neg/b.txt", "it is a dull film . \nno . \n")
        archive.writestr("movie_reviews/pos/a.txt", b"a caf\xe9 of fun\n")
        archive.writestr("movie_reviews/README", "not a review at all\n")
    assert read_reviews(path) == [("it is a dull film .", 0), ("a café of fun", 1)]
    (tmp_path / "text.zip").write_text("text")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("other.txt", "a b c d")
    for name in ("text.zip", "other.zip"):
        with pytest.raises(UserError, match=name):
            read_reviews(tmp_path / name)


def rated_package(path: Path, films: str, products: str = "1_1\t1.5\tworks fine\r\n", leave_out: str = "") -> Path:
    """Write a minimal package of rated texts."""
    sentences = {
        "movieReviewSnippets": films,
        "amazonReviewSnippets": products,
        "nytEditorialSnippets": "1_1\t-1.1\tNo picture of health.\n",
        "tweets": "1\t2.5\tGreat evening! #fb\r\n",
    }
    inner, lexicon = io.BytesIO(), ":)\t2.0\t0.8\t[2, 2]\nawful\t-2.0\t0.8\t[-2, -2]\n"
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for name, text in sentences.items():
            add(archive, f"hutto/{name}_GroundTruth.txt", text.encode())
    with tarfile.open(path, "w:gz") as package:
        for name, content in (("vader_lexicon.txt", lexicon.encode()), ("hutto_ICWSM_2014.tar.gz", inner.getvalue())):
            if name != leave_out:
                add(package, f"vaderSentiment/some/{name}", content)
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def test_rated_texts_are_read(tmp_path: Path) -> None:
    rated = read_rated(rated_package(tmp_path / RATED_PACKAGE, "1\t2.25\tA café, ''quoted''.\r\n2\t-0.5\tdull\r\n"))
    assert rated.films == [("A café, ''quoted''.", 2.25), ("dull", -0.5)]
    assert rated.others == [("works fine", 1.5), ("No picture of health.", -1.1), ("Great evening! #fb", 2.5)]
    assert rated.words == [("awful", -2.0)]


@pytest.mark.parametrize(
    "damage", ["no archive", "cut", "no number", "two cells", "no lexicon", "no sentences", "latin"]
)
def test_a_damaged_package_of_rated_texts_is_refused(tmp_path: Path, damage: str) -> None:
    films = {"no number": "1\tgood\tfine\n", "two cells": "1\t2.0\n"}.get(damage, "1\t2.0\tfine\n")
    left = {"no lexicon": "vader_lexicon.txt", "no sentences": "hutto_ICWSM_2014.tar.gz"}.get(damage, "")
    path = rated_package(tmp_path / RATED_PACKAGE, films, leave_out=left)
    if damage == "no archive":
        path.write_text("not an archive")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    if damage == "latin":
        with tarfile.open(path, "w:gz") as package:
            add(package, "vader_lexicon.txt", b"caf\xe9\t1\n")
            add(package, "hutto_ICWSM_2014.tar.gz", b"")
    with pytest.raises(UserError, match=RATED_PACKAGE):
        read_rated(path)


def test_ratings_are_matched_to_sentences_and_bring_more_texts(tmp_path: Path) -> None:
    lines = {
        "mr_minus_sst_devtest.tsv": "1\ta fine , long film\n0\tnobody rated this\n1\ta sentence of the test part\n",
        "stsa.binary.dev": "1 good\n",
        "stsa.binary.test": "0 a sentence of the test part\n",
        "IntegratedPros.txt": "<Pros>light</Pros>\n",
        "IntegratedCons.txt": "<Cons>heavy</Cons>\n",
    }
    for name, text in lines.items():
        (tmp_path / name).write_text(text)
    plain = read_data(tmp_path, 0)
    films = "1\t2.5\tA fine, LONG film\n2\t3.0\tunknown elsewhere\n3\t-3.0\tA sentence of the test part\n"
    rated_package(tmp_path / RATED_PACKAGE, films, "1\t-1.5\ta sentence of the test part!\n2\t-1.5\tbroke at once\n")
    data = read_data(tmp_path, 0)
    assert not plain.ratings
    added = {"broke at once": -1.5, "No picture of health.": -1.1, "Great evening! #fb": 2.5, "awful": -2.0}
    assert data.train == [*plain.train, *((text, int(rating > 0)) for text, rating in added.items())]
    assert data.ratings == {"a fine , long film": 2.5} | added
    assert data.dropped == plain.dropped + 1


@needs_data
@pytest.mark.parametrize(
    ("name", "count", "positive"),
    [
        ("mr_minus_sst_devtest.tsv", 7295, 3651),
        ("stsa.binary.dev", 872, 444),
        ("stsa.binary.test", 1821, 909),
        ("imdb_labelled.txt", 1000, 500),
        ("amazon_cells_labelled.txt", 1000, 500),
        ("IntegratedPros.txt", 22940, 22940),
        ("IntegratedCons.txt", 22935, 0),
    ],
)
def test_the_real_files_are_read_completely(name: str, count: int, positive: int) -> None:
    examples = read_examples(DATA / name)
    assert (len(examples), sum(label for _, label in examples)) == (count, positive)
    assert not any("<Pros>" in text or "<Cons>" in text for text, _ in examples)


def test_rotten_tomatoes_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(*texts: str) -> dict[str, list[Any]]:
        return {"text": list(texts), "label": [n % 2 for n in range(len(texts))]}

    parts = {"train": rows("dull", "fine", "so so"), "validation": rows("so so"), "test": rows("bad", "good")}
    library = ModuleType("datasets")
    library.__spec__ = importlib.machinery.ModuleSpec("datasets", None)
    library.load_dataset = lambda name: parts  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "datasets", library)
    monkeypatch.setattr(sentiment_data, "hub_reachable", lambda: True)
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    data = read_data(None, 0)
    assert "HF_DATASETS_OFFLINE" not in os.environ
    assert data.train == [("dull", 0), ("fine", 1)]
    assert (data.dev, data.tests, data.dropped) == ([("so so", 0)], {"test": [("bad", 0), ("good", 1)]}, 1)
    monkeypatch.setattr(sentiment_data, "hub_reachable", lambda: False)
    read_data(None, 0)  # from the cache
    assert os.environ["HF_DATASETS_OFFLINE"] == "1"
    library.load_dataset = lambda name: 1 / 0  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(UserError, match=r"--data is needed; .*rotten_tomatoes could not be fetched"):
        read_data(None, 0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--data is needed; .* pip install datasets"):
        read_data(None, 0)


# --- a CSV ------------------------------------------------------------------------------------------------------------


def write_csv(folder: Path, text: str) -> Path:
    path = folder / "mine.csv"
    path.write_text(text, encoding="utf-8")
    return path


def rows(first: str, second: str, count: int = 40) -> str:
    return "".join(f'"text number {n}, quoted",{first if n % 2 else second}\n' for n in range(count))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("1", "0"), ("NEGATIVE", "POSITIVE")),
        (("POSITIVE", "NEGATIVE"), ("NEGATIVE", "POSITIVE")),
        (("positive", "Negative"), ("NEGATIVE", "POSITIVE")),
        (("spam", "ham"), ("HAM", "SPAM")),
    ],
)
def test_a_csv_with_any_two_labels(tmp_path: Path, labels: tuple[str, str], names: tuple[str, str]) -> None:
    data = read_data(write_csv(tmp_path, "text,label\n" + rows(*labels)), seed=0)
    assert data.labels == names
    parts = [data.train, data.dev, data.tests["test"]]
    assert [len(part) for part in parts] == [32, 4, 4]
    together = sorted(example for part in parts for example in part)
    assert together == sorted((f"text number {n}, quoted", n % 2) for n in range(40))
    assert read_data(tmp_path / "mine.csv", seed=0) == data
    assert read_data(tmp_path / "mine.csv", seed=1).dev != data.dev


def test_a_csv_with_more_columns_and_line_breaks_in_a_text(tmp_path: Path) -> None:
    lines = "".join(f'{n % 2},x,"one\nand {n}"\n' for n in range(20))
    data = read_data(write_csv(tmp_path, "\ufefflabel,source,text\n" + lines), seed=0)
    assert ("one\nand 3", 1) in data.train + data.dev + data.tests["test"]


def test_the_same_text_twice_counts_once(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "text,label\n" + rows("1", "0") + rows("1", "0").upper())
    data = read_data(path, seed=0)
    assert len(data.train + data.dev + data.tests["test"]) == 40


ALIKE = [("👍", "👎"), (":)", ":("), ("काम", "कम"), ("ดี", "ดู"), ("C++", "C#"), ("+1", "-1"), ("so so :-)", "so so :-(")]


def test_texts_that_differ_in_signs_or_marks_are_all_kept(tmp_path: Path) -> None:
    signs = ["!!!", "?!", "...", ":D", "😀", "❤", "👍🏻", "👍🏿", "^_^", "-_-", "</3", "<3"]
    lines = [f"{text},{label}" for pair in ALIKE for label, text in enumerate(pair)] + [f"{sign},1" for sign in signs]
    data = read_data(write_csv(tmp_path, "text,label\n" + rows("1", "0") + "\n".join(lines)), seed=0)
    texts = [text for text, _ in data.train + data.dev + data.tests["test"]]
    assert {*signs, *(text for pair in ALIKE for text in pair)} < set(texts)
    assert (len(texts), data.dropped) == (40 + len(lines), 0)


def test_dropped_texts_count_duplicates_too(tmp_path: Path) -> None:
    data = read_data(write_csv(tmp_path, "text,label\n" + rows("1", "0") + rows("1", "0", 3)), seed=0)
    assert (len(data.train + data.dev + data.tests["test"]), data.dropped) == (40, 3)


def test_all_texts_with_two_labels_are_reported_in_one_line(tmp_path: Path) -> None:
    lines = (
        'one,1\n"two\nlines",1\nthree,1\nfour,1\n' + rows("1", "0") + "One!,0\nTWO lines,0\nthree,1\nfour,0\nfour,0\n"
    )
    with pytest.raises(UserError) as caught:
        read_data(write_csv(tmp_path, "text,label\n" + lines), seed=0)
    assert "both labels in 4 pair(s) of lines: 2 and 47, 3 and 48, 6 and 50, ...;" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_of_any_spreadsheet_is_read(tmp_path: Path, delimiter: str, end: str) -> None:
    lines = ["\ufeff Text , id, LABEL".replace(",", delimiter)]
    lines += [f'"a; b, ""c""\t{n}"{delimiter} {n}{delimiter} "{n % 2}"' for n in range(20)]
    (tmp_path / "mine.csv").write_bytes((end.join(lines) + end * 2).encode())
    data = read_data(tmp_path / "mine.csv", seed=0)
    expected = {(f'a; b, "c"\t{n}', n % 2) for n in range(20)}
    assert set(data.train + data.dev + data.tests["test"]) == expected


@pytest.mark.parametrize("text", ["x\0y", "word " * 40_000, "__proto__", "\x1b[31mred", "=1+1"])
def test_unusual_texts_are_read(tmp_path: Path, text: str) -> None:
    data = read_data(write_csv(tmp_path, f"text,label\n{rows('1', '0')}{text},1\n"), seed=0)
    assert (text.strip(), 1) in data.train + data.dev + data.tests["test"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no column"),
        ("text,label\n", "no example"),
        ("words,label\na,1\n", "line 1: no column 'text'"),
        ("text,class\na,1\n", "line 1: no column 'label'"),
        ("text,label\na,1\nb\n", "line 3: no label"),
        ("text,label\na,1\n,0\n", "line 3: no text"),
        ("text,label\na,1\nb, c,0\n", "line 3: more fields than columns"),
        ('text,label\na,1\n"b,0\n', "line 3: "),
        ("text,label\na,1\nb,2\nc,3\n", "3 different values"),
        ("text,label\na,1\nb,1\n", "1 different values"),
        (
            "text,label\nthe same,1\nother,0\nThe same!,0\n",
            "the same text with both labels in 1 pair(s) of lines: 2 and 4",
        ),
        ("text,text,label\na,b,1\n", "line 1: 2 columns 'text'"),
        ("text|label\na|1\n", "separated by a comma; it holds 'text|label'"),
        ("\x1b[31mtext,label\na,1\n", r"it holds '\x1b[31mtext', 'label'"),
        ("text,label\na,\x1b[2J\nb,2\nc,3\n", r"3 different values ('\x1b[2J', '2', '3')"),
        ("text,label\n" + "".join(f"t{n},{n}\n" for n in range(1000)), "1000 different values ('0', '1', '10', ...)"),
        ('text,label\na,1\n"b\n' + "c,0\n" * 50, "line 3: "),
        ("text,label\na,1\nb,0\n", "ten or more"),
    ],
)
def test_mistakes_in_a_csv_are_reported_with_their_line(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(UserError, match=r"mine\.csv") as caught:
        read_data(write_csv(tmp_path, content), seed=0)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# --- leaks ------------------------------------------------------------------------------------------------------------

HELD_OUT = ["A film that moves from joke to joke, and never once forgets its heart .", "Great phone!"]


@pytest.mark.parametrize(
    "text",
    [
        HELD_OUT[0],
        "a film that moves from joke to joke and never once forgets its heart",
        "it is , as they say , a film that moves from joke to joke , and never once forgets its heart , too",
        "moves from joke to joke , and never",
        "he thinks that it moves from joke to joke, and never once forgets its head or its hands",
        "great phone",
        "GREAT PHONE .",
    ],
)
def test_overlapping_texts_are_dropped(text: str) -> None:
    assert drop_leaks([(text, 1)], HELD_OUT) == []


@pytest.mark.parametrize("text", ["a film that moves", "a great phone, and a camera", "joke to joke", "its heart ."])
def test_common_words_are_no_leak(text: str) -> None:
    assert drop_leaks([(text, 1)], HELD_OUT) == [(text, 1)]


def test_the_first_and_last_characters_of_a_text_are_found_too() -> None:
    letters = letters_of(HELD_OUT[0])
    for start in (0, len(letters) - NGRAM):
        shared = letters[start : start + NGRAM]
        assert drop_leaks([(f"xyz {shared} xyz", 1)], HELD_OUT) == []
        for shorter in (shared[1:], shared[:-1]):
            assert drop_leaks([(f"xyz {shorter} xyz", 1)], HELD_OUT) == [(f"xyz {shorter} xyz", 1)]


@pytest.mark.parametrize(("text", "other"), [*ALIKE, ("C#", "C"), ("good 👍", "good 👎"), ("50%", "50"), ("1.5", "15")])
def test_short_texts_that_differ_in_a_sign_or_mark_are_no_leaks(text: str, other: str) -> None:
    assert drop_leaks([(text, 1), (other, 0)], [other]) == [(text, 1)]


@pytest.mark.parametrize(
    "copies",
    [
        ("it is , as they say , a `` film '' .", "It is, as they say, a “film”"),
        ("well-made - and (nearly) perfect...", "well made and nearly perfect"),
        ("cafe\u0301 society!", "CAFÉ  society"),
        ("很好的电影。", "很好的电影"),
        (":-) :-)", ":-):-)"),
        ('he said "no".', "he said no"),
    ],
)
def test_copies_are_recognized(copies: tuple[str, str]) -> None:
    first, second = map(normalize_for_matching, copies)
    assert first == second


@pytest.mark.parametrize(
    ("text", "other"),
    [
        *ALIKE,
        ("A+", "A-"),
        ("A-", "A"),
        ("ok (:", "ok ):"),
        ("-5 of 10", "5 of 10"),
        ("cafe", "café"),
        ("10:30", "1030"),
    ],
)
def test_texts_of_different_meaning_are_not_copies(text: str, other: str) -> None:
    assert normalize_for_matching(text) != normalize_for_matching(other)


pieces = st.text("ab ", max_size=60)
overlapping = st.builds(
    lambda text, start, length, before, after: (text, before + text[start : start + length] + after),
    st.text("aab ", min_size=40, max_size=120),
    st.integers(0, 30),
    st.integers(15, 80),
    pieces,
    pieces,
)


def test_a_leak_is_20_letters_contained_or_40_in_common() -> None:
    letters = "the quick brown fox jumps over a lazy dog, whose name is Bello".replace(" ", "").replace(",", "")
    for size, is_leak in ((19, False), (20, True)):
        assert LeakDetector([letters[:size]]).is_leak(f"well, {letters[:size]} indeed") == is_leak
        assert LeakDetector([f"well, {letters[:size]} indeed"]).is_leak(letters[:size]) == is_leak
    for size, is_leak in ((39, False), (40, True)):
        assert LeakDetector([f"well, {letters[:size]} indeed"]).is_leak(f"so, {letters[:size]} ever") == is_leak


contained = st.builds(
    lambda text, before, after: (text, before + text + after), st.text("ab ", min_size=15, max_size=90), pieces, pieces
)


@given(overlapping | contained | st.tuples(pieces, pieces), st.booleans())
@settings(max_examples=300, deadline=None)
def test_leaks_equal_those_of_a_plain_search(texts: tuple[str, str], swapped: bool) -> None:
    text, other = texts[::-1] if swapped else texts
    a, b = letters_of(text), letters_of(other)
    shorter, longer = sorted((a, b), key=len)
    leak = a == b or (len(shorter) >= MIN_CONTAINED and shorter in longer)
    leak = leak or any(a[i : i + NGRAM] in b for i in range(len(a) - NGRAM + 1))
    assert drop_leaks([(text, 0)], [other]) == ([] if leak or not text else [(text, 0)])


def test_the_examples_of_the_plain_search_reach_every_kind_of_leak() -> None:
    kinds = set()

    @given(overlapping | contained)
    @settings(max_examples=500, deadline=None, database=None, derandomize=True)
    def collect(texts: tuple[str, str]) -> None:
        a, b = map(letters_of, texts)
        shorter, longer = sorted((a, b), key=len)
        ngram = any(a[i : i + NGRAM] in b for i in range(len(a) - NGRAM + 1))
        kinds.add((ngram, shorter in longer, len(shorter) >= MIN_CONTAINED))

    collect()
    assert kinds >= {(True, False, True), (False, True, True), (True, True, True), (False, False, True)}


def test_near_copies_of_validation_and_test_texts_are_not_trained_on(tmp_path: Path) -> None:
    rng = random.Random(0)
    texts = [" ".join("".join(rng.choices("abcdefghij", k=6)) for _ in range(8)) for _ in range(60)]
    lines = "".join(f"{text},{n % 2}\nthe end of it: {text} once more,{n % 2}\n" for n, text in enumerate(texts))
    data = read_data(write_csv(tmp_path, "text,label\n" + lines), seed=0)
    assert data.dropped > 0
    for part in (data.dev, data.tests["test"]):
        detector = LeakDetector(text for text, _ in part)
        assert not [text for text, _ in data.train if detector.is_leak(text)]
        copies = [text for text in texts if any(text in other for other, _ in part)]
        assert copies
        assert not [text for text, _ in data.train if any(copy in text for copy in copies)]


@needs_data
def test_no_validation_or_test_sentence_is_in_the_training_set() -> None:
    data = read_data(DATA, seed=0)
    held_out = [letters_of(text) for part in (data.dev, *data.tests.values()) for text, _ in part]
    assert (len(data.dev), len(data.tests["sst2_test"])) == (872, 1821)
    assert (len(data.train), len(data.unlabeled), data.dropped) == (52_872, 64_034, 340)  # those of the bundled model
    texts = [*(text for text, _ in data.train), *data.unlabeled]
    assert len(texts) > 110_000
    assert not {letters_of(text) for text in texts} & set(held_out)
    sentences = [text for part in (data.dev, *data.tests.values()) for text, _ in part]
    ngrams = {ngram for text in sentences for ngram in word_ngrams(text)}
    assert len(ngrams) > 20_000
    assert not [text for text in texts if not ngrams.isdisjoint(word_ngrams(text))]


def word_ngrams(text: str, n: int = 12) -> list[str]:
    """Return all n consecutive words of a text that have enough characters to be a leak."""
    words = text.lower().split()
    ngrams = (letters_of("".join(words[i : i + n])) for i in range(len(words) - n + 1))
    return [ngram for ngram in ngrams if len(ngram) >= NGRAM]
