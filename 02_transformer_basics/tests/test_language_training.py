"""Training the language model: data, training loop, resuming, several processes, the files that are written."""

import ast
import dataclasses
import hashlib
import importlib.machinery
import importlib.util
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice, pairwise, product
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoTokenizer

import optimization
import train_language_model
from lab.checkpoints import load_checkpoint, save_checkpoint
from lab.distributed import world_size
from lab.errors import UserError
from lab.files import ROOT
from lab.launch import parse_arguments
from lab.training import deferred_interrupt
from language_model import data as language_data
from language_model import reports
from language_model import training as language_training
from language_model.data import (
    END_OF_TEXT,
    IGNORE_INDEX,
    UNKNOWN,
    TextSplit,
    Windows,
    byte_pair_tokenizer,
    character_tokenizer,
    cut_text,
    encode_texts,
    read_texts,
    sample_texts,
)
from language_model.ngram_baseline import kneser_ney_bits
from language_model.presets import PRESETS, TRAINING, Config, download_shakespeare
from language_model.reports import compute_metrics, model_card
from language_model.training import (
    LanguageConfig,
    StepRecord,
    Trainer,
    evaluate_nll,
    hash_of,
    new_model,
    summed_loss,
    train,
)
from models.gpt2 import GPT2
from optimization import Muon, OptimizerConfig, OptimizerGroup, Precision, learning_rate_at, newton_schulz
from speed import kernels, onednn
from speed.onednn import onednn_linear
from speed.training import matmul_precision

Call = Callable[..., Any]
SCRIPT = Path(__file__).parent.parent / "train_language_model.py"
TEXT = "".join(f"The mouse has {number} cheeses, and {number * 7 % 10} crumbs.\n" for number in range(120))
SMALL = LanguageConfig(
    embed_dim=16, num_layers=2, num_heads=2, context=8, batch_size=4, num_steps=12, warmup_steps=2, dropout=0.1
)
FLAGS = ("--embed_dim", "16", "--num_layers", "1", "--num_heads", "2", "--context", "8", "--batch_size", "4")
FLAGS = (*FLAGS, "--num_steps", "60", "--evaluate_every", "20", "--checkpoint_every", "5", "--dropout", "0.1")


def random_ids(count: int, vocabulary: int = 20) -> torch.Tensor:
    return torch.randint(vocabulary, (count,), generator=torch.Generator().manual_seed(1))


def random_model(config: LanguageConfig, vocabulary: int = 20) -> GPT2:
    torch.manual_seed(0)
    return new_model(config, vocabulary)


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "mouse.txt"
    path.write_text(TEXT)
    return path


# --- data -------------------------------------------------------------------------------------------------------------


def test_tiny_shakespeare_is_downloaded_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    library = ModuleType("datasets")
    library.__spec__ = importlib.machinery.ModuleSpec("datasets", None)
    library.load_dataset = lambda *_, **__: [{"text": TEXT}]  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "datasets", library)
    texts = download_shakespeare(PRESETS["shakespeare"])
    assert "".join([*texts.training.values(), *texts.validation.values()]) == TEXT
    library.load_dataset = lambda *_, **__: {}["no network"]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(UserError, match=r"Tiny Shakespeare cannot be downloaded .*no network"):
        download_shakespeare(PRESETS["shakespeare"])
    with pytest.raises(UserError, match=r"--data is missing: a folder of \.txt files"):
        download_shakespeare(PRESETS["books"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--data is missing; .* pip install datasets"):
        download_shakespeare(PRESETS["shakespeare"])


@given(length=st.integers(2, 200), context=st.integers(1, 30), seed=st.integers(0, 5), world=st.sampled_from([1, 2, 3]))
@settings(deadline=None, max_examples=100)
def test_an_epoch_visits_every_token_once(length: int, context: int, seed: int, world: int) -> None:
    if length <= context:
        with pytest.raises(UserError, match="--context"):
            Windows(torch.arange(length), context, 6, seed)
        return
    windows = Windows(torch.arange(length), context, 6, seed)
    for epoch in range(3):
        seen: list[int] = []
        for batch in windows.windows.split(6):
            for process in range(world):
                part = batch[process::world]
                if len(part):
                    inputs, targets = windows.inputs_and_targets(part)
                    counted = targets != IGNORE_INDEX
                    assert torch.equal(inputs[counted] + 1, targets[counted])
                    seen += targets[counted].tolist()
        assert sorted(seen) == list(range(1, length))
        while windows.epoch == epoch:
            windows.next_batch()
        windows.load_state_dict({"epoch": epoch + 1, "position": 0})


def test_batches_continue_into_the_next_epoch_without_losing_tokens() -> None:
    windows, seen = Windows(torch.arange(50), 4, 5, 0), []
    while len(seen) < 49 * 10:
        _, targets = windows.next_batch()
        assert targets.shape == (5, 4)
        seen += targets[targets != IGNORE_INDEX].tolist()
    counts = torch.tensor(seen).bincount(minlength=50)[1:]
    assert counts.max() - counts.min() <= 1 + (len(seen) % 49 > 0)


def test_every_epoch_has_its_own_order_and_offset() -> None:
    windows = Windows(torch.arange(1000), 10, 5, 0)
    first = windows.shuffle_epoch()
    windows.epoch = 1
    assert not torch.equal(first, windows.shuffle_epoch()[: len(first)])
    windows.epoch = 0
    assert torch.equal(first, windows.shuffle_epoch())
    assert not torch.equal(first, Windows(torch.arange(1000), 10, 5, 1).windows[: len(first)])


def test_the_last_tenth_is_held_out(text_file: Path) -> None:
    texts = read_texts(text_file)
    assert texts.training["mouse"] + texts.validation["mouse"] == TEXT
    assert len(texts.training["mouse"]) == len(TEXT) * 9 // 10
    tokenizer = character_tokenizer(list(texts.training.values()), 8)
    assert tokenizer.decode(encode_texts(tokenizer, [texts.training["mouse"]])[1:].tolist()) == texts.training["mouse"]


def test_neither_model_nor_tokenizer_sees_held_out_books(tmp_path: Path) -> None:
    (tmp_path / "first.txt").write_text("abc " * 50)
    (tmp_path / "held.txt").write_text("xyz " * 50)
    (tmp_path / "notes.md").write_text("no book")
    texts = read_texts(tmp_path, ("held",))
    assert (texts.training.keys(), texts.validation.keys()) == ({"first"}, {"held"})
    assert not set("xyz") & set(character_tokenizer(list(texts.training.values()), 8).get_vocab())
    for names, words in ((("other",), "no other.txt"), (("first", "held"), "no text to train on")):
        with pytest.raises(UserError, match=words):
            read_texts(tmp_path, names)


@given(text=st.text())
@settings(deadline=None, max_examples=100)
def test_byte_level_tokenizer_round_trips_any_text(text: str) -> None:
    tokenizer = byte_pair_tokenizer(["the cheese and the mouse"], 300, 16)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=st.text(alphabet="abc \n\r\té🧀'. "))
@settings(deadline=None, max_examples=100)
def test_character_tokenizer_round_trips_its_characters(text: str) -> None:
    tokenizer = character_tokenizer(["abc \n\r\té🧀'. "], 16)
    assert len(tokenizer.encode(text)) == len(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_transformers_loads_the_character_tokenizer_with_its_unknown_token(tmp_path: Path) -> None:
    character_tokenizer(["abc \n"], 16).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.decode(tokenizer.encode(" a b  c\n\na")) == " a b  c\n\na"
    assert tokenizer.decode(tokenizer.encode("a🧀bß")) == f"a{UNKNOWN}b{UNKNOWN}"
    assert len(tokenizer) == len("abc \n") + 2


WHOLE = "".join(f"It's number {n}: we'll see 12.5% of them!\n\n  An old, old man's '{n}' apples?\t" for n in range(50))
TRICKY = [*"ab's 1_.,!?-", "'ll", "'re", "’s", "  ", "\n\n", " \n ", "\t", "\r", "\x1c", "\x85", "\u2028", "\u3000"]
TRICKY += ["é", "e\u0301", "क़ा", "ดี", "三", "，", "。", "²", "😀", "👍🏽", "\u200d", END_OF_TEXT, "<|", UNKNOWN, "\0"]
RUNS = "".join(f"a{run}b" * 20 for length in (2, 3) for run in map("".join, product(" \n\t.,!?'", repeat=length)))
BY_PAIRS = byte_pair_tokenizer([WHOLE, RUNS], 1000, 16)  # with tokens for runs of spaces and of signs
BY_CHARACTER = character_tokenizer([WHOLE, "e\u0301क़三😀"], 16)


@given(
    text=st.lists(st.sampled_from(TRICKY), max_size=60).map("".join) | st.text(max_size=60),
    piece=st.integers(0, 12),
    at_once=st.integers(1, 3),
    in_file=st.booleans(),
)
@settings(deadline=None, max_examples=300)
def test_ids_of_pieces_equal_those_of_the_whole_text(text: str, piece: int, at_once: int, in_file: bool) -> None:
    limits: dict[str, Any] = {
        "PIECE": piece,
        "PIECES_AT_ONCE": at_once,
        "MAX_CHARACTERS_IN_MEMORY": 0 if in_file else 10**6,
    }
    with mock.patch.multiple(language_data, **limits):
        for tokenizer in (BY_PAIRS, BY_CHARACTER):
            expected = [0, *tokenizer.encode(text, verbose=False), 0, *tokenizer.encode("a b")]
            assert encode_texts(tokenizer, [text, "a b"]).tolist() == expected


def test_long_text_is_cut_into_many_pieces() -> None:
    with mock.patch.object(language_data, "PIECE", 10):
        for text in (WHOLE, "三" * 15 + "，" + "三" * 15 + "。三", "😀😀 😀😀😀😀😀😀😀😀😀 😀"):
            pieces = list(cut_text(text))
            assert "".join(pieces) == text
            assert len(pieces) > 1
            assert max(map(len, pieces)) < 40


def test_ids_of_a_long_text_are_in_a_file_that_disappears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = encode_texts(BY_PAIRS, [WHOLE])
    monkeypatch.setattr(language_data, "MAX_CHARACTERS_IN_MEMORY", len(WHOLE) - 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mapped = encode_texts(BY_PAIRS, [WHOLE])
    if Path("/proc/self/maps").exists():
        assert str(tmp_path) in Path("/proc/self/maps").read_text()
    assert not list(tmp_path.iterdir())
    assert torch.equal(mapped, in_memory)
    windows, expected = (Windows(ids, 8, 4, 0).next_batch() for ids in (mapped, in_memory))
    for ours, theirs in zip(windows, expected, strict=True):
        assert ours.dtype == torch.int64
        assert torch.equal(ours, theirs)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_for_the_ids_of_a_long_text_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_data, "MAX_CHARACTERS_IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(open, "/dev/full", "w+b"))
    with pytest.raises(OSError, match="No space left on device") as caught:
        encode_texts(BY_PAIRS, [WHOLE * 10])
    assert caught.value.filename == tempfile.gettempdir()


def test_ids_take_two_bytes_or_four() -> None:
    characters = "".join(map(chr, range(0x10000, 0x10000 + 2**16)))
    few, many = (character_tokenizer([characters[:count]], 8) for count in (2**16 - 2, 2**16))
    assert encode_texts(few, ["ab"]).dtype == torch.uint16
    ids = encode_texts(many, [characters[-5:]])
    assert ids.dtype == torch.uint32
    assert ids.tolist() == [0, *many.encode(characters[-5:])]
    assert max(ids.tolist()) >= 2**16


def test_the_hash_of_a_text_is_that_of_its_ids_as_64_bit_integers() -> None:
    ids = random_ids(3_000_000)
    expected = hashlib.sha256(ids.numpy().tobytes()).hexdigest()
    for dtype in (torch.int64, torch.uint16, torch.uint32):
        assert hash_of(ids.to(dtype)) == expected


def test_small_integers_train_and_evaluate_as_64_bit_ones_do() -> None:
    ids = random_ids(70)
    whole = [metrics_of(record) for record in train(SMALL, random_model(SMALL), ids, ids)]
    small = ids.to(torch.uint16)
    assert [metrics_of(record) for record in train(SMALL, random_model(SMALL), small, small)] == whole


def test_a_sample_is_the_same_fraction_of_every_text() -> None:
    texts = {"long": "ab" * 300, "short": "c" * 200, "tiny": "d"}
    assert sample_texts(texts, 801) == texts
    assert {name: len(text) for name, text in sample_texts(texts, 400).items()} == {"long": 299, "short": 99, "tiny": 1}
    assert all(texts[name].startswith(text) for name, text in sample_texts(texts, 400).items())


MEMORY_PROGRAM = """
import resource, sys
from pathlib import Path
from language_model.data import Windows, byte_pair_tokenizer, character_tokenizer, encode_texts, read_texts
from language_model.training import hash_of

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB on Linux

def prepare(path):
    texts = list(read_texts(path).training.values())
    for tokenizer in (character_tokenizer(texts, 32), byte_pair_tokenizer([texts[0][:100_000]], 300, 32)):
        ids = encode_texts(tokenizer, texts)
        hash_of(ids)
        Windows(ids, 32, 4, 0).next_batch()

prepare(Path(sys.argv[1]))
before = peak()
prepare(Path(sys.argv[2]))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss depends on the system")
def test_text_takes_little_memory(tmp_path: Path) -> None:
    for name, repeats in (("short.txt", 100), ("long.txt", 900)):  # 0.4 and 3.6 MB
        (tmp_path / name).write_text(WHOLE * repeats)
    size = ((tmp_path / "long.txt").stat().st_size - (tmp_path / "short.txt").stat().st_size) / 1e6
    assert size > 2.5
    command = [sys.executable, "-c", MEMORY_PROGRAM, str(tmp_path / "short.txt"), str(tmp_path / "long.txt")]
    path = os.pathsep.join((str(ROOT), str(SCRIPT.parent)))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) / size < 20  # MB of memory per MB of text


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss depends on the system")
@pytest.mark.parametrize("vocabulary", ["0", "2048"])
def test_a_whole_run_takes_little_memory(tmp_path: Path, vocabulary: str) -> None:
    peaks = []
    measure = "import resource, runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__'); "
    measure += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    for megabytes in (10, 50):
        text = tmp_path / f"{megabytes}.txt"
        text.write_text(WHOLE * (megabytes * 10**6 // len(WHOLE)))
        flags = [*FLAGS, "--num_steps", "1", "--vocab_size", vocabulary, "--output_dir", str(tmp_path / "out")]
        command = [sys.executable, "-c", measure, str(SCRIPT), "--data", str(text), *flags]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(SCRIPT.parent)))}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        peaks.append(float(done.stdout.split()[-1]))
    assert (peaks[1] - peaks[0]) / 40 < 20  # MB of memory per MB of text


# --- the loop ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", [66, 3072])
def test_initial_loss_is_the_logarithm_of_the_vocabulary_size(vocabulary: int) -> None:
    for preset in PRESETS.values():
        few_windows = {"batch_size": 4, "num_steps": 1, "precision": "float32"}
        config = LanguageConfig(**{**vars(preset.training()), **few_windows})
        ids = random_ids(2000, vocabulary)
        (record,) = train(config, random_model(config, vocabulary), ids, ids[:300])
        assert record.loss == pytest.approx(math.log(vocabulary), rel=0.02)


def test_projections_onto_the_residual_stream_start_smaller() -> None:
    """The stream is the sum of 2 L of them: each has a standard deviation smaller by sqrt(2 L)."""
    config = LanguageConfig(embed_dim=128, num_layers=8, num_heads=4)
    for name, parameter in new_model(config, 500).named_parameters():
        if name.endswith(("attention.output.weight", "ff_out.weight")):
            assert float(parameter.detach().std()) == pytest.approx(0.02 / math.sqrt(16), rel=0.03), name
        elif parameter.ndim >= 2:
            assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.03), name


def test_each_process_draws_other_dropout_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = []
    for number in (0, 1):
        monkeypatch.setattr(language_training, "rank", lambda number=number: number)
        config = dataclasses.replace(SMALL, seed=2**63 - 1)
        Trainer(config, new_model(config, 20), random_ids(200), random_ids(50), "cpu")
        draws.append(torch.rand(3).tolist())
    assert draws[0] != draws[1]


def reference_summed_loss(model: GPT2, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    counted = targets != IGNORE_INDEX  # (B, T)
    nats = -model(inputs)[counted].float().log_softmax(-1)  # (B, T, V) -> (counted, V)
    return nats.gather(-1, targets[counted][:, None]).sum()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("vocabulary", [12, 300])
def test_loss_and_gradients_equal_the_plain_formula(vocabulary: int, precision: Precision) -> None:
    model = random_model(LanguageConfig(**{**vars(SMALL), "dropout": 0.0, "context": 64}), vocabulary)
    inputs, targets = torch.randint(vocabulary, (2, 5, 64), generator=torch.Generator().manual_seed(0))  # (B, T) each
    targets[1, 30:] = IGNORE_INDEX
    results = []
    for formula in (summed_loss, reference_summed_loss):
        model.zero_grad()
        with matmul_precision(torch.device("cpu"), precision):
            loss = formula(model, inputs, targets)
        (3 * loss).backward()
        results.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)  # sums of a thousand rounded numbers


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_one_batch_is_overfitted(optimizer: str) -> None:
    config = LanguageConfig(**{**vars(SMALL), "num_steps": 200, "optimizer": optimizer, "dropout": 0.0})
    config = LanguageConfig(**{**vars(config), "learning_rate": 1e-2, "embed_dim": 32, "batch_size": 1})
    ids = torch.randperm(20, generator=torch.Generator().manual_seed(1))[: config.context + 1]
    *_, last = train(config, random_model(config), ids, ids)
    assert last.loss < 0.02


def test_every_validation_target_counts_once() -> None:
    config, ids = SMALL, random_ids(30)
    model = random_model(config).eval()
    expected = 0.0
    with torch.no_grad():
        for target in range(1, 30):
            start = (target - 1) // 8 * 8
            expected -= float(model(ids[None, start:target])[0, -1].log_softmax(-1)[ids[target]])
    assert evaluate_nll(model, ids, 8) == pytest.approx(expected, rel=1e-5)


def test_records_count_the_tokens_that_were_trained_on() -> None:
    records = list(train(SMALL, random_model(SMALL), random_ids(70), random_ids(70)))
    tokens_per_step = SMALL.batch_size * SMALL.context
    assert [record.tokens for record in records] == [step * tokens_per_step for step in range(1, SMALL.num_steps + 1)]


def metrics_of(record: StepRecord) -> tuple[float, float, float | None]:
    return record.loss, record.learning_rate, record.validation_loss


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("stop", [1, 5, 11])
def test_a_resumed_run_is_bit_exact(optimizer: str, stop: int) -> None:
    config = LanguageConfig(**{**vars(SMALL), "optimizer": optimizer})
    ids = random_ids(70)
    whole_model, resumed_model = random_model(config), new_model(config, 20)
    whole = [metrics_of(record) for record in train(config, whole_model, ids, ids)]

    *_, record = islice(train(config, random_model(config), ids, ids), stop)
    state = record.snapshot()
    resumed = [metrics_of(record) for record in train(config, resumed_model, ids, ids, state)]
    assert resumed == whole[stop:]
    for ours, theirs in zip(resumed_model.parameters(), whole_model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_a_gpu_resumes_with_its_masks_of_dropout() -> None:
    config = dataclasses.replace(SMALL, dropout=0.5)
    ids = random_ids(70)
    losses = [record.loss for record in train(config, random_model(config), ids, ids, device="cuda")]
    *_, record = islice(train(config, random_model(config), ids, ids, device="cuda"), 5)
    state = record.snapshot()
    resumed = train(config, new_model(config, 20), ids, ids, state, device="cuda")
    assert [record.loss for record in resumed] == pytest.approx(losses[5:], rel=1e-4)


def test_resuming_with_another_text_is_refused() -> None:
    record = next(train(SMALL, random_model(SMALL), random_ids(70), random_ids(70)))
    with pytest.raises(UserError, match="--data"):
        next(train(SMALL, random_model(SMALL), random_ids(71), random_ids(70), record.snapshot()))


def test_an_optimizer_state_of_another_version_is_refused() -> None:
    record = next(train(SMALL, random_model(SMALL), random_ids(70), random_ids(70)))
    state = record.snapshot()
    for group in state["optimization"]["optimizers"][0]["param_groups"]:
        del group["lr_scale"]
    with pytest.raises(UserError, match=r"--resume: .*another version \(lr_scale\)"):
        next(train(SMALL, random_model(SMALL), random_ids(70), random_ids(70), state))


def test_divergence_is_reported() -> None:
    config = LanguageConfig(**{**vars(SMALL), "learning_rate": 1e30})
    with pytest.raises(UserError, match="diverged"):
        list(train(config, random_model(config), random_ids(70), random_ids(70)))


def test_bfloat16_reaches_nearly_the_same_loss() -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        config = LanguageConfig(**{**vars(SMALL), "precision": precision, "dropout": 0.0})
        *_, last = train(config, random_model(config), random_ids(70), random_ids(70))
        losses[precision] = last.loss
        assert next(last.model.parameters()).dtype == torch.float32
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.01)
    assert losses["bfloat16"] != losses["float32"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_matmuls_of_model_and_muon_have_the_requested_precision(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LanguageConfig(**{**vars(SMALL), "optimizer": "muon", "precision": precision})
    by_onednn: list[torch.Size] = []
    of_muon: list[torch.dtype] = []

    def watched_product(*tensors: Tensor) -> Tensor:
        by_onednn.append(tensors[0].shape)
        return onednn_linear(*tensors)

    def watched_newton_schulz(matrices: Tensor) -> Tensor:
        of_muon.append((matrices @ matrices.mT).dtype)
        return newton_schulz(matrices)

    monkeypatch.setattr(onednn, "MIN_FLOPS", 1)
    monkeypatch.setattr(onednn, "HAS_AVX512", True)
    monkeypatch.setattr(onednn, "onednn_linear", watched_product)
    monkeypatch.setattr(optimization, "newton_schulz", watched_newton_schulz)
    next(train(config, random_model(config), random_ids(70), random_ids(70)))
    assert set(of_muon) == {torch.bfloat16 if precision == "bfloat16" else torch.float32}
    assert bool(by_onednn) == (precision == "float32" and kernels.onednn_linear is not None)


def test_learning_rate_warms_up_and_decays_with_the_step() -> None:
    config = OptimizerConfig("adamw", num_steps=110, warmup_steps=10, learning_rate=1.0, min_lr_ratio=0.1)
    rates = [learning_rate_at(step, config) for step in range(111)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)
    assert all(before >= after for before, after in pairwise(rates[10:]))


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 32), (2, 32, 8)])
def test_newton_schulz_keeps_the_singular_vectors(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = newton_schulz(matrices)
    values = torch.linalg.svdvals(result)
    assert ((values > 0.5) & (values < 1.3)).all()
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inner = left.mT @ result @ right.mT
    torch.testing.assert_close(inner, torch.diag_embed(inner.diagonal(dim1=-2, dim2=-1)), atol=1e-6, rtol=0)


def orthogonalized(matrix: Tensor) -> Tensor:
    """Return a matrix (R, C) with Jordan et al.'s polynomial applied to its singular values five times."""
    left, values, right = torch.linalg.svd(matrix / matrix.norm(), full_matrices=False)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ values.diag() @ right


@pytest.mark.parametrize("shape", [(8, 8), (8, 32), (32, 8)])
def test_muon_takes_the_steps_of_its_formula_and_of_pytorchs(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizer = Muon([{"params": [ours], "weight_decay": 0.1}], lr=0.02, momentum=0.95)
    reference = torch.optim.Muon(
        [theirs], 0.02, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    expected, average = start.double(), torch.zeros(shape, dtype=torch.float64)
    for _ in range(5):
        gradient = torch.randn(shape, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        reference.step()
        average = 0.95 * average + 0.05 * gradient.double()
        direction = orthogonalized(0.95 * average + 0.05 * gradient.double())
        expected = expected * (1 - 0.02 * 0.1) - 0.02 * 0.2 * math.sqrt(max(shape)) * direction
    assert (ours - start).abs().max() > 0.02
    torch.testing.assert_close(ours.detach().double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)  # which multiplies matrices in bfloat16


class Operations(TorchDispatchMode):
    """Counts what PyTorch computes: on a GPU each is a kernel or more."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_muon_takes_as_many_operations_for_many_matrices_as_for_one() -> None:
    counts = []
    for number in (1, 12):
        parameters = [nn.Parameter(torch.randn(6, 8)) for _ in range(number)]
        optimizer = Muon([{"params": parameters, "weight_decay": 0.1}], lr=0.02, momentum=0.95)
        for parameter in parameters:
            parameter.grad = torch.randn(6, 8)
        optimizer.step()  # the first step creates the averages
        operations = Operations()
        with operations:
            optimizer.step()
        counts.append(operations.count)
    assert counts[0] == counts[1]


def test_only_matrices_have_weight_decay() -> None:
    config = LanguageConfig(**{**vars(SMALL), "weight_decay": 0.5, "optimizer": "muon"})
    trainer = Trainer(config, random_model(config), random_ids(70), random_ids(70), "cpu")
    decays = {
        id(p): g["weight_decay"] for o in trainer.optimizer.optimizers for g in o.param_groups for p in g["params"]
    }
    for name, parameter in trainer.model.named_parameters():
        assert decays[id(parameter)] == (0.5 if parameter.ndim == 2 else 0.0), name
    assert len(decays) == len(list(trainer.model.parameters()))


def test_learning_rate_scales_multiply_the_update() -> None:
    for optimizer in ("adamw", "muon"):
        settings = OptimizerConfig(optimizer, 10, learning_rate=0.1, warmup_steps=0, weight_decay=0.0)
        moved = []
        for scale in (1.0, 0.25):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4))
            before = [p.detach().clone() for p in model.parameters()]
            optimizers = OptimizerGroup(model, settings, dict.fromkeys(model[1].parameters(), scale))
            model(torch.arange(5)).square().sum().backward()
            optimizers.step()
            moved.append([p.detach() - b for p, b in zip(model.parameters(), before, strict=True)])
        torch.testing.assert_close(moved[0][0], moved[1][0])  # no scale given: 1
        for whole, quarter in zip(moved[0][1:], moved[1][1:], strict=True):
            assert whole.abs().max() > 0
            torch.testing.assert_close(quarter, 0.25 * whole, atol=1e-6, rtol=1e-4)


# --- several processes ------------------------------------------------------------------------------------------------


def test_two_processes_equal_one_with_the_same_batch(tmp_path: Path) -> None:
    program = tmp_path / "two.py"
    program.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        f"sys.path[:0] = [{str(SCRIPT.parent)!r}, {str(SCRIPT.parent.parent)!r}]\n"
        "import optimization\n"
        "from lab.distributed import any_rank, average_gradients, gather, process_group, rank, sum_over_ranks\n"
        "from language_model.training import LanguageConfig, new_model, train\n"
        "config = LanguageConfig(embed_dim=16, num_layers=2, num_heads=2, context=8, batch_size=4, num_steps=8)\n"
        "gradients = []\n"
        "def keep(parameters):\n"
        "    average_gradients(parameters)\n"
        "    gradients.append(torch.cat([p.grad.flatten() for p in parameters]).clone())\n"
        "optimization.average_gradients = keep\n"
        "def run():\n"
        "    gradients.clear()\n"
        "    torch.manual_seed(0)\n"
        "    model = new_model(config, 20)\n"
        "    ids = torch.randint(20, (70,), generator=torch.Generator().manual_seed(1))\n"
        "    losses = [record.loss for record in train(config, model, ids, ids)]\n"
        "    return losses, gradients[0], torch.cat([p.detach().flatten() for p in model.parameters()])\n"
        "with process_group():\n"
        "    everyone = gather(run())\n"
        "    own = rank()\n"
        "    assert any_rank(own == 0) and any_rank(own == 1) and any_rank(True) and not any_rank(False)\n"
        "    assert sum_over_ranks(torch.tensor([own, 1])).tolist() == [1, 2]\n"
        "threads = [path.read_text() for path in Path('/proc/self/task').glob('*/comm')]  # without /proc none\n"
        "assert not [name for name in threads if 'gloo' in name]  # the group is gone, or the end may be an abort\n"
        "if own == 0:\n"
        "    alone = run()\n"
        "    assert len(gradients) == 8\n"
        "    assert torch.equal(everyone[0][2], everyone[1][2])\n"
        "    for other in everyone:\n"
        "        assert (other[1] - alone[1]).abs().max() < 1e-6, (other[1] - alone[1]).abs().max()\n"
        "        assert (other[2] - alone[2]).abs().max() < 1e-3\n"
        "        assert max(abs(a - b) for a, b in zip(other[0], alone[0])) < 1e-4\n"
        "    print('equal')\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, str(program)], capture_output=True, text=True, timeout=240, env=environment)
    assert done.stdout.strip() == "equal", done.stderr[-3000:]


def test_a_batch_size_that_the_processes_do_not_divide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert world_size() == 1
    monkeypatch.setattr("language_model.data.world_size", lambda: 3)
    with pytest.raises(UserError, match="--batch_size 4 is not a multiple of the 3 processes"):
        Windows(torch.arange(50), 4, 4, 0)


# --- the script -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "model"
    finish(folder, text_file)
    return folder


def start(folder: Path, data: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), "--data", str(data), *FLAGS, "--output_dir", str(folder), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder: Path, data: Path, *more: str) -> str:
    process = start(folder, data, *more)
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return out + errors


def assert_same_run(folder: Path, reference: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json", "samples.txt", "learning_curve.png", "config.json"):
        assert (folder / name).read_bytes() == (reference / name).read_bytes(), name
    ours, theirs = (json.loads((each / "metrics.json").read_text()) for each in (folder, reference))
    assert ours == theirs


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert path.exists()


def test_a_run_writes_a_complete_model_that_transformers_loads(uninterrupted: Path) -> None:
    metrics = json.loads((uninterrupted / "metrics.json").read_text())
    tokenizer, theirs = (
        AutoTokenizer.from_pretrained(uninterrupted),
        AutoModelForCausalLM.from_pretrained(uninterrupted),
    )
    ours = GPT2.from_pretrained(uninterrupted)
    assert {p.dtype for p in [*ours.parameters(), *theirs.parameters()]} == {torch.float32}
    ids = encode_texts(tokenizer, ["The mouse"])[None, :8].long()
    with torch.inference_mode():
        torch.testing.assert_close(ours(ids), theirs.eval()(ids).logits, atol=1e-5, rtol=1e-5)
    validation = {"mouse": TEXT[len(TEXT) * 9 // 10 :]}
    again = compute_metrics(ours, tokenizer, validation)
    assert again["validation_loss"] == pytest.approx(metrics["validation_loss"], rel=1e-5)
    assert metrics["validation_tokens"] == len(validation["mouse"])
    assert metrics["validation_loss"] < math.log(metrics["vocabulary"]) - 0.5
    assert [row["name"] for row in metrics["comparison"]][1:] == ["5-gram of bytes, Kneser-Ney", "xz", "gzip"]
    assert metrics["parameters"] == sum(p.numel() for p in theirs.parameters())
    card = (uninterrupted / "README.md").read_text()
    assert f"{metrics['validation_loss']:.4f}" in card
    flags = "--checkpoint_every 5 --num_steps 60 --batch_size 4 --context 8 --embed_dim 16 --num_layers 1 --num_heads 2"
    command = f"--preset shakespeare --data DATA {flags} --dropout 0.1 --evaluate_every 20"
    assert f"\npython train_language_model.py {command}\n" in card
    assert "tokens: the first nine tenths of mouse.\n" in card  # no source, since it is not the text of the preset
    assert str(uninterrupted.parent) not in card
    assert (uninterrupted / "train_language_model.json").is_file()


def test_the_model_is_saved_before_it_is_evaluated(
    call: Call, tmp_path: Path, text_file: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    flags = ("--data", str(text_file), *FLAGS, "--output_dir", str(tmp_path / "model"))
    with monkeypatch.context() as patch:
        patch.setattr(train_language_model, "compute_metrics", interrupted)
        result = call(train_language_model, *flags)
    assert result.status == 130
    assert "the model is saved" in result.err
    weights = (tmp_path / "model/model.safetensors").read_bytes()
    assert weights == (uninterrupted / "model.safetensors").read_bytes()
    vocabulary = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert len(vocabulary) == GPT2.from_pretrained(tmp_path / "model").config.vocab_size
    assert call(train_language_model, *flags, "--resume").status == 0
    assert_same_run(tmp_path / "model", uninterrupted)


def test_metrics_table_and_card_say_which_part_of_a_long_text_was_used(
    call: Call, tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "EVALUATED_CHARACTERS", 100)
    monkeypatch.setattr(reports, "BASELINE_CHARACTERS", 500)
    (tmp_path / "texts").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"texts/{name}.txt").write_text(TEXT)
    flags = ("--data", str(tmp_path / "texts"), *FLAGS, "--num_steps", "2", "--output_dir", str(tmp_path / "model"))
    result = call(train_language_model, *flags)
    assert result.status == 0, result.err
    metrics = json.loads((tmp_path / "model/metrics.json").read_text())
    training, validation = len(TEXT) * 9 // 10, len(TEXT) - len(TEXT) * 9 // 10
    assert metrics["validation_tokens"] == metrics["validation_bytes"] == 100
    assert metrics["training_tokens"] == 2 * (training + 1)
    assert metrics["evaluated_text"] == f"the first 100 of {2 * validation:,} characters, the same fraction of 2 files"
    assert metrics["baseline_text"] == f"the first 500 of {2 * training:,} characters, the same fraction of 2 files"
    beginnings = dict.fromkeys(("a", "b"), TEXT[training : training + 50])
    counted = "\n".join([TEXT[:250]] * 2).encode()
    bits = sum(kneser_ney_bits(counted, [text.encode() for text in beginnings.values()])) / 100
    assert metrics["comparison"][1]["all"] == pytest.approx(bits, abs=1e-3)
    for text in (result.out, (tmp_path / "model/README.md").read_text()):
        assert metrics["evaluated_text"] in text
        assert metrics["baseline_text"] in text


@pytest.mark.parametrize(
    "prompt", ["the mouse looks", "a\nb `x` ```\n# c", 'it\'s $HOME "!" \\n', "--x", "\x1b[31m\té😀", "```", " "]
)
def test_the_card_quotes_prompt_and_command(prompt: str, tmp_path: Path) -> None:
    config = dataclasses.replace(PRESETS["shakespeare"], prompt=prompt, data=Path("x"))
    name = "a`b|c_d [e](f)\n## g"
    about = train_language_model.card_texts(config, TextSplit({name: "a"}, {name: "b"}))
    metrics: dict[str, Any] = dict.fromkeys(("validation_loss", "perplexity", "bits_per_byte_in_all"), 1.0)
    metrics |= dict.fromkeys(("parameters", "training_tokens", "unknown_characters"), 1)
    metrics["comparison"] = [{"name": "this model", name: 1.0, "all": 1.0}]
    sample = "\x1b[31mThe\n```\n# no heading\n````\n"
    card = model_card(metrics, [sample], about, dataclasses.asdict(config.training()))
    lines = card.splitlines()
    (command,) = [line for line in lines if line.startswith("python train_language_model.py")]
    script = (
        f"python() {{ {shlex.quote(sys.executable)} -c 'import sys; print(ascii(sys.argv[1:]))' \"$@\"; }}\n{command}"
    )
    words = ast.literal_eval(subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout)
    assert parse_arguments(Config, words[1:]).prompt == prompt
    assert [line for line in lines if line.startswith("#")] == [
        *("# A small language model", "## Metrics", "## Training data", "## Settings", "## Samples", "# no heading"),
        "## Limitations",
    ]
    table = [line for line in lines if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {4}
    fences = [line for line in lines if line.startswith("`````")]
    assert fences == ["`````text", "`````"]
    assert "\x1b" not in card


@pytest.mark.parametrize("delay", [0.0, 0.1])
def test_a_killed_run_resumes_bit_exactly(tmp_path: Path, text_file: Path, uninterrupted: Path, delay: float) -> None:
    process = start(tmp_path / "model", text_file)
    wait_for(tmp_path / "model/checkpoint.pth", process)
    time.sleep(delay)
    process.kill()
    process.communicate()
    finish(tmp_path / "model", text_file, "--resume")
    assert_same_run(tmp_path / "model", uninterrupted)


def test_ctrl_c_saves_a_checkpoint(tmp_path: Path, text_file: Path, uninterrupted: Path) -> None:
    process = start(tmp_path / "model", text_file, "--checkpoint_every", "1000")
    assert process.stderr is not None
    while "loss" not in (line := process.stderr.readline()):
        assert line, "ended before the first step"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "rerun with --resume to continue" in errors
    assert "Traceback" not in errors
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"checkpoint.pth"}
    finish(tmp_path / "model", text_file, "--resume")
    assert_same_run(tmp_path / "model", uninterrupted)
    finish(tmp_path / "model", text_file, "--resume")  # a finished run stays as it is
    assert_same_run(tmp_path / "model", uninterrupted)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds a process by /proc")
def test_ctrl_c_stops_all_processes_at_the_same_step(tmp_path: Path, text_file: Path) -> None:
    def begin(folder: str, *more: str) -> subprocess.Popen[str]:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        flags = ["--data", str(text_file), *FLAGS, "--checkpoint_every", "1000", "--output_dir", str(tmp_path / folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
        return subprocess.Popen([*torchrun, str(SCRIPT), *flags, *more], env=environment, **pipes)

    def of_rank_1(launcher: subprocess.Popen[str]) -> int:
        """Return the process id of the second process."""
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        (pid,) = [pid for pid in children if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()]
        return int(pid)

    process = begin("model")
    assert process.stderr is not None
    while "loss" not in (line := process.stderr.readline()):
        assert line, "ended before the first step"
    os.kill(of_rank_1(process), signal.SIGINT)  # only one of them: it must stop the other
    _, errors = process.communicate(timeout=120)
    assert errors.count("rerun with --resume to continue") == 1, errors
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"checkpoint.pth"}
    for folder, more in (("model", ["--resume"]), ("whole", [])):
        process = begin(folder, *more)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert_same_run(tmp_path / "model", tmp_path / "whole")


def test_with_several_processes_a_second_ctrl_c_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.training.world_size", lambda: 2)  # torchrun passes Ctrl-C on to processes that had it
    with deferred_interrupt() as interrupted:
        assert not interrupted()
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
            assert interrupted()


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"", "mouse.txt"), (b"short", "--context"), (b"\xff\xfe\x00", "not UTF-8")],
    ids=["empty", "shorter than a window", "no text"],
)
def test_unusable_text_is_refused_in_one_line(refused: Call, tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "mouse.txt").write_bytes(content)
    refused(train_language_model, ("--data", str(tmp_path / "mouse.txt"), *FLAGS), word)


def test_missing_data_is_refused_in_one_line(refused: Call, tmp_path: Path) -> None:
    refused(train_language_model, ("--data", str(tmp_path / "none.txt")), "none.txt")
    (tmp_path / "empty").mkdir()
    refused(train_language_model, ("--data", str(tmp_path / "empty")), "no text to train on")
    refused(train_language_model, ("--preset", "books"), "--data is missing")


@pytest.mark.parametrize("damage", ["truncated", "text", "foreign"])
def test_a_damaged_checkpoint_is_refused_in_one_line(
    refused: Call, tmp_path: Path, text_file: Path, uninterrupted: Path, damage: str
) -> None:
    content = {
        "truncated": (uninterrupted / "checkpoint.pth").read_bytes()[:5000],
        "text": b"hello",
        "foreign": (uninterrupted / "model.safetensors").read_bytes(),
    }[damage]
    (tmp_path / "model").mkdir()
    (tmp_path / "model/checkpoint.pth").write_bytes(content)
    flags = ("--data", str(text_file), *FLAGS, "--output_dir", str(tmp_path / "model"), "--resume")
    refused(train_language_model, flags, "checkpoint.pth")
    assert (tmp_path / "model/checkpoint.pth").read_bytes() == content


def test_flags_that_contradict_the_saved_run_are_named(
    refused: Call, tmp_path: Path, text_file: Path, uninterrupted: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/checkpoint.pth").write_bytes((uninterrupted / "checkpoint.pth").read_bytes())
    flags = ("--data", str(text_file), *FLAGS, "--output_dir", str(tmp_path / "model"), "--resume")
    refused(train_language_model, (*flags, "--learning_rate", "0.123"), "--learning_rate is 0.123")


def test_a_run_of_another_version_is_not_resumed(
    refused: Call, tmp_path: Path, text_file: Path, uninterrupted: Path
) -> None:
    saved = load_checkpoint(uninterrupted / "checkpoint.pth", TRAINING.name)
    del saved["config"]["beta2"]
    (tmp_path / "model").mkdir()
    save_checkpoint(tmp_path / "model/checkpoint.pth", saved.pop("kind"), saved)
    flags = ("--data", str(text_file), *FLAGS, "--output_dir", str(tmp_path / "model"), "--resume")
    refused(train_language_model, flags, "another version")


def write_with_former_names(source: Path, target: Path) -> None:
    """Rewrite a checkpoint to the format from before settings and optimizer groups were renamed."""
    saved = load_checkpoint(source, TRAINING.name)
    saved["config"]["final_learning_rate"] = saved["config"].pop("min_lr_ratio")
    del saved["config"]["beta1"]
    for optimizer in saved["state"]["optimization"]["optimizers"]:
        for group in optimizer["param_groups"]:
            group["share"] = group.pop("lr_scale")
    target.parent.mkdir()
    save_checkpoint(target, saved.pop("kind"), saved)


def test_a_checkpoint_with_the_former_names_resumes_bit_exactly(tmp_path: Path, text_file: Path) -> None:
    flags = ("--final_learning_rate", "0.25", "--num_steps", "30", "--checkpoint_every", "1000")
    process = start(tmp_path / "interrupted", text_file, *flags)
    assert process.stderr is not None
    while "loss" not in (line := process.stderr.readline()):
        assert line, "ended before the first step"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    write_with_former_names(tmp_path / "interrupted/checkpoint.pth", tmp_path / "model/checkpoint.pth")
    flags = ("--min_lr_ratio", *flags[1:])
    assert "starting a new run" not in finish(tmp_path / "model", text_file, *flags, "--resume")
    finish(tmp_path / "whole", text_file, *flags)
    assert_same_run(tmp_path / "model", tmp_path / "whole")
    config = json.loads((tmp_path / "model/train_language_model.json").read_text())["config"]
    assert (config["min_lr_ratio"], config["beta1"]) == (0.25, 0.9)


def test_settings_of_former_checkpoints_must_agree_with_the_flags(
    refused: Call, tmp_path: Path, text_file: Path, uninterrupted: Path
) -> None:
    write_with_former_names(uninterrupted / "checkpoint.pth", tmp_path / "model/checkpoint.pth")
    flags = ("--data", str(text_file), *FLAGS, "--output_dir", str(tmp_path / "model"), "--resume")
    refused(train_language_model, (*flags, "--final_learning_rate", "0.5"), "--min_lr_ratio is 0.5", "with 0.0")


@pytest.mark.parametrize("name", ["--final_learning_rate", "--final-learning-rate", "--min_lr_ratio"])
def test_the_former_flag_is_accepted(name: str) -> None:
    for arguments in ([name, "0.1"], [f"{name}=0.1"]):
        assert parse_arguments(Config, arguments).min_lr_ratio == 0.1


def test_a_resumed_run_keeps_the_settings_it_began_with(
    call: Call, tmp_path: Path, text_file: Path, uninterrupted: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/checkpoint.pth").write_bytes((uninterrupted / "checkpoint.pth").read_bytes())
    result = call(train_language_model, "--data", str(text_file), "--resume", "--output_dir", str(tmp_path / "model"))
    assert result.status == 0, result.err
    assert_same_run(tmp_path / "model", uninterrupted)
    config = json.loads((tmp_path / "model/train_language_model.json").read_text())["config"]
    assert (config["embed_dim"], config["num_steps"]) == (16, 60)


def test_flags_that_are_not_given_have_the_values_of_the_preset() -> None:
    for arguments in ([], ["--preset", "shakespeare"], ["--preset=shakespeare"]):
        assert parse_arguments(Config, arguments) == PRESETS["shakespeare"]
    for arguments in (["--preset", "books"], ["--preset=books"]):
        assert parse_arguments(Config, arguments) == PRESETS["books"]
    config = parse_arguments(Config, ["--num_steps", "7", "--preset", "books", "--held_out"])
    assert config == dataclasses.replace(PRESETS["books"], num_steps=7, held_out=())


def test_help_shows_the_values_of_the_preset_and_describes_every_option(call: Call) -> None:
    assert "(default: 1120)" in call(train_language_model, "--help").out
    result = call(train_language_model, "--preset", "books", "--help")
    assert result.status == 0
    words = " ".join(result.out.replace("│", " ").split())
    assert {"6000)", "2048)"} <= set(words.split())
    documented = words.split(" (default: ")[:-1]  # each ends with the text of one option
    for field in dataclasses.fields(Config):
        (text,) = [text for text in documented if f" --{field.name} " in text]
        assert text.endswith("."), text


def test_an_unknown_preset_is_refused_in_one_line(refused: Call) -> None:
    refused(train_language_model, ("--preset", "poems"), "--preset", "poems")
    refused(train_language_model, ("--preset",), "--preset")


def test_the_preset_for_a_gpu_says_on_a_cpu_that_it_takes_long(call: Call, text_file: Path, tmp_path: Path) -> None:
    flags = ("--data", str(text_file), *FLAGS, "--num_steps", "1")
    for preset in ("shakespeare_gpu", "shakespeare"):
        folder = tmp_path / preset
        result = call(train_language_model, "--preset", preset, *flags, "--device", "cpu", "--output_dir", str(folder))
        assert result.status == 0, result.err
        assert ("--preset shakespeare_gpu takes hours on a CPU" in result.err) == (preset == "shakespeare_gpu")
        command = re.findall(r"^python .*$", (folder / "README.md").read_text(), re.MULTILINE)[0]
        assert f"--preset {preset} " in command
        assert "--precision" not in command  # the preset's own


def test_the_card_of_the_bundled_model_is_what_the_code_writes() -> None:
    folder = ROOT / "assets/models/language"
    card, metrics = (folder / "README.md").read_text(), json.loads((folder / "metrics.json").read_text())
    config = dataclasses.replace(PRESETS["books"], precision="bfloat16", evaluation_tokens=40_000)
    samples = re.findall(r"Seed \d:\n\n```text\n(.*?)\n```", card, re.DOTALL)
    assert "\n\n".join(samples) + "\n" == (folder / "samples.txt").read_text()
    training = re.findall(r"tokens: (.*?)\. Novels", card)[0].split(", ")
    texts = TextSplit(dict.fromkeys(training, ""), dict.fromkeys(config.held_out, ""))
    about = train_language_model.card_texts(config, texts)
    assert card == model_card(metrics, samples, about, dataclasses.asdict(config.training()))


def test_characters_outside_the_vocabulary_are_counted(call: Call, tmp_path: Path) -> None:
    (tmp_path / "mouse.txt").write_text(TEXT + "ÄÖ" * 5)
    flags = (*FLAGS, "--num_steps", "2", "--output_dir", str(tmp_path / "model"))
    assert call(train_language_model, "--data", str(tmp_path / "mouse.txt"), *flags).status == 0
    assert json.loads((tmp_path / "model/metrics.json").read_text())["unknown_characters"] == 10
    assert "10 characters" in (tmp_path / "model/README.md").read_text()


# --- the baseline -----------------------------------------------------------------------------------------------------


def test_five_gram_probabilities_sum_to_one() -> None:
    training, prefix = b"abracadabra, banana and cabana", b"an abra"
    (before,) = kneser_ney_bits(training, [prefix])
    after = kneser_ney_bits(training, [prefix + bytes([byte]) for byte in range(256)])
    assert sum(2 ** (before - bits) for bits in after) == pytest.approx(1)


def test_five_gram_model_predicts_what_it_has_seen() -> None:
    seen, unseen = kneser_ney_bits(b"the cheese and the mouse " * 50, [b"the cheese and the mouse", b"qqxxzzwwkkvvpp"])
    assert seen / 24 < 0.7
    assert unseen / 14 > 7
