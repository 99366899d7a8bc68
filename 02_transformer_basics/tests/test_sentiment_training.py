"""Training sentiment classifiers: the loop, interrupted runs, several processes, and what is saved."""

import ast
import copy
import dataclasses
import importlib.util
import json
import math
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import average_sentiment
import compare_sentiment
import train_sentiment
from average_sentiment import average_models
from lab.checkpoints import load_checkpoint, save_checkpoint
from lab.errors import UserError
from lab.files import ROOT
from models.distilbert import DistilBertClassifier, DistilBertConfig
from sentiment import distillation
from sentiment.comparison import bag_of_words
from sentiment.data import LABELS, SentimentData
from sentiment.distillation import (
    augment,
    cached_teacher_outputs,
    fingerprint,
    nearest_neighbors,
    split_clauses,
    transfer_set,
)
from sentiment.metrics import (
    accuracy_interval,
    best_temperature,
    calibration_error,
    compute_metrics,
    confusion_matrix,
    logits_of,
    most_confident_errors,
    pooled_and_logits,
)
from sentiment.model_card import EVALUATION, TITLES, Error, command_line, confusion_table, metrics_table, model_card
from sentiment.model_setup import (
    encode,
    from_encoder,
    from_scratch,
    from_teacher,
    load_tokenizer,
    shrink_tokenizer,
    train_tokenizer,
)
from sentiment.options import PRESETS, Options, describe_presets
from sentiment.report import print_report, record_as_row
from sentiment.training import (
    EncodedTexts,
    Targets,
    Trainer,
    TrainingConfig,
    length_bucketed_batches,
    smooth_labels,
    soft_targets,
    train,
)
from sentiment.training_setup import RATING_TEMPERATURE, label_targets

Call = Callable[..., Any]
GOOD = ["a funny film", "great and moving", "a fine light camera", "funny, great, fine"]
BAD = ["a dull film", "worse and tedious", "a heavy broken camera", "dull, worse, broken"]
WORDS = ["film", "camera", "story", "music", "picture", "phone", "plot", "voice"]
PROJECT = ROOT / "02_transformer_basics"
TINY = ("--embed_dim", "16", "--num_layers", "1", "--num_heads", "2", "--ff_dim", "32", "--vocab_size", "200")
SIZES = DistilBertConfig(300, 32, dim=16, n_layers=2, n_heads=2, hidden_dim=32, dropout=0.1, attention_dropout=0.1)
NO_DROPOUT = DistilBertConfig(300, 32, 16, 2, 2, 32, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0)


@pytest.fixture(scope="module")
def csv_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of short reviews whose adjective determines the label."""
    rng = random.Random(0)
    lines = ["text,label"]
    for number in range(200):
        label = number % 2
        adjective = rng.choice((["dull", "worse", "broken"], ["funny", "great", "fine"])[label])
        lines.append(f'"a {adjective} {rng.choice(WORDS)}, and it has the number {number} here",{label}')
    path = tmp_path_factory.mktemp("csv") / "mine.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def random_texts(count: int, seed: int = 0) -> tuple[list[list[int]], torch.Tensor]:
    rng = random.Random(seed)
    ids = [[2, *(rng.randrange(5, 300) for _ in range(rng.randrange(1, 12))), 3] for _ in range(count)]
    return ids, torch.tensor([rng.randrange(2) for _ in range(count)])


def tiny_trainer(
    config: DistilBertConfig = SIZES, count: int = 37, device: str = "cpu", **settings: Any
) -> tuple[Trainer, EncodedTexts]:
    torch.manual_seed(0)
    ids, labels = random_texts(count)
    model = from_scratch(config, LABELS).to(device)
    options = TrainingConfig(**{"batch_size": 8, "learning_rate": 1e-2, "report_every": 3, **settings})
    targets = Targets(smooth_labels(labels, 2, 0.0))
    return Trainer(model, ids, targets, 4, options), EncodedTexts(ids[:9], labels[:9])


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_loss_starts_at_the_logarithm_of_the_number_of_classes() -> None:
    trainer, _ = tiny_trainer(NO_DROPOUT)
    assert float(trainer.loss(list(range(37)), 37).detach()) == pytest.approx(math.log(2), abs=0.02)


def test_one_batch_can_be_memorized() -> None:
    trainer, dev = tiny_trainer(NO_DROPOUT, count=8, epochs=120, warmup=0.0)
    losses = [record.loss for record in train(trainer, dev)]
    assert losses[-1] < 0.01
    assert compute_metrics(logits_of(trainer.model, trainer.ids), dev.labels[:8]).accuracy == 1.0


@pytest.mark.parametrize(("count", "size"), [(1, 8), (8, 8), (37, 8), (1000, 3)])
def test_every_text_is_visited_once_per_epoch(count: int, size: int) -> None:
    lengths = [1 + number * 7 % 30 for number in range(count)]
    first, again, other, next_one = (
        length_bucketed_batches(lengths, size, s, e) for s, e in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    for batches in (first, other, next_one):
        assert sorted(i for batch in batches for i in batch) == list(range(count))
        assert max(map(len, batches)) <= size
        assert len(batches) == -(-count // size)
    assert first == again
    if count > 30:
        assert first != other
        assert first != next_one
        padding = sum(max(lengths[i] for i in batch) * len(batch) for batch in first) / sum(lengths)
        assert padding < 1.2  # texts of similar length are in one batch


def test_records_every_few_steps_and_metrics_after_every_epoch() -> None:
    trainer, dev = tiny_trainer(epochs=2)
    records = list(train(trainer, dev))
    assert [record.step for record in records] == [3, 5, 6, 9, 10]
    assert [record.metrics is not None for record in records] == [False, True, False, False, True]
    assert records[-1].epoch == 2.0
    assert records[-1].learning_rate < records[0].learning_rate
    best = max((r.metrics.accuracy, -r.metrics.loss) for r in records if r.metrics)
    assert trainer.best_score == best


def test_the_averaged_weights_are_evaluated_and_kept() -> None:
    for window in (1, 4, 1000):
        trainer, dev = tiny_trainer(average_over=window)
        expected: list[torch.Tensor] = []
        for step, batch in enumerate(length_bucketed_batches([1] * 37, 8, 0, 0), 1):
            trainer.train_step(batch)
            fraction = 1 / min(step, window)
            weights = [p.detach().clone() for p in trainer.model.parameters()]
            expected = [a + fraction * (w - a) for a, w in zip(expected or weights, weights, strict=True)]
        metrics = trainer.validate(dev)
        assert (metrics.accuracy, -metrics.loss) == trainer.best_score
        kept = [trainer.best_weights[name] for name, _ in trainer.model.named_parameters()]
        assert all(map(torch.equal, kept, trainer.model.parameters())) == (window == 1)
        for average, reference in zip(kept, expected, strict=True):
            torch.testing.assert_close(average, reference, atol=1e-6, rtol=1e-5)


def test_lower_blocks_have_smaller_learning_rates() -> None:
    trainer, _ = tiny_trainer(layer_decay=0.5)
    highest = trainer.optimizer.learning_rate
    trainer.train_step(list(range(8)))
    groups = trainer.optimizer.optimizers[0].param_groups
    rates = {id(p): group["lr"] / highest for group in groups for p in group["params"]}
    model = trainer.model
    parts = {1.0: [model.pre_classifier, model.classifier], 0.5: [model.blocks[1]], 0.25: [model.blocks[0]]}
    parts[0.125] = [model.word_embeddings, model.position_embeddings, model.norm]
    expected = {id(p): scale for scale, modules in parts.items() for each in modules for p in each.parameters()}
    assert expected.keys() == rates.keys() == {id(p) for p in model.parameters()}
    assert rates == pytest.approx(expected)


def test_words_are_masked_at_their_rate_and_never_the_first_position() -> None:
    ids = torch.full((200, 50), 7)
    unchanged, _ = tiny_trainer(word_dropout=0.0)
    assert torch.equal(unchanged.mask_words(ids), ids)
    masking, _ = tiny_trainer(word_dropout=0.25)
    masked = masking.mask_words(ids)
    assert set(masked.unique().tolist()) == {7, masking.mask_id}
    assert bool((masked[:, 0] == 7).all())
    assert float((masked[:, 1:] == masking.mask_id).float().mean()) == pytest.approx(0.25, abs=0.02)


def test_a_resumed_run_is_bit_exact() -> None:
    settings = {"epochs": 3, "word_dropout": 0.1, "layer_decay": 0.8, "average_over": 3}
    whole, dev = tiny_trainer(**settings)
    records = list(train(whole, dev))
    for stop in (1, 2, 4):
        first, _ = tiny_trainer(**settings)
        stream = train(first, dev)
        before = [next(stream) for _ in range(stop)]
        state = first.state_dict()
        second, _ = tiny_trainer(**settings)
        second.load_state_dict(saved_and_loaded(state))
        torch.rand(5)  # the generator's state must not matter
        after = list(train(second, dev))
        assert [r.loss for r in [*before, *after]] == [r.loss for r in records]
        for key, value in whole.model.state_dict().items():
            assert torch.equal(value, second.model.state_dict()[key]), key
        assert all(torch.equal(whole.best_weights[key], second.best_weights[key]) for key in whole.best_weights)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_trains_and_resumes_on_a_gpu() -> None:
    settings = {"epochs": 3, "word_dropout": 0.1, "device": "cuda"}
    whole, dev = tiny_trainer(**settings)
    losses = [record.loss for record in train(whole, dev)]
    first, _ = tiny_trainer(**settings)
    stream = train(first, dev)
    state = [first.state_dict() for _ in islice(stream, 2)][-1]
    second, _ = tiny_trainer(**settings)
    second.load_state_dict(saved_and_loaded(state))
    assert [record.loss for record in train(second, dev)] == pytest.approx(losses[2:], rel=1e-4)


def saved_and_loaded(state: Any) -> Any:
    """Return a copy that went through a file, as in a checkpoint."""
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_checkpoints_keep_the_keys_of_earlier_runs() -> None:
    trainer, dev = tiny_trainer()
    records = list(train(trainer, dev))
    assert set(trainer.state_dict()) == {"model", "averaged", "optimization", "best_score", "best"}
    row = record_as_row(records[-1])
    assert set(row) == {
        *("step", "epoch", "loss", "texts", "seconds", "texts_per_second", "tokens_per_second"),
        *("learning_rate", "measures"),
    }
    assert row["measures"] == list(records[-1].metrics or ())


def test_a_diverged_training_is_an_error() -> None:
    trainer, dev = tiny_trainer(learning_rate=1e30)
    with pytest.raises(ValueError, match=r"diverged in step \d+; try a smaller --learning_rate"):
        list(train(trainer, dev))


def test_bfloat16_gives_nearly_the_same_loss() -> None:
    exact, _ = tiny_trainer(NO_DROPOUT)
    rounded, _ = tiny_trainer(NO_DROPOUT, precision="bfloat16")
    rows = list(range(37))
    a, b = (float(trainer.loss(rows, 37).detach()) for trainer in (exact, rounded))
    assert a == pytest.approx(b, abs=0.01)
    assert a != b


# --- several processes ------------------------------------------------------------------------------------------------


PROGRAM = """
import sys
import torch
from lab.distributed import process_group, rank
from test_sentiment_training import gradients_and_weights

torch.set_num_threads(1)
with process_group():
    torch.save(gradients_and_weights(), f"{sys.argv[1]}/{rank()}.pt")
"""


def gradients_and_weights() -> dict[str, dict[str, torch.Tensor]]:
    """Return the gradients that the optimizer saw in the first step, and the weights after an epoch."""
    from lab.distributed import average_gradients

    trainer, dev = tiny_trainer(NO_DROPOUT, count=37)  # 37 texts in batches of 8: the last batch has 5
    gradients: dict[str, torch.Tensor] = {}
    step = trainer.optimizer.step

    def recording_step() -> None:
        if not gradients:
            average_gradients(trainer.optimizer.parameters)
            gradients.update({n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None})
        step()

    trainer.optimizer.step = recording_step
    list(train(trainer, dev))
    return {"gradients": gradients, "weights": trainer.model.state_dict()}


def test_two_processes_equal_one_with_the_same_batch(tmp_path: Path) -> None:
    alone = gradients_and_weights()
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = torchrun(str(program), str(tmp_path))
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert alone["gradients"].keys() == first["gradients"].keys()
    for name, gradient in alone["gradients"].items():
        torch.testing.assert_close(first["gradients"][name], gradient, atol=1e-6, rtol=0)
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name])


def test_torchrun_trains_one_model(csv_file: Path, tmp_path: Path) -> None:
    flags = [
        "--data",
        str(csv_file),
        *TINY,
        "--epochs",
        "1",
        "--output_dir",
        str(tmp_path / "out"),
        "--num_threads",
        "1",
    ]
    done = torchrun(str(PROJECT / "train_sentiment.py"), *flags, "--resume")  # there is nothing to resume
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote ") == 1
    assert (tmp_path / "out/model.safetensors").exists()
    command = "torchrun --nproc_per_node 2 train_sentiment.py --data"
    assert command in (card := (tmp_path / "out/README.md").read_text(encoding="utf-8"))
    assert "--resume" not in card


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script in two processes that train together."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return subprocess.run([*launcher, *arguments], capture_output=True, text=True, env=environment(), timeout=300)


def environment() -> dict[str, str]:
    """Return the environment of a script that imports the project; conftest.py puts the lab on PYTHONPATH."""
    folders = [PROJECT, PROJECT / "tests", os.environ["PYTHONPATH"]]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "OMP_NUM_THREADS": "1"}


# --- the script -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(csv_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run from scratch."""
    from lab.launch import launch

    out = tmp_path_factory.mktemp("trained") / "scratch"
    flags = ("--epochs", "12", "--learning_rate", "0.01", "--batch_size", "16", "--dropout", "0", "--word_dropout", "0")
    launch(
        train_sentiment.Config, train_sentiment.main, ("--data", str(csv_file), *TINY, *flags, "--output_dir", str(out))
    )
    return out


def test_the_saved_model_is_complete_and_equal_in_transformers(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("metrics.json", "metrics.csv", "README.md", "training_curve.png", "train_sentiment.json", "checkpoint.pth"),
    }
    ours, theirs = (
        DistilBertClassifier.from_pretrained(trained),
        AutoModelForSequenceClassification.from_pretrained(trained),
    )
    assert theirs.dtype == torch.float32
    encoding = AutoTokenizer.from_pretrained(trained)(GOOD + BAD, padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = theirs.eval()(**encoding).logits
        torch.testing.assert_close(ours(**encoding), logits, atol=1e-5, rtol=1e-5)
    classify = pipeline("text-classification", model=str(trained))
    predictions = [
        prediction["label"] for prediction in classify(["a great film, and number 1", "a broken phone, and number 2"])
    ]
    assert predictions == ["POSITIVE", "NEGATIVE"]


def test_the_metrics_are_those_of_the_saved_model(trained: Path, csv_file: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    data = train_sentiment.read_data(csv_file, 0)
    model, tokenizer = DistilBertClassifier.from_pretrained(trained), load_tokenizer(trained)
    for name, examples in (("dev", data.dev), ("test", data.tests["test"])):
        logits = logits_of(model, encode(tokenizer, [text for text, _ in examples]))
        labels = torch.tensor([label for _, label in examples])
        expected = compute_metrics(logits, labels)
        assert metrics[f"{name}_accuracy"] == pytest.approx(expected.accuracy)
        assert metrics[f"{name}_loss"] == pytest.approx(expected.loss, rel=1e-4)
        assert metrics[f"{name}_confusion"] == confusion_matrix(logits, labels)
        low, high = metrics[f"{name}_interval"]
        assert low <= expected.accuracy <= high
        assert name != "dev" or best_temperature(logits, labels) == pytest.approx(1, abs=0.05)
    assert metrics["validation_loss"] == metrics["dev_loss"] < 0.3
    assert metrics["training_sentences"] == len(data.train) == 160
    assert metrics["parameters"] == sum(p.numel() for p in model.parameters())
    card = (trained / "README.md").read_text()
    assert f"{metrics['test_accuracy']:.1%}" in card
    assert "mine.csv" in card
    assert str(csv_file.parent) not in card
    assert "--epochs 12" in card or "`epochs` 12" in card


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random DistilBERT encoder as minilm.py writes it: no classifier, more blocks than a student has."""
    from transformers import DistilBertConfig as TheirConfig
    from transformers import DistilBertModel

    torch.manual_seed(0)
    texts = [f"a {adjective} {word}, and number" for word in WORDS for adjective in ("dull", "funny", "great", "worse")]
    tokenizer = train_tokenizer(texts, 250)
    folder = tmp_path_factory.mktemp("encoder") / "encoder"
    sizes: dict[str, Any] = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 40, "max_position_embeddings": 300}
    DistilBertModel(TheirConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_fine_tuned_and_distilled(call: Call, csv_file: Path, encoder: Path, tmp_path: Path) -> None:
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    flags = (
        "--data",
        str(csv_file),
        "--epochs",
        "16",
        "--learning_rate",
        "0.01",
        "--batch_size",
        "16",
        "--dropout",
        "0",
    )
    made = call(
        train_sentiment, *flags, "--method", "finetune", "--encoder", str(encoder), "--output_dir", str(teacher)
    )
    assert made.status == 0, made.err
    flags = (*flags, "--method", "distill", "--teacher", str(teacher), "--num_layers", "2", "--ff_dim", "24")
    made = call(train_sentiment, *flags, "--vocab_size", "230", "--copies", "2", "--output_dir", str(student))
    assert made.status == 0, made.err
    for folder, layers in ((teacher, 3), (student, 2)):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["test_accuracy"] > 0.9
        assert DistilBertClassifier.from_pretrained(folder).config.n_layers == layers
    assert metrics["training_sentences"] > 2 * metrics["labelled_sentences"]
    assert "distilled" in (student / "README.md").read_text()
    assert not (student / "answers.pth").exists()


def changed_encoder(encoder: Path, folder: Path, positions: int = 300, spoil: float | None = None) -> Path:
    """Return a copy of an encoder with other positions, or with one weight replaced."""
    shutil.copytree(encoder, folder)
    weights = load_file(folder / "model.safetensors")
    table = weights["embeddings.position_embeddings.weight"]
    weights["embeddings.position_embeddings.weight"] = table[:positions].contiguous()
    if spoil is not None:
        weights["transformer.layer.1.ffn.lin1.weight"][3, 5] = spoil
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": positions}))
    return folder


def test_texts_are_cut_to_the_positions_of_the_encoder(
    call: Call, csv_file: Path, encoder: Path, tmp_path: Path
) -> None:
    short = changed_encoder(encoder, tmp_path / "encoder", positions=9)
    tokenizer = load_tokenizer(short)
    ids = encode(tokenizer, ["a great film, " * 20, "a"])
    assert [len(text) for text in ids] == [9, 3]
    assert ids[0][-1] == tokenizer.sep_token_id
    flags = ("--data", str(csv_file), "--epochs", "1", "--batch_size", "64")
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    made = call(train_sentiment, *flags, "--method", "finetune", "--encoder", str(short), "--output_dir", str(teacher))
    assert made.status == 0, made.err
    sizes = ("--num_layers", "1", "--ff_dim", "24", "--vocab_size", "230", "--copies", "0")
    flags = (*flags, *sizes, "--method", "distill", "--teacher", str(teacher))
    made = call(train_sentiment, *flags, "--output_dir", str(student))
    assert made.status == 0, made.err
    for folder in (teacher, student):
        assert load_tokenizer(folder).model_max_length == AutoTokenizer.from_pretrained(folder).model_max_length == 9
        assert "Reads 9 tokens at most" in (folder / "README.md").read_text()


def test_an_encoder_with_the_older_vocab_txt_is_read(encoder: Path, tmp_path: Path) -> None:
    vocabulary = load_tokenizer(encoder).get_vocab()
    older = tmp_path / "older"
    shutil.copytree(encoder, older, ignore=shutil.ignore_patterns("tokenizer*"))
    (older / "vocab.txt").write_text("".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.__getitem__)))
    texts = ["A Great film, and number?", "dull", "été"]
    assert encode(load_tokenizer(older), texts) == encode(load_tokenizer(encoder), texts)
    (older / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert load_tokenizer(older).tokenize("A film") == ["[UNK]", "film"]


def test_an_unusable_tokenizer_is_refused_in_one_line(
    refused: Call, csv_file: Path, encoder: Path, tmp_path: Path
) -> None:
    content = json.loads((encoder / "tokenizer.json").read_text())
    larger, other = copy.deepcopy(content), copy.deepcopy(content)
    larger["model"]["vocab"]["word"] = len(content["model"]["vocab"]) + 9
    other["model"]["vocab"]["[M]"] = other["model"]["vocab"].pop("[MASK]")
    other["added_tokens"] = [entry for entry in other["added_tokens"] if entry["content"] != "[MASK]"]
    cases = {
        "none": (None, "no tokenizer in it"),
        "damaged": ('{"model": ', "cannot be read"),
        "latin": (b"caf\xe9", "not UTF-8"),
        "larger": (json.dumps(larger), "does not fit the model"),
        "foreign": (json.dumps(other), "lacks [MASK]"),
        "empty vocab.txt": ("", "does not fit the model"),
    }
    for name, (text, words) in cases.items():
        folder = tmp_path / name
        shutil.copytree(encoder, folder, ignore=shutil.ignore_patterns("tokenizer*"))
        file = folder / ("vocab.txt" if "vocab.txt" in name else "tokenizer.json")
        if text is not None:
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
        flags = ("--data", str(csv_file), "--method", "finetune", "--encoder", str(folder))
        refused(train_sentiment, flags, str(folder), words)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused_by_name(
    refused: Call, csv_file: Path, encoder: Path, tuned: list[Path], tmp_path: Path, value: float
) -> None:
    broken = changed_encoder(encoder, tmp_path / "encoder", spoil=value)
    data = ("--data", str(csv_file), "--output_dir", str(tmp_path / "out"))
    refused(train_sentiment, (*data, "--method", "finetune", "--encoder", str(broken)), str(broken), "NaN")
    teacher = tmp_path / "teacher"
    shutil.copytree(tuned[0], teacher)
    weights = load_file(teacher / "model.safetensors")
    weights["classifier.bias"][0] = value
    save_file(weights, teacher / "model.safetensors", {"format": "pt"})
    refused(train_sentiment, (*data, "--method", "distill", "--teacher", str(teacher)), str(teacher), "NaN")
    refused(average_sentiment, (str(tuned[0]), str(teacher), *data), str(teacher), "NaN")


def test_a_teacher_whose_outputs_overflow_is_refused_by_name(
    call: Call, csv_file: Path, tuned: list[Path], tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(tuned[0], teacher)
    weights = {name: tensor.float() for name, tensor in load_file(teacher / "model.safetensors").items()}
    weights["pre_classifier.weight"] *= 1e38
    weights["classifier.weight"] *= 1e38
    save_file(weights, teacher / "model.safetensors", {"format": "pt"})
    flags = ("--data", str(csv_file), "--method", "distill", "--teacher", str(teacher), "--vocab_size", "230")
    result = call(train_sentiment, *flags)
    assert result.status == 2
    error = result.err.splitlines()[-1]  # after a line of progress
    assert error.startswith(f"error: --teacher {teacher}: its outputs")


def resumed(call: Call, run: Path, target: Path, *more: str) -> tuple[Any, bytes]:
    """Resume a copy of a run; return the result and the weights."""
    target.mkdir()
    (target / "checkpoint.pth").write_bytes((run / "checkpoint.pth").read_bytes())
    result = call(train_sentiment, "--resume", "--output_dir", str(target), *more)
    weights = target / "model.safetensors"
    return result, weights.read_bytes() if weights.exists() else b""


def changed_copy(model: Path, target: Path) -> Path:
    """Copy a model with one weight changed."""
    shutil.copytree(model, target)
    tensors = load_file(target / "model.safetensors")
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    return target


def test_a_resumed_run_has_its_own_encoder_or_teacher(
    call: Call, csv_file: Path, encoder: Path, tmp_path: Path
) -> None:
    """The encoder may be gone, the teacher may have moved, but neither may be another one."""
    flags = ("--data", str(csv_file), "--epochs", "1", "--dropout", "0")
    moved = Path(shutil.copytree(encoder, tmp_path / "encoder"))
    runs = {"encoder": tmp_path / "finetuned", "teacher": tmp_path / "distilled"}
    finetune = ("--method", "finetune", "--encoder", str(moved), "--output_dir", str(runs["encoder"]))
    assert call(train_sentiment, *flags, *finetune).status == 0
    shutil.copytree(runs["encoder"], tmp_path / "teacher")
    distill = ("--method", "distill", "--teacher", str(tmp_path / "teacher"), "--output_dir", str(runs["teacher"]))
    sizes = ("--num_layers", "1", "--ff_dim", "24", "--vocab_size", "230", "--copies", "1")
    assert call(train_sentiment, *flags, *distill, *sizes).status == 0
    for flag, run in runs.items():
        expected = (run / "model.safetensors").read_bytes()
        other = changed_copy(tmp_path / flag, tmp_path / f"other_{flag}")
        elsewhere = shutil.move(tmp_path / flag, tmp_path / f"moved_{flag}")
        result, weights = resumed(call, run, tmp_path / f"{flag}_moved", f"--{flag}", str(elsewhere))
        assert (result.status, weights) == (0, expected), result.err
        result, weights = resumed(call, run, tmp_path / f"{flag}_other", f"--{flag}", str(other))
        assert (result.status, weights) == (2, b"")
        assert f"--{flag} {other}: not what the run" in result.err
        result, weights = resumed(call, run, tmp_path / f"{flag}_gone")
        if flag == "encoder":
            assert (result.status, weights) == (0, expected), result.err
        else:
            assert (result.status, result.err.count("\n")) == (2, 1)
            assert str(tmp_path / "teacher") in result.err


def test_the_card_of_a_resumed_run_has_the_command_that_started_it(
    call: Call, csv_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--data", str(csv_file), *TINY, "--epochs", "1"]
    for more in ([*flags, "--seed", "3"], ["--resume"], ["--resume", "--epochs", "2"]):
        arguments = [*more, "--output_dir", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["train_sentiment.py", *arguments])
        assert call(train_sentiment, *arguments).status == 0
        card = (tmp_path / "out/README.md").read_text()
        assert "train_sentiment.py --data mine.csv --embed_dim 16" in card
        assert "--epochs 1 --seed 3" in card
        assert "--resume" not in card
        assert ("--epochs 2\n" in card) == (more[-1] == "2")


def test_a_run_interrupted_by_ctrl_c_resumes_bit_exactly(
    call: Call, csv_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--data", str(csv_file), *TINY, "--epochs", "3", "--batch_size", "16")
    assert call(train_sentiment, *flags, "--output_dir", str(tmp_path / "whole")).status == 0
    seen: list[int] = []

    def stop(record: Any) -> dict[str, Any]:
        seen.append(record.step)
        if len(seen) == 2:
            signal.raise_signal(signal.SIGINT)
        return as_row(record)

    as_row = train_sentiment.record_as_row
    monkeypatch.setattr(train_sentiment, "record_as_row", stop)
    stopped = call(train_sentiment, *flags, "--output_dir", str(tmp_path / "parts"))
    assert stopped.status == 130
    assert "--resume" in stopped.err
    assert (tmp_path / "parts/checkpoint.pth").exists()
    refused = call(train_sentiment, *flags, "--seed", "3", "--output_dir", str(tmp_path / "parts"), "--resume")
    assert refused.status == 2
    assert "--seed is 3" in refused.err
    assert call(train_sentiment, *flags, "--output_dir", str(tmp_path / "parts"), "--resume").status == 0
    whole, parts = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_resuming_a_finished_run_trains_nothing_more(call: Call, trained: Path, csv_file: Path) -> None:
    names = ("model.safetensors", "metrics.csv", "metrics.json", "README.md")
    before = {name: (trained / name).read_bytes() for name in names}
    result = call(train_sentiment, "--data", str(csv_file), "--output_dir", str(trained), "--resume")
    assert result.status == 0, result.err
    after = {name: (trained / name).read_bytes() for name in names}
    assert after["README.md"].decode().splitlines() == before["README.md"].decode().splitlines()
    assert after == before


def test_a_killed_run_resumes_bit_exactly(call: Call, csv_file: Path, tmp_path: Path) -> None:
    flags = ["--data", str(csv_file), *TINY, "--epochs", "2", "--batch_size", "4", "--checkpoint_every", "20"]
    assert call(train_sentiment, *flags, "--output_dir", str(tmp_path / "whole")).status == 0
    out = tmp_path / "parts"
    arguments = [sys.executable, str(PROJECT / "train_sentiment.py"), *flags, "--output_dir", str(out)]
    process = subprocess.Popen(arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "checkpoint.pth").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert call(train_sentiment, *flags, "--output_dir", str(out), "--resume").status == 0
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("--epochs", ("0", "-1", "x")),
        ("--batch_size", ("0",)),
        ("--learning_rate", ("-1", "nan", "inf")),
        ("--vocab_size", ("5", "-1")),
        ("--embed_dim", ("0", "130")),
        ("--num_layers", ("0",)),
        ("--num_heads", ("0", "3")),
        ("--ff_dim", ("0",)),
        ("--dropout", ("-0.1", "1", "nan")),
        ("--word_dropout", ("-0.1", "1.5")),
        ("--layer_decay", ("0", "1.5", "nan")),
        ("--average_over", ("0",)),
        ("--label_smoothing", ("1",)),
        ("--temperature", ("0", "nan")),
        ("--summary_weight", ("-1",)),
        ("--phrases", ("-1",)),
        ("--copies", ("-1",)),
        ("--sentences", ("-1",)),
        ("--checkpoint_every", ("0",)),
        ("--num_threads", ("0",)),
        ("--device", ("abacus",)),
        ("--precision", ("float8",)),
        ("--method", ("luck",)),
        ("--teacher", ("somewhere",)),
        ("--seed", ("-1", "99999999999999999999999")),
    ],
)
def test_invalid_values_are_refused_by_name(refused: Call, csv_file: Path, flag: str, values: tuple[str, ...]) -> None:
    for value in values:
        refused(train_sentiment, ("--data", str(csv_file), f"{flag}={value}"), flag, value)


def test_a_flag_overrides_the_preset_of_its_method() -> None:
    for method, preset in PRESETS.items():
        assert preset.method == method
        assert Options(method=method).resolved() == preset
        assert preset.training_config().epochs == preset.epochs
        assert f"--method {method}: epochs {preset.epochs}" in describe_presets()
    options = Options(method="finetune", epochs=6, dropout=0.0).resolved()
    assert (options.epochs, options.dropout, options.batch_size) == (6, 0.0, 32)


def test_a_missing_encoder_or_teacher_is_an_error(refused: Call, csv_file: Path, tmp_path: Path, trained: Path) -> None:
    data = ("--data", str(csv_file), "--output_dir", str(tmp_path / "out"))
    refused(train_sentiment, (*data, "--method", "distill"), "--teacher")
    nowhere = str(tmp_path / "nowhere")
    refused(train_sentiment, (*data, "--method", "finetune", "--encoder", nowhere), "nowhere", "minilm.py")
    refused(train_sentiment, (*data, "--method", "distill", "--teacher", nowhere), "nowhere")
    assert not (tmp_path / "out/config.json").exists()


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_calibration_error_by_hand() -> None:
    confident = torch.tensor([[0.0, math.log(9)]] * 10)  # predicts 1 with p = 0.9
    labels = torch.tensor([1] * 7 + [0] * 3)
    assert calibration_error(confident, labels) == pytest.approx(0.2)
    assert calibration_error(confident, torch.tensor([1] * 9 + [0])) == pytest.approx(0.0, abs=1e-6)
    mixed = torch.cat([confident, torch.tensor([[0.0, math.log(1.5)]] * 10)])  # the second half predicts 1 with p = 0.6
    labels = torch.tensor([1] * 7 + [0] * 3 + [1] * 10)
    assert calibration_error(mixed, labels) == pytest.approx((0.2 + 0.4) / 2)


def test_the_best_temperature_gives_the_lowest_loss() -> None:
    torch.manual_seed(0)
    logits = torch.randn(500, 2) * 2
    labels = logits.softmax(-1).multinomial(1).squeeze(1)
    assert best_temperature(logits, labels) == pytest.approx(1.0, abs=0.15)
    assert best_temperature(logits * 3, labels) == pytest.approx(3 * best_temperature(logits, labels), rel=1e-3)
    losses = {t: compute_metrics(logits / t, labels).loss for t in (0.5, best_temperature(logits, labels), 2.0)}
    assert min(losses, key=losses.__getitem__) not in (0.5, 2.0)


def test_confusion_matrix_and_most_confident_errors() -> None:
    logits = torch.tensor([[0.0, 3.0], [2.0, 0.0], [0.0, 1.0], [0.0, 5.0]])
    labels = torch.tensor([1, 1, 0, 0])
    assert confusion_matrix(logits, labels) == [[0, 2], [1, 1]]
    assert [(index, predicted) for index, predicted, _ in most_confident_errors(logits, labels, 5)] == [
        (3, 1),
        (1, 0),
        (2, 1),
    ]
    probs = logits.softmax(-1)[[3, 1, 2], [1, 0, 1]].tolist()
    assert [p for _, _, p in most_confident_errors(logits, labels, 5)] == pytest.approx(probs)
    assert most_confident_errors(logits, logits.argmax(-1), 5) == []


def test_intervals_match_the_binomial() -> None:
    correct = torch.arange(400) % 5 != 0
    low, high = accuracy_interval(correct)
    spread = 1.96 * math.sqrt(0.8 * 0.2 / 400)
    assert (low, high) == (pytest.approx(0.8 - spread, abs=0.004), pytest.approx(0.8 + spread, abs=0.004))
    assert accuracy_interval(correct) == (low, high)
    same = accuracy_interval(torch.stack([correct, correct]))
    assert same[1] - same[0] == pytest.approx(high - low, rel=0.1)


# --- initial weights --------------------------------------------------------------------------------------------------


def test_a_student_of_its_teachers_size_equals_the_teacher(tiny_classifier: Path) -> None:
    teacher, tokenizer = DistilBertClassifier.from_pretrained(tiny_classifier), load_tokenizer(tiny_classifier)
    student = from_teacher(teacher, list(range(len(tokenizer))), teacher.config).eval()
    ids = encode(tokenizer, GOOD + BAD)
    torch.testing.assert_close(logits_of(student, ids), logits_of(teacher, ids), atol=1e-5, rtol=1e-5)


def test_a_shrunk_tokenizer_has_the_most_frequent_pieces_and_every_character(tiny_classifier: Path) -> None:
    original = load_tokenizer(tiny_classifier)
    small, kept_ids = shrink_tokenizer(original, ["a funny film, a funny film"] * 3, 130)
    assert len(small) == len(kept_ids) <= 130
    tokens = original.convert_ids_to_tokens(kept_ids)
    assert small.convert_ids_to_tokens(list(range(len(kept_ids)))) == tokens
    assert small("a film")["input_ids"][0] == small.cls_token_id
    assert small.tokenize("A funny film") == original.tokenize("A funny film")
    words = ["wonderful", "dull", "moving", "mouse"]
    assert all("[UNK]" not in small.tokenize(word) for word in words if "[UNK]" not in original.tokenize(word))
    with pytest.raises(ValueError, match="--vocab_size is 10"):
        shrink_tokenizer(original, ["a"], 10)


def test_a_vocabulary_is_the_same_in_every_run() -> None:
    texts = [f"{good} {word} or {bad} {other}" for good in GOOD for bad in BAD for word in WORDS for other in WORDS]
    vocabularies = [train_tokenizer(texts, 150).get_vocab() for _ in range(5)]
    assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)
    assert len(vocabularies[0]) <= 150
    tokenizer = train_tokenizer(texts, 150)
    assert tokenizer.convert_ids_to_tokens(list(range(5))) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.tokenize("A FILM") == ["a", "film"]
    assert tokenizer("film")["input_ids"] == [2, tokenizer.convert_tokens_to_ids("film"), 3]


def test_the_encoders_weights_are_copied_unchanged(encoder: Path) -> None:
    from transformers import DistilBertModel

    ours, theirs = from_encoder(encoder, LABELS, 0.1).eval(), DistilBertModel.from_pretrained(encoder).eval()
    ids = torch.tensor([[2, 9, 30, 17, 3]])
    with torch.inference_mode():
        pooled = ours.pooled_output(ours.embed(ids))
        torch.testing.assert_close(pooled, theirs(ids).last_hidden_state[:, 0], atol=1e-5, rtol=1e-5)
    assert ours.head_dropout.p == ours.blocks[0].attention.dropout.p == 0.1


# --- distillation -----------------------------------------------------------------------------------------------------


@pytest.fixture
def teacher_and_ids(tiny_classifier: Path) -> tuple[DistilBertClassifier, list[list[int]]]:
    """A teacher, and tokenized texts of several lengths."""
    texts = [text + " film" * n for n in range(4) for text in GOOD + BAD]
    return DistilBertClassifier.from_pretrained(tiny_classifier), encode(load_tokenizer(tiny_classifier), texts)


def test_teacher_outputs_are_in_the_order_of_the_texts(
    teacher_and_ids: tuple[DistilBertClassifier, list[list[int]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, ids = teacher_and_ids
    monkeypatch.setattr(distillation, "CHUNK_SIZE", 5)
    outputs = cached_teacher_outputs(teacher, ids, "float32", tmp_path / "answers.pth")
    one_by_one = torch.cat([logits_of(teacher, [each]) for each in ids])
    torch.testing.assert_close(outputs.logits, one_by_one, atol=1e-5, rtol=1e-5)
    logits = teacher.classification_head(outputs.pooled.float())
    torch.testing.assert_close(logits, one_by_one, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("end", ["Ctrl-C", "killed"])
def test_an_interrupted_teacher_repeats_no_saved_chunk(
    end: str,
    teacher_and_ids: tuple[DistilBertClassifier, list[list[int]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    teacher, ids = teacher_and_ids
    monkeypatch.setattr(distillation, "CHUNK_SIZE", 5)
    monkeypatch.setattr(distillation, "CHUNKS_PER_SAVE", 2)
    whole = cached_teacher_outputs(teacher, ids, "float32", tmp_path / "whole.pth")
    compute, counts = distillation.pooled_and_logits, list[int]()

    def interrupted(model: DistilBertClassifier, texts: list[list[int]], precision: Any) -> tuple[torch.Tensor, ...]:
        counts.append(len(texts))
        if len(counts) == 3 and end == "killed":
            raise SystemExit
        if len(counts) == 3:
            signal.raise_signal(signal.SIGINT)
        return compute(model, texts, precision)

    monkeypatch.setattr(distillation, "pooled_and_logits", interrupted)
    with pytest.raises(KeyboardInterrupt if end == "Ctrl-C" else SystemExit):
        cached_teacher_outputs(teacher, ids, "float32", tmp_path / "parts.pth")
    assert ("are saved" in capsys.readouterr().err) is (end == "Ctrl-C")
    counts[:] = [0] * 9
    parts = cached_teacher_outputs(teacher, ids, "float32", tmp_path / "parts.pth")
    assert sum(counts) == len(ids) - (15 if end == "Ctrl-C" else 10)
    again = cached_teacher_outputs(teacher, ids, "float32", tmp_path / "parts.pth")
    assert sum(counts) == len(ids) - (15 if end == "Ctrl-C" else 10)
    for outputs in (parts, again):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(outputs, whole, strict=True))


TEACHER_PROGRAM = """
import sys, torch
from pathlib import Path
from sentiment import distillation
from models.distilbert import DistilBertClassifier
from lab.distributed import process_group, rank
folder, name = Path(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distillation.CHUNK_SIZE = 5
compute, counts = distillation.pooled_and_logits, []
distillation.pooled_and_logits = lambda model, ids, precision: (
    counts.append(len(ids)) or compute(model, ids, precision)
)
with process_group():
    ids = torch.load(folder / "ids.pt")
    teacher = DistilBertClassifier.from_pretrained(name)
    outputs = distillation.cached_teacher_outputs(teacher, ids, "float32", folder / "answers.pth")
    torch.save({"outputs": list(outputs), "computed": sum(counts)}, folder / f"{rank()}.pt")
"""


def test_two_processes_split_the_teachers_texts(
    teacher_and_ids: tuple[DistilBertClassifier, list[list[int]]], tiny_classifier: Path, tmp_path: Path
) -> None:
    teacher, ids = teacher_and_ids
    (tmp_path / "program.py").write_text(TEACHER_PROGRAM)
    torch.save(ids, tmp_path / "ids.pt")
    done = torchrun(str(tmp_path / "program.py"), str(tmp_path), str(tiny_classifier))
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first["computed"] + second["computed"] == len(ids)
    assert abs(first["computed"] - second["computed"]) <= 5
    for ours, theirs, alone in zip(
        first["outputs"],
        second["outputs"],
        cached_teacher_outputs(teacher, ids, "float32", tmp_path / "alone.pth"),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
        torch.testing.assert_close(ours, alone, atol=1e-3, rtol=1e-3)


def test_outputs_in_another_precision_are_close_and_cached_separately(
    teacher_and_ids: tuple[DistilBertClassifier, list[list[int]]], tmp_path: Path
) -> None:
    teacher, ids = teacher_and_ids
    path = tmp_path / "answers.pth"
    exact, rough = (cached_teacher_outputs(teacher, ids, precision, path) for precision in ("float32", "bfloat16"))
    assert rough.logits.dtype == torch.float32
    assert 0 < float((rough.logits - exact.logits).abs().max()) < 0.05 * float(exact.logits.abs().max())
    assert fingerprint(teacher, ids, "float32") == fingerprint(teacher, ids, "float32")
    assert fingerprint(teacher, ids, "float32") != fingerprint(teacher, ids, "bfloat16")
    assert fingerprint(teacher, ids, "float32") != fingerprint(teacher, ids[1:], "float32")
    other = copy.copy(teacher)  # the same weights, computed with other heads
    other.config = dataclasses.replace(teacher.config, n_heads=1)
    assert fingerprint(teacher, ids, "float32") != fingerprint(other, ids, "float32")


def test_outputs_saved_by_an_older_version_are_recomputed(
    teacher_and_ids: tuple[DistilBertClassifier, list[list[int]]], tmp_path: Path
) -> None:
    teacher, ids = teacher_and_ids
    path, key = tmp_path / "answers.pth", fingerprint(teacher, ids, "float32")
    whole = cached_teacher_outputs(teacher, ids, "float32", path)
    old = {"fingerprint": key, "summaries": whole.pooled * 0, "logits": whole.logits * 0}
    save_checkpoint(path, distillation.KIND, old)
    assert torch.equal(cached_teacher_outputs(teacher, ids, "float32", path).logits, whole.logits)


def test_saved_outputs_keep_the_keys_of_earlier_runs(
    teacher_and_ids: tuple[DistilBertClassifier, list[list[int]]], tmp_path: Path
) -> None:
    teacher, ids = teacher_and_ids
    path, key = tmp_path / "answers.pth", fingerprint(teacher, ids, "float32")
    whole = cached_teacher_outputs(teacher, ids, "float32", path)
    state = load_checkpoint(path, distillation.KIND)
    assert set(state) >= {"fingerprint", "done", "summaries", "logits"}
    earlier = {"fingerprint": key, "done": len(ids), "summaries": whole.pooled + 1, "logits": whole.logits}
    save_checkpoint(path, distillation.KIND, earlier)
    assert torch.equal(cached_teacher_outputs(teacher, ids, "float32", path).pooled, whole.pooled + 1)


def distilling_trainer(temperature: float, teacher_logits: torch.Tensor, **settings: Any) -> Trainer:
    """Return a trainer whose targets are a teacher's logits (37, 2) at a temperature."""
    trainer, _ = tiny_trainer(NO_DROPOUT)
    config = TrainingConfig(temperature=temperature, batch_size=8, **settings)
    return Trainer(trainer.model, trainer.ids, Targets(soft_targets(teacher_logits, temperature)), 4, config)


def gradient_norm(trainer: Trainer) -> float:
    trainer.model.zero_grad()
    trainer.loss(list(range(37)), 37).backward()
    return float(torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]).norm())


def test_soft_targets_and_their_gradient() -> None:
    logits = torch.tensor([[0.0, 4.0]])
    assert soft_targets(logits, 3.0)[0].tolist() == pytest.approx(
        [1 / (1 + math.exp(4 / 3)), 1 / (1 + math.exp(-4 / 3))]
    )
    teacher_logits = torch.randn(37, 2, generator=torch.Generator().manual_seed(0)) * 2
    for temperature in (1.0, 3.0):
        trainer = distilling_trainer(temperature, teacher_logits)
        student_logits = logits_of(trainer.model, trainer.ids)
        log_probs = (student_logits / temperature).log_softmax(-1)
        cross_entropy = -(soft_targets(teacher_logits, temperature) * log_probs).sum(-1).mean()
        assert trainer.loss(list(range(37)), 37).item() == pytest.approx(
            temperature**2 * cross_entropy.item(), rel=1e-5
        )
        agreeing = distilling_trainer(temperature, student_logits)  # a student that equals its teacher has gradient 0
        assert gradient_norm(agreeing) < 1e-4 < gradient_norm(trainer)


def test_gradients_of_soft_targets_do_not_shrink_with_the_temperature() -> None:
    teacher_logits = torch.randn(37, 2, generator=torch.Generator().manual_seed(0)) * 2
    norms = [gradient_norm(distilling_trainer(temperature, teacher_logits)) for temperature in (1.0, 20.0)]
    assert 0.5 < norms[1] / norms[0] < 2


def test_the_distance_to_the_teachers_hidden_state_has_its_weight() -> None:
    trainer = distilling_trainer(1.0, torch.zeros(37, 2), summary_weight=0.5)
    plain = trainer.loss(list(range(37)), 37).item()
    pooled = torch.zeros(37, SIZES.dim)
    trainer.targets = Targets(trainer.targets.probs, pooled)
    own, _ = pooled_and_logits(trainer.model, trainer.ids)
    expected = plain + 0.5 * own.square().mean(-1).mean().item()
    assert trainer.loss(list(range(37)), 37).item() == pytest.approx(expected, rel=1e-5)


def test_a_rated_text_has_its_rating_as_target_and_others_their_label() -> None:
    data = SentimentData(
        [("fine", 1), ("so so", 0), ("bad", 0), ("rated", 1)], [], {}, ratings={"so so": 0.0, "rated": -1.2}
    )
    probs = label_targets(data, label_smoothing=0.1).probs
    odds = math.exp(-1.2 / RATING_TEMPERATURE)
    assert probs[:, 1].tolist() == pytest.approx([0.95, 0.5, 0.05, odds / (1 + odds)])
    assert probs.sum(dim=-1).tolist() == pytest.approx([1.0] * 4)


def test_the_transfer_set() -> None:
    text = "a funny first half, but the rest is dull and slow -- and it is far too long"
    assert split_clauses(text) == ["a funny first half", "but the rest is dull", "and it is far too long"]
    assert split_clauses("nothing to cut here") == []
    neighbors = {"funny": ["witty"], "dull": ["boring"]}
    rng = random.Random(0)
    copies = [augment(text, neighbors, rng) for _ in range(50)]
    assert any("witty" in copy for copy in copies)
    assert all(set(re.findall(r"\w+", copy)) <= set(re.findall(r"\w+", text)) | {"witty", "boring"} for copy in copies)
    texts = transfer_set([text], ["one more of them, and it is dull"], 4, neighbors, 0)
    assert len(texts) == len(set(texts))
    assert texts[:2] == [text, "one more of them, and it is dull"]
    assert texts == transfer_set([text], ["one more of them, and it is dull"], 4, neighbors, 0)
    assert Options(method="distill").resolved().temperature == 2.0


def test_words_are_replaced_and_dropped_at_their_rates() -> None:
    rng = random.Random(0)
    words = ["good"] * 100
    copies = [augment(" ".join(words), {"good": ["fine"]}, rng).split() for _ in range(300)]
    kept = sum(len(copy) for copy in copies) / 30_000
    replaced = sum(copy.count("fine") for copy in copies) / sum(len(copy) for copy in copies)
    assert kept == pytest.approx(1 - 0.1 / 2, abs=0.01)  # half of the copies drop a tenth
    assert replaced == pytest.approx((0.1 + 0.2 + 0.4) / 3, abs=0.02)


def test_neighbors_do_not_depend_on_the_order_of_the_vocabulary() -> None:
    names = ["good", "fine", "##ly", "great", "nice", "bad", "poor", "kind", "warm", "cold", "new", "old"]
    vocabulary = {name: number for number, name in enumerate(names)}
    words = torch.ones(len(vocabulary), 4)  # all of them equally similar
    backwards = dict(reversed(vocabulary.items()))
    assert nearest_neighbors(vocabulary, words) == nearest_neighbors(backwards, words)
    assert set(nearest_neighbors(vocabulary, words)) == set(vocabulary) - {"##ly"}


# --- averaged weights -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tuned(csv_file: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two short fine-tuning runs of one encoder, with different learning rates."""
    folders = [tmp_path_factory.mktemp("tuned") / name for name in ("first", "second")]
    for folder, rate in zip(folders, (0.01, 0.008), strict=True):
        options = Options(method="finetune", epochs=16, learning_rate=rate, batch_size=16, dropout=0.0)
        train_sentiment.main(train_sentiment.Config(csv_file, options, encoder, output_dir=folder, device="cpu"))
    return folders


def test_the_average_of_two_runs(call: Call, csv_file: Path, tuned: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "average"
    made = call(average_sentiment, *map(str, tuned), "--data", str(csv_file), "--output_dir", str(out))
    assert made.status == 0, made.err
    first, second, average = (DistilBertClassifier.from_pretrained(folder).state_dict() for folder in (*tuned, out))
    for name in average:
        if not name.startswith("classifier."):  # its weights are calibrated
            torch.testing.assert_close(average[name], (first[name] + second[name]) / 2, rtol=1e-3, atol=1e-6)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["method"] == "average"
    assert metrics["test_accuracy"] > 0.9
    recorded = json.loads((out / "average_sentiment.json").read_text())["results"]
    assert recorded["test_right"] == metrics["test_right"]
    compared = call(compare_sentiment, *map(str, tuned), str(out))
    assert compared.status == 0, compared.err
    assert "average of" in compared.out


def test_the_average_of_a_model_with_itself_is_that_model(tuned: list[Path]) -> None:
    model = DistilBertClassifier.from_pretrained(tuned[0])
    for name, weights in average_models([model, model, model]).state_dict().items():
        torch.testing.assert_close(weights, model.state_dict()[name], rtol=1e-6, atol=0)


def test_runs_that_cannot_be_averaged_are_refused(
    refused: Call, csv_file: Path, tuned: list[Path], trained: Path, tmp_path: Path
) -> None:
    data, first = ("--data", str(csv_file)), str(tuned[0])
    refused(average_sentiment, (first, *data), "two")
    refused(average_sentiment, (first, str(tmp_path / "none"), *data), "none")
    refused(average_sentiment, (first, str(trained), *data), "--method scratch")
    settings = json.loads((tuned[1] / "metrics.json").read_text())["settings"]
    changes: dict[str, dict[str, Any]] = {
        "seed": {"settings": settings | {"seed": 5}},
        "unknown": {"settings": settings | {"later": 1}},
        "method": {"method": "average"},
    }
    for name, change in changes.items():
        shutil.copytree(tuned[1], tmp_path / name)
        metrics = json.loads((tuned[1] / "metrics.json").read_text())
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics | change))
    refused(average_sentiment, (first, str(tmp_path / "unknown"), *data), "unknown/metrics.json")
    refused(average_sentiment, (first, str(tmp_path / "seed"), *data), "other seeds")
    refused(average_sentiment, (first, str(tmp_path / "method"), *data), "--method average")
    shutil.copytree(tuned[1], tmp_path / "words")
    tokenizer = tmp_path / "words/tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    refused(average_sentiment, (first, str(tmp_path / "words"), *data), "its vocabulary differs")
    (tmp_path / "other.csv").write_text(csv_file.read_text().replace(",1\n", ",spam\n").replace(",0\n", ",ham\n"))
    refused(average_sentiment, (*map(str, tuned), "--data", str(tmp_path / "other.csv")), "--data", "HAM")
    small = from_scratch(SIZES, LABELS)
    with pytest.raises(UserError, match="sizes"):
        average_models([small, DistilBertClassifier.from_pretrained(tuned[0])])


# --- model card -------------------------------------------------------------------------------------------------------


def test_the_bundled_card_agrees_with_its_metrics() -> None:
    folder = ROOT / "assets/models/sentiment"
    metrics = json.loads((folder / "metrics.json").read_text())
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    sizes = {"sst2_dev": 872, "sst2_test": 1821, "uci_amazon": 1000, "uci_imdb": 1000}
    sets = {name: [("text", 0)] * size for name, size in sizes.items()}
    data = SentimentData([("text", 0)], sets.pop("sst2_dev"), sets)
    for line in (*metrics_table(data, metrics), *confusion_table(LABELS, metrics["sst2_test_confusion"])):
        assert line in lines
    assert f"# {TITLES[metrics['method']]}" in lines
    assert f"- **Evaluation**: {EVALUATION}" in lines
    assert any(line.startswith("- NEGATIVE, predicted POSITIVE with p = 1.00: ") for line in lines)


def card_of(data: SentimentData, errors: dict[str, list[Error]]) -> str:
    """Return the card of an untrained classifier for some data."""
    metrics: dict[str, Any] = {"method": "scratch", "settings": {}, "labelled_sentences": 1, "temperature": 1.0}
    metrics["parameters"] = 1
    for name in data.evaluation_sets():
        metrics |= {f"{name}_accuracy": 1.0, f"{name}_interval": [1.0, 1.0], f"{name}_calibration_error": 0.0}
        metrics[f"{name}_confusion"] = [[1, 0], [0, 1]]
    return model_card(Path("mine.csv"), data, from_scratch(SIZES, data.labels), metrics, errors)


def test_labels_texts_and_files_are_escaped_on_card_and_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train_sentiment.py", "--data", "mine.csv"])
    labels = ("A|B `x`", "\x1b[31m<b>*Z*")
    errors = {"test": [Error("[go](x) `y`\n# head | \x1b[2J", labels[0], labels[1], 0.9)]}
    data = SentimentData([], [], {"test": []}, labels, source="a`b.csv")
    card = card_of(data, errors)
    assert "\x1b" not in card
    assert r"predicted \\x1b\[31m\<b\>\*Z\*" in card
    assert r"“\[go\](x) \`y\` # head \| \\x1b\[2J”" in card
    assert "``a`b.csv``" in card
    tables = [line for line in card.splitlines() if (line.startswith("| ") and "predicted" in line) or "| true" in line]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {4}
    metrics = {"test_calibration_error": 0.0, "test_accuracy": 1.0, "test_interval": [1.0, 1.0]}
    metrics |= {name.replace("test", "dev"): value for name, value in metrics.items()}
    confusion = {f"{name}_confusion": [[1, 0], [0, 1]] for name in ("dev", "test")}
    print_report(data, metrics | confusion, errors | {"dev": []})
    assert "\x1b" not in (out := capsys.readouterr().out)
    assert r"\x1b[31m<b>*Z*" in out


@pytest.mark.parametrize(
    "words",
    [
        ("--data", "my own.csv"),
        ("--data=my own.csv", "--resume"),
        ("--output_dir", "a'b\n`c` $HOME", "--data", "x"),
        ("--output_dir", "caf\udce9\x1b", "--method", "scratch"),
        ("--output_dir", "x" * 5000),
    ],
)
def test_the_command_on_the_card_is_one_quoted_line(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my own.csv").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "train_sentiment.py"), *words])
    command = command_line(Path("my own.csv"))
    assert command.isprintable()
    script = (
        f"python() {{ {shlex.quote(sys.executable)} -c 'import sys; print(ascii(sys.argv[1:]))' \"$@\"; }}\n{command}"
    )
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    expected = [word for word in words if word != "--resume"]
    assert ast.literal_eval(run.stdout) == ["train_sentiment.py", *expected]


def test_the_command_on_the_card_names_no_folder_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "mine.csv"
    data.write_text("")
    words = [f"--data={data}", f"--encoder={ROOT / 'runs/minilm'}", "--output_dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["train_sentiment.py", *words])
    expected = "python train_sentiment.py --data=mine.csv --encoder=runs/minilm --output_dir out"
    assert command_line(data) == expected


# --- comparison -------------------------------------------------------------------------------------------------------


def test_runs_of_one_method_are_seeds_of_one_row(call: Call, csv_file: Path, trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    other = tmp_path / "other"
    other.mkdir()
    metrics = json.loads((trained / "metrics.json").read_text())
    flipped = {**metrics, "test_right": "0" * len(metrics["test_right"]), "test_calibration_error": 1.0}
    (other / "metrics.json").write_text(json.dumps(flipped))
    result = call(compare_sentiment, str(trained), str(other), "--baseline_data", str(csv_file))
    assert result.status == 0, result.err
    rows = json.loads((tmp_path / "out/compare_sentiment.json").read_text())["results"]
    assert list(rows) == ["bag_of_words", "scratch"]
    assert rows["scratch"]["seeds"] == 2
    assert rows["scratch"]["test"]["accuracy"] == pytest.approx(metrics["test_accuracy"] / 2, abs=1e-4)
    low, high = rows["scratch"]["test"]["interval"]
    assert low < 0.1 < 0.9 < high  # most of the variation is between seeds
    assert rows["bag_of_words"]["test"]["accuracy"] > 0.9
    assert "bag of words" in result.out


def test_the_bag_of_words_prefers_ratings_to_labels() -> None:
    pytest.importorskip("sklearn")
    train = [(text, label) for label, texts in enumerate((BAD, GOOD)) for text in texts for _ in range(3)]
    plain = SentimentData(train, train, {"test": train})
    against = SentimentData(train, train, {"test": train}, ratings={text: 2.0 - 4.0 * label for text, label in train})
    assert bag_of_words(plain)["test_accuracy"] == 1
    assert bag_of_words(against)["test_accuracy"] == 0


def test_runs_that_cannot_be_compared_are_refused(
    refused: Call, csv_file: Path, trained: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    refused(compare_sentiment, (), "nothing to compare")
    (tmp_path / "metrics.json").write_text('{"loss": 1}')
    refused(compare_sentiment, (str(tmp_path),), "metrics.json")
    refused(compare_sentiment, (str(tmp_path / "none"),), "none")
    metrics = json.loads((trained / "metrics.json").read_text())
    changes: dict[str, dict[str, Any]] = {
        "parameters": {"parameters": "many"},
        "right": {"test_right": "01x"},
        "empty": {"test_right": ""},
        "error": {"test_calibration_error": None},
    }
    for name, change in changes.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics | change))
        refused(compare_sentiment, (str(trained), str(tmp_path / name)), f"{name}/metrics.json", "not the metrics")
    for name, change in {
        "shorter": {"test_right": "01"},
        "more": {"other_right": "1", "other_calibration_error": 0},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics | change))
        refused(compare_sentiment, (str(trained), str(tmp_path / name)), name, "other data")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused(compare_sentiment, ("--baseline_data", str(csv_file)), "scikit-learn")
