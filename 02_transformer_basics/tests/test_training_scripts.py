"""The scripts that trained the shipped models: tiny runs, what is saved, how it is measured, and mistakes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import train_language_model
import train_sentiment
from lab.errors import UserError
from lab.files import ROOT
from pretrained import SENTIMENT, load_model
from train_sentiment import accuracy, read_examples

Call = Callable[..., Any]
DATA = ROOT.parent / "shared/data"
GOOD = ["a funny film", "great and moving", "a fine light camera", "funny, great, fine"]
BAD = ["a dull film", "worse and tedious", "a heavy broken camera", "dull, worse, broken"]
SENTIMENT_FLAGS = ("--embed_dim", "16", "--num_layers", "1", "--num_heads", "2", "--vocab_size", "200")
LANGUAGE_FLAGS = ("--embed_dim", "16", "--num_layers", "1", "--num_heads", "2", "--vocab_size", "300")
LANGUAGE_FLAGS = (*LANGUAGE_FLAGS, "--context", "16", "--batch_size", "4", "--held_out", "held", "--device", "cpu")


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the sentiment script reads, with a few sentences each."""
    folder = tmp_path_factory.mktemp("sentences")
    labelled = [(1, text) for text in GOOD] + [(0, text) for text in BAD]
    (folder / "mr_minus_sst_devtest.tsv").write_text("".join(f"{label}\t{text}\n" for label, text in labelled * 8))
    (folder / "IntegratedPros.txt").write_text("".join(f"<Pros>{text}</Pros>\n" for text in GOOD * 8))
    (folder / "IntegratedCons.txt").write_text("".join(f"<Cons>{text}</Cons>\n" for text in BAD * 8))
    for part in ("dev", "test"):
        (folder / f"stsa.binary.{part}").write_text("".join(f"{label} {text}\n" for label, text in labelled))
    return folder


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("books")
    (folder / "first.txt").write_text("The mouse looked for the cheese, and the cheese was there.\n" * 40)
    (folder / "held.txt").write_text("The cheese looked for the mouse. Café, 1789!\n" * 4)
    (folder / "notes.md").write_text("not a book")
    return folder


def records(stream: str) -> list[float]:
    return [float(line.split("loss ")[1].split()[0]) for line in stream.splitlines() if "loss " in line]


# --- tiny runs --------------------------------------------------------------------------------------------------------


def test_a_tiny_classifier_learns_is_saved_and_is_measured(call: Call, sentences: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    flags = (*SENTIMENT_FLAGS, "--epochs", "8", "--learning_rate", "0.01", "--batch_size", "16")
    result = call(train_sentiment, "--data", str(sentences), "--output_dir", str(out), *flags)
    assert result.status == 0, result.err
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["training_sentences"] == 128
    assert metrics["sst2_test_accuracy"] == 1.0  # the test sentences of this made-up set are in the training set
    losses = records(result.err)
    assert len(losses) == 8
    assert losses[-1] < 0.5 < losses[0] < 0.9
    loaded = load_model(SENTIMENT, str(out))
    reference = AutoModelForSequenceClassification.from_pretrained(out).eval()
    encoding = AutoTokenizer.from_pretrained(out)(GOOD + BAD, padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = reference(**encoding).logits
        torch.testing.assert_close(loaded.model(**encoding).logits, logits)
    assert logits.argmax(-1).tolist() == [1] * 4 + [0] * 4
    assert reference.config.id2label == {0: "NEGATIVE", 1: "POSITIVE"}


def test_the_best_epoch_on_dev_is_the_one_kept(sentences: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = iter([0.5, 0.9, 0.7])
    monkeypatch.setattr(train_sentiment, "accuracy", lambda *_: next(accuracies))
    torch.manual_seed(0)
    config = train_sentiment.Config(data=sentences, epochs=3, embed_dim=16, num_layers=1, num_heads=2)
    examples = read_examples(sentences / "stsa.binary.dev")
    tokenizer = train_sentiment.train_tokenizer(GOOD + BAD, 200)
    model = train_sentiment.build_model(config, len(tokenizer))
    weights, best = [], {}
    for record in train_sentiment.train(config, model, tokenizer, examples, examples):
        weights.append(model.classifier.weight.clone())
        best = record.best
    assert torch.equal(best["classifier.weight"], weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_accuracy_counts_every_example_once(tiny_classifier: Path) -> None:
    loaded = load_model(SENTIMENT, str(tiny_classifier))
    examples = [(text * length, length % 2) for length in range(1, 80) for text in ("a funny film ", "dull ")]
    right = 0
    for text, label in examples:
        with torch.inference_mode():
            ids = loaded.tokenizer(text, truncation=True, return_tensors="pt")
            right += int(loaded.model(**ids).logits.argmax()) == label
    assert 0 < right < len(examples)
    assert accuracy(loaded.model, loaded.tokenizer, examples) == pytest.approx(right / len(examples))


# --- the files --------------------------------------------------------------------------------------------------------


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
    with pytest.raises(FileNotFoundError):
        read_examples(tmp_path / "missing.tsv")


@pytest.mark.skipif(not (DATA / "sentiment").is_dir(), reason="needs the sentiment files of shared/data")
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
def test_the_real_files_are_read_whole(name: str, count: int, positive: int) -> None:
    examples = read_examples(DATA / "sentiment" / name)
    assert (len(examples), sum(label for _, label in examples)) == (count, positive)
    assert not any("<Pros>" in text or "<Cons>" in text for text, _ in examples)


@pytest.mark.skipif(not (DATA / "sentiment").is_dir(), reason="needs the sentiment files of shared/data")
def test_the_shipped_classifier_is_as_good_as_its_card_says() -> None:
    loaded = load_model(SENTIMENT, str(SENTIMENT.shipped))
    card = json.loads((SENTIMENT.shipped / "metrics.json").read_text())
    dev = read_examples(DATA / "sentiment/stsa.binary.dev")
    assert accuracy(loaded.model, loaded.tokenizer, dev) == pytest.approx(card["sst2_dev_accuracy"], abs=0.003)
    assert loaded.model.num_parameters() == card["parameters"]


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "flag", "values"),
    [
        (train_sentiment, "--epochs", ("0", "-1", "x")),
        (train_sentiment, "--batch_size", ("0",)),
        (train_sentiment, "--learning_rate", ("-1", "nan", "inf")),
        (train_sentiment, "--vocab_size", ("5", "-1")),
        (train_sentiment, "--embed_dim", ("0", "130")),
        (train_sentiment, "--num_layers", ("0",)),
        (train_sentiment, "--num_heads", ("0", "3")),
        (train_sentiment, "--dropout", ("-0.1", "1", "nan")),
        (train_sentiment, "--word_dropout", ("-0.1", "1.5")),
        (train_sentiment, "--seed", ("-1", "99999999999999999999999")),
        (train_language_model, "--num_steps", ("0", "-1", "x")),
        (train_language_model, "--batch_size", ("0",)),
        (train_language_model, "--context", ("0", "100000")),
        (train_language_model, "--learning_rate", ("-1", "nan", "inf")),
        (train_language_model, "--vocab_size", ("-1", "256")),
        (train_language_model, "--embed_dim", ("0", "201")),
        (train_language_model, "--num_layers", ("0",)),
        (train_language_model, "--num_heads", ("0", "7")),
        (train_language_model, "--seed", ("-1", "99999999999999999999999")),
    ],
)
def test_impossible_numbers_are_refused_by_name(
    refused: Call, sentences: Path, books: Path, script: ModuleType, flag: str, values: tuple[str, ...]
) -> None:
    data = (
        (("--data", str(sentences)),) if script is train_sentiment else (("--data", str(books), "--held_out", "held"),)
    )
    for value in values:
        refused(script, (*data[0], f"{flag}={value}"), flag, value)


@pytest.mark.parametrize("script", [train_sentiment, train_language_model])
def test_an_output_folder_that_cannot_be_is_refused_before_the_data_is_read(
    refused: Call, script: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("mine")
    data = ("--data", str(tmp_path / "nothing"))
    for name in ("file", "file/below", "other"):
        refused(
            script, (*data, "--output_dir", str(tmp_path / name)), str(tmp_path / "file" if "file" in name else name)
        )
    assert {path.name for path in tmp_path.iterdir()} == {"file", "other"}
    assert (tmp_path / "file").read_text() == (tmp_path / "other/thesis.txt").read_text() == "mine"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def earlier(tiny_language: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "models/language"
    shutil.copytree(tiny_language, folder)
    (folder / "README.md").write_text("the card")
    return folder


@pytest.mark.parametrize("moment", ["training", "saving"])
@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left"), 1)])
def test_a_run_that_is_stopped_leaves_the_earlier_model(
    call: Call,
    books: Path,
    earlier: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    error: BaseException,
    status: int,
) -> None:
    def stop(*_: Any) -> None:
        raise error

    monkeypatch.setattr(train_language_model, "describe" if moment == "training" else "write_json", stop)
    before = contents(earlier.parent)
    flags = (*LANGUAGE_FLAGS, "--num_steps", "2", "--output_dir", str(earlier))
    assert call(train_language_model, "--data", str(books), *flags).status == status
    after = contents(earlier.parent)
    after.pop("language/checkpoint.pth", None)
    assert after == before


@pytest.mark.parametrize("script", [train_sentiment, train_language_model])
def test_a_training_that_diverges_leaves_the_earlier_model(
    call: Call, script: ModuleType, sentences: Path, books: Path, earlier: Path
) -> None:
    before = contents(earlier.parent)
    flags, data = (SENTIMENT_FLAGS, sentences) if script is train_sentiment else (LANGUAGE_FLAGS, books)
    arguments = ("--data", str(data), *flags, "--learning_rate", "1e30", "--output_dir", str(earlier))
    result = call(script, *arguments)
    assert result.status == 2
    assert "diverged" in result.err.splitlines()[-1]
    assert contents(earlier.parent) == before


def test_a_new_model_takes_the_place_of_the_earlier_one_card_and_all(call: Call, books: Path, earlier: Path) -> None:
    before = contents(earlier)
    flags = (*LANGUAGE_FLAGS, "--num_steps", "1", "--output_dir", str(earlier))
    assert call(train_language_model, "--data", str(books), *flags).status == 0
    after = contents(earlier)
    assert after["README.md"] != before["README.md"]
    assert after["model.safetensors"] != before["model.safetensors"]
    assert [path.name for path in earlier.parent.iterdir()] == ["language"]
