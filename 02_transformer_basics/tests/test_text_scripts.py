"""The two text scripts, as a user would call them: results, all sources of texts, and invalid input."""

import io
import json
import math
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

import sentiment_analysis
import text_generation
from lab.errors import UserError
from models import hub as pretrained
from models.generation import Sampling
from models.hub import SENTIMENT, load_folder, load_model
from sentiment_analysis import EXAMPLES, classify
from text_generation import decode, new_tokens

PROJECT = Path(__file__).parent.parent
Call = Callable[..., Any]
ENGINES = ("pipeline", "scratch")


def typed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Make `content` the standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def texts_of(out: str, field: str = "text") -> list[str]:
    return [json.loads(line)[field] for line in out.split("\n")[:-1]]


# --- in their own process ---------------------------------------------------------------------------------------------


@contextmanager
def open_pipe() -> Iterator[int]:
    """A standard input that stays open and empty."""
    reader, writer = os.pipe()
    yield reader
    os.close(writer)
    os.close(reader)


def test_sentiment_of_the_examples_without_network_or_standard_input(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    script = [sys.executable, str(PROJECT / "sentiment_analysis.py"), "--output_dir", str(tmp_path / "out")]
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *script]
    done = subprocess.run(closed, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("note: ")
    assert "the lab's own sentiment model" in done.stderr
    assert done.stderr.count("\n") == 1
    lines = done.stdout.splitlines()[: len(EXAMPLES)]
    assert [line.split()[0] for line in lines] == list(EXAMPLES.values())
    figure = json.loads((tmp_path / "out/sentiment_analysis.json").read_text())["figures"][0]
    assert figure["ok"]
    assert figure["value"].endswith("6 of 6 examples labeled correctly")


def test_generation_of_the_examples_with_a_silent_hub_and_an_open_pipe(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hub"), "no_proxy": "*", "HF_HUB_OFFLINE": "0"}
    script = [sys.executable, str(PROJECT / "text_generation.py"), "--output_dir", str(tmp_path / "out")]
    with open_pipe() as nothing, socket.create_server(("127.0.0.1", 0)) as silent:
        environment["HF_ENDPOINT"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = subprocess.run(script, stdin=nothing, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("note: ")
    assert "the lab's own language model" in done.stderr
    assert done.stderr.count("\n") == 1
    assert all(prompt in done.stdout for prompt in text_generation.EXAMPLES)
    record = json.loads((tmp_path / "out/text_generation.json").read_text())
    assert record["figures"][0]["ok"]
    assert len(record["results"]["texts"]) == 3


def test_a_model_of_other_shapes_gives_one_line_whatever_the_library_logs(
    tiny_classifier: Path, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    for path in tiny_classifier.iterdir():
        text = path.read_bytes()
        (tmp_path / "model" / path.name).write_bytes(text.replace(b'"dim": 16', b'"dim": 32'))
    arguments = ["--model", str(tmp_path / "model"), "--output_dir", str(tmp_path), "fine"]
    script = [sys.executable, str(PROJECT / "sentiment_analysis.py"), *arguments]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("error: ")


# --- in this process --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [sentiment_analysis, text_generation])
def test_without_a_dash_standard_input_is_not_touched(
    call: Call, monkeypatch: pytest.MonkeyPatch, tiny_classifier: Path, tiny_language: Path, script: ModuleType
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    model = tiny_classifier if script is sentiment_analysis else tiny_language
    assert call(script, "--model", str(model)).status == 0
    assert call(script, "--model", str(model), "some words").status == 0


def test_sentiment_prints_draws_and_records(call: Call, tmp_path: Path) -> None:
    arguments = ("What a great film!", "Boring $ and $ dull.", "--model", str(SENTIMENT.bundled))
    result = call(sentiment_analysis, *arguments, "--output_dir", str(tmp_path))
    assert (result.status, result.err) == (0, "")
    first, second, wrote = result.out.splitlines()
    assert first.startswith("POSITIVE")
    assert second.startswith("NEGATIVE")
    assert {path.name for path in tmp_path.iterdir()} == {"sentiment_analysis.png", "sentiment_analysis.json"}
    assert wrote.startswith("wrote ")
    with Image.open(tmp_path / "sentiment_analysis.png") as image:
        assert image.width > 800
    record = json.loads((tmp_path / "sentiment_analysis.json").read_text())
    assert record["results"]["labels"] == {"POSITIVE": 1, "NEGATIVE": 1}
    assert record["config"]["texts"] == ["What a great film!", "Boring $ and $ dull."]
    assert record["figures"] == []


def test_label_and_score_are_the_softmax_of_the_model(tiny_classifier: Path) -> None:
    loaded = load_model(SENTIMENT, str(tiny_classifier))
    for result in classify(loaded, ["a funny film", "dull", "dull " * 60 + "a funny film " * 60, "film " * 300], 2):
        with torch.inference_mode():
            ids = loaded.tokenizer(result["text"], truncation=True, max_length=256, return_tensors="pt")
            probabilities = loaded.model(**ids).logits[0].softmax(-1)
        assert result["label"] == ("NEGATIVE", "POSITIVE")[int(probabilities.argmax())]
        assert result["score"] == pytest.approx(float(probabilities.max()), abs=1e-5)


def test_texts_come_from_arguments_file_and_standard_input(
    call: Call, monkeypatch: pytest.MonkeyPatch, tiny_classifier: Path, tmp_path: Path
) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes("\ufefffirst line\r\n\r\n  \nnext\x85line 😀\nlast".encode())
    typed(monkeypatch, "\ufefftyped one\r\ntyped two\n".encode())
    arguments = ("--json", "--model", str(tiny_classifier), "--file", str(file), "before", "-", "after")
    result = call(sentiment_analysis, *arguments)
    assert (result.status, result.err) == (0, "")
    expected = ["before", "typed one", "typed two", "after", "first line", "next\x85line 😀", "last"]
    assert texts_of(result.out) == expected


@pytest.mark.parametrize("script", [sentiment_analysis, text_generation])
def test_json_is_one_plain_object_per_line_and_nothing_else(
    call: Call, tiny_classifier: Path, tiny_language: Path, script: ModuleType
) -> None:
    texts = ["new\nline", "next\x85line", "sep\u2028arator", "\x1b[31mred \x9b31m", "😀 naïve"]
    model, field = (tiny_classifier, "text") if script is sentiment_analysis else (tiny_language, "prompt")
    result = call(script, *texts, "--json", "--model", str(model))
    assert (result.status, result.err) == (0, "")
    assert len(result.out.splitlines()) == len(texts)
    assert result.out.isascii()
    assert texts_of(result.out, field) == texts
    fields = {"text", "label", "score"} if script is sentiment_analysis else {"prompt", "continuation"}
    assert json.loads(result.out.splitlines()[0]).keys() == fields | {"model"}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("script", "flags"),
    [
        (sentiment_analysis, ("--explain",)),
        (sentiment_analysis, ("--compare",)),
        (text_generation, ()),
        (text_generation, ("--show_probs", "3")),
        (text_generation, ("--compare",)),
    ],
)
def test_control_characters_do_not_reach_the_terminal(
    call: Call, tiny_classifier: Path, tiny_language: Path, script: ModuleType, flags: tuple[str, ...], engine: str
) -> None:
    model = tiny_classifier if script is sentiment_analysis else tiny_language
    arguments = ("--model", str(model), "--engine", engine, "--show_attention", *flags)
    result = call(script, "\x1b[31mred\x07 \x9b 😀", *arguments)
    assert (result.status, result.err) == (0, "")
    assert r"\x1b[31mred\x07 \x9b 😀" in result.out
    assert all(character.isprintable() or character == "\n" for character in result.out)


def test_a_terminal_without_the_characters_is_no_reason_to_fail(
    call: Call, tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    assert call(sentiment_analysis, "naïve 😀", "--model", str(tiny_classifier)).status == 0
    shown.seek(0)
    assert r"na\xefve \U0001f600" in shown.read()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("script", [sentiment_analysis, text_generation])
@pytest.mark.parametrize(
    ("arguments", "typed_bytes", "words"),
    [
        (("",), b"", ("text 1", "empty")),
        (("fine", " \n\t"), b"", ("text 2", "empty")),
        (("fine", "\udcff"), b"", ("text 2", "UTF-8")),
        (("-",), b" \n\n", ("standard input", "no text")),
        (("-",), b"fine\n\xff\xfe", ("standard input", "UTF-8", "byte 5")),
        (("-",), None, ("standard input", "closed")),
        (("--file", "{folder}/empty.txt"), b"", ("empty.txt", "no text")),
        (("--file", "{folder}/blank.txt"), b"", ("blank.txt", "no text")),
        (("--file", "{folder}/latin.txt"), b"", ("latin.txt", "UTF-8", "byte 3")),
        (("--file", "{folder}/missing.txt"), b"", ("missing.txt", "No such file")),
        (("--file", "{folder}"), b"", ("directory",)),
        (("--model", "{folder}"), b"", ("no config.json",)),
        (("--batch_size", "0"), b"", ("--batch_size", "at least 1")),
        (("--batch_size", "-3"), b"", ("--batch_size", "at least 1")),
        (("--batch_size", "2.5"), b"", ("--batch_size",)),
        (("--batch", "2"), b"", ("--batch_size",)),
        (("--output_dir", "{folder}/blank.txt"), b"", ("blank.txt",)),
        (("--output_dir", "{folder}/blank.txt/below"), b"", ("blank.txt",)),
        (("--engine", "magic"), b"", ("--engine", "scratch")),
        (("--device", "abacus"), b"", ("--device abacus",)),
    ],
)
def test_invalid_input_costs_one_line_and_no_loading(
    refused: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: ModuleType,
    engine: str,
    arguments: tuple[str, ...],
    typed_bytes: bytes | None,
    words: tuple[str, ...],
) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.txt").write_text("\n  \n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    if typed_bytes is None:
        monkeypatch.setattr(sys, "stdin", None)
    else:
        typed(monkeypatch, typed_bytes)
    if "--model" not in arguments:
        monkeypatch.setattr(script, "load_model", forbidden)
    chosen = () if "--engine" in arguments else ("--engine", engine)
    refused(script, (*(argument.format(folder=tmp_path) for argument in arguments), *chosen), *words)
    assert (tmp_path / "blank.txt").read_text() == "\n  \n"


def forbidden(*_: Any) -> None:
    raise AssertionError("the model was loaded")


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("--max_new_tokens", ("0", "-1", "many", "1.5")),
        ("--temperature", ("-1", "nan", "inf", "1e-40", "hot")),
        ("--top_k", ("0", "-1", "1.5")),
        ("--top_p", ("0.0", "-1", "1.1", "nan")),
        ("--repetition_penalty", ("0.0", "-1", "inf", "nan")),
        ("--show_probs", ("-1", "x")),
        ("--precision", ("int4",)),
        ("--seed", ("-1", "99999999999999999999999", str(2**63), "x")),
        ("--batch_size", ("0", "none")),
    ],
)
def test_invalid_numbers_are_refused_by_name(refused: Call, flag: str, values: tuple[str, ...]) -> None:
    for value in values:
        for engine in ENGINES:
            refused(text_generation, ("fine", f"{flag}={value}", "--engine", engine), flag, value[:20])


@pytest.mark.parametrize("seed", [0, 2**32, 2**63 - 1])
def test_large_seeds_are_seeds(call: Call, tiny_language: Path, seed: int) -> None:
    arguments = ("fine", "--seed", str(seed), "--model", str(tiny_language), "--max_new_tokens", "2")
    assert call(text_generation, *arguments).status == 0


# --- input of the models ----------------------------------------------------------------------------------------------


def test_batches_change_neither_labels_nor_scores() -> None:
    loaded = load_model(SENTIMENT, str(SENTIMENT.bundled))
    texts = [*EXAMPLES, "Fine.", "word " * 300, "No."]
    single = classify(loaded, texts, 1)
    for batch_size in (2, 4, 100):
        for one, other in zip(single, classify(loaded, texts, batch_size), strict=True):
            assert (one["text"], one["label"]) == (other["text"], other["label"])
            assert one["score"] == pytest.approx(other["score"], abs=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_long_text_is_truncated_with_a_warning(call: Call, tiny_classifier: Path, engine: str) -> None:
    long, model = "a funny film " * 200, ("--model", str(tiny_classifier), "--engine", engine)
    result = call(sentiment_analysis, "dull", long, *model)
    assert result.status == 0
    assert result.err == "note: text 2 has 602 tokens; only the first 256 are used\n"
    cut = call(sentiment_analysis, "a funny film " * 84 + "a funny", "--json", *model)
    assert cut.err == ""
    assert f"{json.loads(cut.out)['score']:.4f}" == result.out.splitlines()[1].split()[1]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("text", ["a funny film. " * 7143, "a" * 100_000, "\x07 😀" * 33_334])
def test_100_000_characters_are_cut_or_refused(
    call: Call, refused: Call, tiny_classifier: Path, tiny_language: Path, text: str, engine: str
) -> None:
    assert len(text) >= 100_000
    result = call(sentiment_analysis, text, "--model", str(tiny_classifier), "--engine", engine, "--explain")
    assert result.status == 0
    cut = "" if text[0] == text[1] else "only the first 256 are used\n"  # one word is one unknown token
    assert result.err.endswith(cut)
    assert result.err.count("\n") == bool(cut)
    refused(text_generation, (text, "--model", str(tiny_language), "--engine", engine), "prompt 1", "tokens", "64")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_prompt_that_does_not_fit_is_refused(call: Call, refused: Call, tiny_language: Path, engine: str) -> None:
    prompt, model = "a" * 44, ("--model", str(tiny_language), "--engine", engine)  # 44 tokens of 64
    assert call(text_generation, prompt, "--max_new_tokens", "20", *model).status == 0
    refused(text_generation, ("fine", prompt, "--max_new_tokens", "21", *model), "prompt 2", "44", "64")


def greedy_text(loaded: pretrained.LoadedModel, prompt: str, count: int) -> str:
    """The greedy continuation, token by token."""
    ids = loaded.tokenizer(prompt, return_tensors="pt")["input_ids"]
    start = ids.shape[1]
    with torch.inference_mode():
        for _ in range(count):
            ids = torch.cat([ids, loaded.model(ids).logits[:, -1:].argmax(-1)], dim=1)
            if ids[0, -1] == loaded.tokenizer.eos_token_id:
                break
    return loaded.tokenizer.decode(ids[0, start:], skip_special_tokens=True)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_greedy_text_is_the_most_likely_token_each_time_in_any_batch(batch_size: int) -> None:
    loaded = load_folder(pretrained.GENERATION, pretrained.GENERATION.bundled, "bundled")
    prompts = ["Once", "It was a dark night, and the old man", "She said that the", *text_generation.EXAMPLES]
    config = text_generation.Config(sampling=Sampling(), batch_size=batch_size, max_new_tokens=12)
    expected = [greedy_text(loaded, prompt, 12) for prompt in prompts]
    assert [decode(loaded, row) for row in new_tokens(loaded, prompts, config)] == expected
    assert len(set(expected)) == len(prompts)


def test_the_seed_decides_the_text(call: Call, tiny_language: Path) -> None:
    def text(*flags: str) -> str:
        return call(text_generation, "Once upon", "--json", "--model", str(tiny_language), *flags).out

    assert text("--seed", "3") == text("--seed", "3")
    assert text("--seed", "3") != text("--seed", "4")
    assert text("--temperature", "0", "--seed", "3") == text("--temperature", "0", "--seed", "4")
    assert text("--temperature", "1e-5", "--seed", "3") == text("--temperature", "0")


def test_temperature_divides_the_logits_of_the_whole_vocabulary(tiny_language: Path) -> None:
    loaded = load_model(pretrained.GENERATION, str(tiny_language))
    ids = loaded.tokenizer("Once", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = (loaded.model(ids).logits[0, -1] / 3.0).softmax(-1)  # (V,)
    config = text_generation.Config(sampling=Sampling(temperature=3.0), max_new_tokens=1, batch_size=1000)
    drawn = [decode(loaded, row) for row in new_tokens(loaded, ["Once"] * 1000, config)]
    spread = math.exp(-float((expected * expected.log()).sum()))  # the effective number of equally likely tokens
    assert spread > 60
    assert len(set(drawn)) > spread / 2


def test_the_record_of_a_generation(call: Call, tiny_language: Path, tmp_path: Path) -> None:
    arguments = ("Once", "--model", str(tiny_language), "--max_new_tokens", "5", "--output_dir", str(tmp_path))
    result = call(text_generation, *arguments)
    assert result.status == 0
    record = json.loads((tmp_path / "text_generation.json").read_text())
    assert record["config"]["max_new_tokens"] == 5
    assert record["results"]["texts"][0]["prompt"] == "Once"
    assert record["files"] == ["text_generation.json"]


# --- damaged and unsuitable models, with both engines -----------------------------------------------------------------


def edit(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def no_weights(folder: Path, proof: Path) -> None:
    (folder / "model.safetensors").unlink()


def another_architecture(folder: Path, proof: Path) -> None:
    edit(folder, "config.json", model_type="bert")


def an_unheard_of_architecture(folder: Path, proof: Path) -> None:
    edit(folder, "config.json", model_type="abacus")


def another_shape(folder: Path, proof: Path) -> None:
    edit(folder, "config.json", dim=32, n_embd=32)


def half_a_file(folder: Path, proof: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class Exploit:
    """A class whose pickle creates a folder when it is loaded."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.proof),))


def a_pickle_with_code(folder: Path, proof: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Exploit(proof)}, protocol=2))


def code_beside_the_weights(folder: Path, proof: Path) -> None:
    (folder / "custom.py").write_text(f"import os\nos.mkdir({str(proof)!r})\n")
    classes = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM", "AutoModelForSequenceClassification"), "custom.M")
    edit(folder, "config.json", model_type="mine", auto_map=classes)


def no_tokenizer(folder: Path, proof: Path) -> None:
    (folder / "tokenizer.json").unlink()


def a_damaged_tokenizer(folder: Path, proof: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {}}')


def damaged_settings(folder: Path, proof: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ')


def words_without_embeddings(folder: Path, proof: Path) -> None:
    settings = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = settings["model"]["vocab"]
    vocabulary[next(reversed(vocabulary))] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(settings))


def a_special_token_without_embedding(folder: Path, proof: Path) -> None:
    settings = json.loads((folder / "tokenizer.json").read_text())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    settings["added_tokens"].append({"id": 5000, "content": "fine", "special": True, **flags})
    (folder / "tokenizer.json").write_text(json.dumps(settings))


DAMAGES = [
    (no_weights, "no weights in it"),
    (another_architecture, "cannot be loaded|lack"),
    (an_unheard_of_architecture, "cannot be loaded"),
    (another_shape, "do not have the shapes|are torch.float32 .*, not"),
    (half_a_file, "cannot be loaded"),
    (a_pickle_with_code, "holds more than tensors"),
    (code_beside_the_weights, "cannot be loaded"),
    (no_tokenizer, "no tokenizer in it"),
    (a_damaged_tokenizer, "cannot be loaded|damaged"),
    (damaged_settings, "cannot be loaded"),
    (words_without_embeddings, "tokenizer"),
    (a_special_token_without_embedding, "tokenizer"),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("script", [sentiment_analysis, text_generation])
@pytest.mark.parametrize(("damage", "words"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_a_damaged_model_costs_one_line_and_runs_nothing(
    refused: Call,
    tiny_classifier: Path,
    tiny_language: Path,
    tmp_path: Path,
    script: ModuleType,
    engine: str,
    damage: Callable[[Path, Path], None],
    words: str,
) -> None:
    folder, proof = tmp_path / "model", tmp_path / "exploited"
    shutil.copytree(tiny_classifier if script is sentiment_analysis else tiny_language, folder)
    damage(folder, proof)
    message = refused(script, ("fine", "--model", str(folder), "--engine", engine), str(folder))
    assert re.search(words, message)
    assert not proof.exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_for_the_other_task_is_refused(
    refused: Call, tiny_classifier: Path, tiny_language: Path, engine: str
) -> None:
    for script, model in ((sentiment_analysis, tiny_language), (text_generation, tiny_classifier)):
        refused(script, ("fine", "--model", str(model), "--engine", engine), str(model))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_prompt_without_tokens_is_refused(refused: Call, tiny_language: Path, tmp_path: Path, engine: str) -> None:
    shutil.copytree(tiny_language, tmp_path / "model")
    settings = json.loads((tmp_path / "model/tokenizer.json").read_text())
    settings["normalizer"] = {"type": "Replace", "pattern": {"Regex": ".+"}, "content": ""}
    (tmp_path / "model/tokenizer.json").write_text(json.dumps(settings))
    refused(text_generation, ("fine", "--model", str(tmp_path / "model"), "--engine", engine), "prompt 1 has no tokens")


def test_a_failed_run_leaves_the_earlier_files(call: Call, tiny_classifier: Path, tmp_path: Path) -> None:
    model, out = ("--model", str(tiny_classifier)), ("--output_dir", str(tmp_path))
    assert call(sentiment_analysis, "fine", *model, *out).status == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert call(sentiment_analysis, "fine", "--model", str(tmp_path), *out).status == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_unknown_error_is_no_mistake_of_the_user(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(sentiment_analysis, "load_model", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        call(sentiment_analysis, "fine")
    assert not issubclass(RuntimeError, UserError)
