"""Both training scripts: invalid input is refused, and failed runs change no files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

import average_sentiment
import train_language_model
import train_sentiment
from lab.files import ROOT
from models import checkpoints
from models.distilbert import DistilBertClassifier
from models.hub import SENTIMENT
from sentiment.data import read_examples
from sentiment.metrics import compute_metrics, logits_of
from sentiment.model_setup import encode, load_tokenizer

Call = Callable[..., Any]
DATA = ROOT.parent / "shared/data"
SENTIMENT_FLAGS = ("--embed_dim", "16", "--num_layers", "1", "--num_heads", "2", "--vocab_size", "200")
LANGUAGE_FLAGS = ("--embed_dim", "16", "--num_layers", "1", "--num_heads", "2", "--vocab_size", "300")
LANGUAGE_FLAGS = (*LANGUAGE_FLAGS, "--context", "16", "--batch_size", "4", "--held_out", "held", "--device", "cpu")


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of labeled sentences."""
    path = tmp_path_factory.mktemp("sentences") / "mine.csv"
    path.write_text("text,label\n" + "".join(f"a {('dull', 'fine')[n % 2]} film no {n},{n % 2}\n" for n in range(60)))
    return path


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("books")
    (folder / "first.txt").write_text("The mouse looked for the cheese, and the cheese was there.\n" * 40)
    (folder / "held.txt").write_text("The cheese looked for the mouse. Café, 1789!\n" * 4)
    (folder / "notes.md").write_text("not a book")
    return folder


@pytest.mark.skipif(not (DATA / "sentiment").is_dir(), reason="needs the sentiment files of shared/data")
@pytest.mark.parametrize("part", ["sst2_dev", "uci_amazon"])
def test_the_bundled_classifier_reaches_the_metrics_of_its_card(part: str) -> None:
    model, tokenizer = DistilBertClassifier.from_pretrained(SENTIMENT.bundled), load_tokenizer(SENTIMENT.bundled)
    card = json.loads((SENTIMENT.bundled / "metrics.json").read_text())
    file = {"sst2_dev": "stsa.binary.dev", "uci_amazon": "amazon_cells_labelled.txt"}[part]
    examples = read_examples(DATA / "sentiment" / file)
    logits = logits_of(model, encode(tokenizer, [text for text, _ in examples]))
    metrics = compute_metrics(logits, torch.tensor([label for _, label in examples]))
    assert metrics.accuracy == pytest.approx(card[f"{part}_accuracy"], abs=0.002)
    assert metrics.calibration_error == pytest.approx(card[f"{part}_calibration_error"], abs=0.005)


def test_the_bundled_classifier_is_small_and_accurate_enough() -> None:
    folder = SENTIMENT.bundled
    card = json.loads((folder / "metrics.json").read_text())
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 10_000_000
    model = DistilBertClassifier.from_pretrained(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) == card["parameters"]
    assert card["sst2_test_accuracy"] >= 0.84
    assert min(card["uci_amazon_accuracy"], card["uci_imdb_accuracy"]) >= 0.82
    assert max(card[f"{part}_calibration_error"] for part in ("sst2_test", "uci_amazon", "uci_imdb")) < 0.1


# --- invalid input and failed runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("--num_steps", ("0", "-1", "x")),
        ("--batch_size", ("0",)),
        ("--context", ("0", "100000")),
        ("--learning_rate", ("-1", "nan", "inf")),
        ("--vocab_size", ("-1", "256")),
        ("--embed_dim", ("0", "201")),
        ("--num_layers", ("0",)),
        ("--num_heads", ("0", "7")),
        ("--seed", ("-1", "99999999999999999999999")),
    ],
)
def test_invalid_numbers_are_refused_naming_the_flag(
    refused: Call, books: Path, flag: str, values: tuple[str, ...]
) -> None:
    for value in values:
        refused(train_language_model, ("--data", str(books), "--held_out", "held", f"{flag}={value}"), flag, value)


@pytest.mark.parametrize("script", [train_sentiment, train_language_model])
def test_an_unusable_output_folder_is_refused_before_the_data_is_read(
    refused: Call, script: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    for name in ("config.json", "README.md", "metrics.csv", "model.safetensors"):
        (tmp_path / name).mkdir()
        (tmp_path / f"of_{name}").mkdir()
        (tmp_path / f"of_{name}" / name).write_text("mine")
        data = ("--data", str(tmp_path / "nothing"))
        words = (f"of_{name}/{name}", "not written by the lab")
        refused(script, (*data, "--output_dir", str(tmp_path / f"of_{name}")), *words)
        refused(script, (*data, "--output_dir", str(tmp_path)), f"{tmp_path}/", "a folder, where a file is to be")
        assert [path.name for path in (tmp_path / f"of_{name}").iterdir()] == [name]
        assert (tmp_path / f"of_{name}" / name).read_text() == "mine"
        (tmp_path / name).rmdir()
    for name in ("file", "file/below"):
        refused(script, (*data, "--output_dir", str(tmp_path / name)), str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("script", [train_sentiment, train_language_model])
def test_nothing_but_its_own_files_is_touched(
    call: Call, monkeypatch: pytest.MonkeyPatch, script: ModuleType, sentences: Path, tmp_path: Path
) -> None:
    """A repository with notes, and with the very text that is trained on; three runs into it, also through a link."""
    flags = SENTIMENT_FLAGS if script is train_sentiment else (*LANGUAGE_FLAGS[:-4], "--num_steps", "2")
    folder = tmp_path / "folder"
    for name in (".git/config", "notes.md", "sub/model.safetensors", "answers.pth", "added_tokens.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    shutil.copy(sentences, folder / "mine.csv")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    before = contents(folder)
    inode = folder.stat().st_ino
    own: set[str] = set()
    for output_dir, more in ((".", ()), (str(tmp_path / "link"), ()), (str(folder), ("--resume",))):
        arguments = ("--data", str(folder / "mine.csv"), *flags, *more, "--output_dir", output_dir)
        result = call(script, *arguments)
        assert result.status == 0, result.err
        after = contents(folder)
        own = own or set(after) - set(before)
        assert set(after) == set(before) | own
        assert {name: after[name] for name in before} == before
    assert folder.stat().st_ino == inode
    assert Path.cwd() == folder
    record = json.loads((folder / f"{script.__name__}.json").read_text())
    assert set(record["files"]) == own - {"checkpoint.pth"}
    assert own == {*script.MODEL_FILES, *script.REPORT_FILES, "checkpoint.pth"}


@pytest.mark.parametrize("name", ["samples.txt", "metrics.csv", "README.md", "checkpoint.pth"])
def test_the_training_text_is_never_overwritten(refused: Call, books: Path, tmp_path: Path, name: str) -> None:
    text = (books / "first.txt").read_text()
    (tmp_path / name).write_text(text)
    (tmp_path / "link").symlink_to(tmp_path / name)
    flags = (*LANGUAGE_FLAGS[:-4], "--num_steps", "2", "--output_dir", str(tmp_path))
    for data in (name, "link", "."):
        refused(train_language_model, ("--data", str(tmp_path / data), *flags), "--data", "it would be overwritten")
    assert (tmp_path / name).read_text() == text
    assert {path.name for path in tmp_path.iterdir()} == {name, "link"}


def test_encoder_teacher_and_averaged_runs_are_never_overwritten(
    refused: Call, sentences: Path, tiny_classifier: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_classifier, folder)
    (folder / "metrics.json").write_text(json.dumps({"method": "finetune", "parameters": 1, "validation_loss": 1}))
    before = contents(folder)
    data = ("--data", str(sentences), "--output_dir", str(folder))
    refused(train_sentiment, (*data, "--method", "finetune", "--encoder", str(folder)), "--encoder", "overwritten")
    refused(train_sentiment, (*data, "--method", "distill", "--teacher", str(folder)), "--teacher", "overwritten")
    runs = (str(folder), str(tiny_classifier))
    refused(average_sentiment, (*runs, *data), str(folder), "overwritten")
    assert contents(folder) == before


@pytest.mark.parametrize("script", [train_sentiment, train_language_model])
def test_a_disk_that_is_full_at_the_end_keeps_the_checkpoint(
    call: Call, monkeypatch: pytest.MonkeyPatch, script: ModuleType, sentences: Path, tmp_path: Path
) -> None:
    """The last rename fails: the earlier model is as it was, and --resume writes the new one."""
    flags = SENTIMENT_FLAGS if script is train_sentiment else (*LANGUAGE_FLAGS[:-4], "--num_steps", "2")
    arguments = ("--data", str(sentences), *flags, "--output_dir", str(tmp_path / "out"))
    assert call(script, *arguments).status == 0
    before = contents(tmp_path / "out")
    write = checkpoints.save_file

    def full(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoints, "save_file", full)
    result = call(script, *arguments, "--seed", "1")
    assert result.status == 1
    assert result.err.splitlines()[-1] == f"error: {tmp_path}/out/model.safetensors: No space left on device"
    after = contents(tmp_path / "out")
    assert after.pop("checkpoint.pth") != before.pop("checkpoint.pth")
    assert after == before
    monkeypatch.setattr(checkpoints, "save_file", write)
    assert call(script, "--resume", "--output_dir", str(tmp_path / "out")).status == 0
    assert contents(tmp_path / "out")["model.safetensors"] != before["model.safetensors"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def earlier(tiny_language: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "models/language"
    shutil.copytree(tiny_language, folder)
    (folder / "README.md").write_text("the card")
    record = {"script": "train_language_model", "figures": [], "packages": {}}
    record["files"] = ["README.md", "old_curve.png", "checkpoint.pth", "../language/config.json"]
    (folder / "train_language_model.json").write_text(json.dumps(record))
    (folder / "old_curve.png").write_text("of the earlier run")
    (folder / "notes.md").write_text("mine")
    return folder


@pytest.mark.parametrize("moment", ["training", "saving"])
@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left"), 1)])
def test_an_interrupted_run_leaves_the_earlier_model(
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

    monkeypatch.setattr(train_language_model, "describe" if moment == "training" else "write_metrics", stop)
    before = contents(earlier.parent)
    flags = (*LANGUAGE_FLAGS, "--num_steps", "2", "--output_dir", str(earlier))
    assert call(train_language_model, "--data", str(books), *flags).status == status
    after = contents(earlier.parent)
    after.pop("language/checkpoint.pth", None)
    assert after == before


ONE_LARGE_STEP = ("--num_steps", "1", "--warmup_steps", "0", "--learning_rate", "1e5")  # finite, too large for float16


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        (train_sentiment, (*SENTIMENT_FLAGS, "--learning_rate", "1e30")),
        (train_language_model, (*LANGUAGE_FLAGS, "--learning_rate", "1e30")),
        (train_language_model, (*LANGUAGE_FLAGS, *ONE_LARGE_STEP)),
    ],
)
def test_a_diverged_run_leaves_the_earlier_model(
    call: Call, script: ModuleType, flags: tuple[str, ...], sentences: Path, books: Path, earlier: Path
) -> None:
    before = contents(earlier.parent)
    data = sentences if script is train_sentiment else books
    result = call(script, "--data", str(data), *flags, "--output_dir", str(earlier))
    assert result.status == 2
    assert "diverged" in result.err.splitlines()[-1]
    after = contents(earlier.parent)
    after.pop("language/checkpoint.pth", None)
    assert after == before


def test_a_new_model_replaces_the_earlier_one_and_its_card(call: Call, books: Path, earlier: Path) -> None:
    before = contents(earlier)
    flags = (*LANGUAGE_FLAGS, "--num_steps", "1", "--output_dir", str(earlier))
    assert call(train_language_model, "--data", str(books), *flags).status == 0
    after = contents(earlier)
    assert after["README.md"] != before["README.md"]
    assert after["model.safetensors"] != before["model.safetensors"]
    assert "old_curve.png" not in after  # which the record of the earlier run lists
    assert after["notes.md"] == b"mine"
    assert [path.name for path in earlier.parent.iterdir()] == ["language"]
