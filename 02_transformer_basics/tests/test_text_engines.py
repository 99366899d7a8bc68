"""Both engines of the text scripts: the same results, the comparison, and the features of our own engine."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import engines
import sentiment_analysis
import text_generation
import transformer_block
from engines import EngineOptions, load_own, loader, read_tokenizer
from lab import attention_plots
from lab.attention_plots import draw_head
from models import hub as pretrained
from models.generation import Sampling, token_probabilities
from models.hub import GENERATION, SENTIMENT, load_folder, load_model
from step_probabilities import step_probabilities

PROJECT = Path(__file__).parent.parent
Call = Callable[..., Any]
TEXTS = ["a funny film", "Dull.", "dull " * 300, "😀 漢字 naïve \x07", "x" * 500, "Once upon a time\tthere was"]


# --- the same answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["tiny", "bundled"])
def test_labels_and_scores_are_the_pipelines(tiny_classifier: Path, model: str) -> None:
    folder = tiny_classifier if model == "tiny" else SENTIMENT.bundled
    theirs, ours = load_folder(SENTIMENT, folder, "x"), load_own(SENTIMENT, folder, "x")
    pairs = zip(sentiment_analysis.classify(theirs, TEXTS, 4), sentiment_analysis.classify(ours, TEXTS, 4), strict=True)
    for expected, actual in pairs:
        assert actual.keys() == expected.keys()
        assert (actual["text"], actual["label"]) == (expected["text"], expected["label"])
        assert actual["score"] == pytest.approx(expected["score"], abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize(
    "settings",
    [{"temperature": 0.0}, {"temperature": 0.8}, {"temperature": 0.8, "top_k": 5}, {"top_p": 0.7, "temperature": 1.3}],
    ids=str,
)
def test_texts_are_the_pipelines_sampled_ones_too(batch_size: int, settings: dict[str, Any]) -> None:
    sampling, seed = Sampling(**settings), 3 if "top_k" in settings else 0
    config = text_generation.Config(batch_size=batch_size, max_new_tokens=12, sampling=sampling, seed=seed)
    prompts = ["Once", "It was a dark night, and the old man", "She said that the", "naïve 😀"]
    theirs, ours = (read(GENERATION, GENERATION.bundled, "x") for read in (load_folder, load_own))
    assert text_generation.new_tokens(ours, prompts, config) == text_generation.new_tokens(theirs, prompts, config)


def test_a_repetition_penalty_is_the_pipelines() -> None:
    """In a batch too: padding is not a token already present."""
    config = text_generation.Config(max_new_tokens=20, sampling=Sampling(repetition_penalty=1.5))
    prompts = ["Once upon a time", "The old man looked at the sea and", "It"]
    theirs, ours = (read(GENERATION, GENERATION.bundled, "x") for read in (load_folder, load_own))
    actual = text_generation.new_tokens(ours, prompts, config)
    assert actual == text_generation.new_tokens(theirs, prompts, config)
    without = replace(config, sampling=Sampling())
    assert actual != text_generation.new_tokens(ours, prompts, without)


def test_a_text_ends_where_the_model_ends_it(tiny_language: Path) -> None:
    """Both engines stop at the end-of-text token, and do not print it."""
    config = text_generation.Config(max_new_tokens=30, sampling=Sampling(temperature=1.0), batch_size=3)
    loaded_engines = [read(GENERATION, tiny_language, "x") for read in (load_folder, load_own)]
    stop = 70  # any token: this model never predicts the end of a text
    for loaded in loaded_engines:
        loaded.tokenizer.eos_token_id = stop
    theirs, ours = (text_generation.new_tokens(loaded, ["fine", "a", "Once"] * 4, config) for loaded in loaded_engines)
    assert ours == theirs
    ended = [row for row in ours if stop in row]
    assert ended
    assert all(row.index(stop) == len(row) - 1 for row in ended)


def test_the_tokenizer_gives_the_librarys_ids(tiny_classifier: Path, tiny_language: Path) -> None:
    for folder in (tiny_classifier, tiny_language, SENTIMENT.bundled, GENERATION.bundled):
        theirs, ours = AutoTokenizer.from_pretrained(folder), read_tokenizer(folder, "x", 256)
        assert ours(TEXTS)["input_ids"] == theirs(TEXTS, verbose=False)["input_ids"]
        theirs.model_max_length = ours.model_max_length
        assert ours(TEXTS, truncation=True)["input_ids"] == theirs(TEXTS, truncation=True)["input_ids"]
        assert (ours.eos_token_id, ours.mask_token_id) == (theirs.eos_token_id, theirs.mask_token_id)
        for ids in ours(TEXTS)["input_ids"]:
            assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)


def test_a_tokenizer_of_the_older_layout_is_read(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "distilbert"}))
    tokenizer = read_tokenizer(tmp_path, "x", 8)
    assert tokenizer(["A film", "film " * 20], truncation=True)["input_ids"] == [[2, 5, 6, 3], [2, *[6] * 6, 3]]
    assert tokenizer.mask_token_id == 4


# --- which model, and how fast it starts ------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "task"), [(sentiment_analysis, SENTIMENT), (text_generation, GENERATION)])
def test_the_scratch_engine_loads_one_model_once(
    call: Call, hub_cache: Path, monkeypatch: pytest.MonkeyPatch, script: ModuleType, task: pretrained.Task
) -> None:
    folders = []

    def counted(task: pretrained.Task, folder: Path, name: str, **settings: Any) -> pretrained.LoadedModel:
        folders.append(folder)
        return original(task, folder, name, **settings)

    def forbidden(*_: Any) -> None:
        raise AssertionError("the library loads a model")

    original = engines.load_own
    monkeypatch.setattr(engines, "load_own", counted)
    monkeypatch.setattr(script, "load_own", counted)
    monkeypatch.setattr(pretrained, "load_folder", forbidden)
    monkeypatch.setattr(script, "load_folder", forbidden)
    flags = ("--explain",) if script is sentiment_analysis else ("--show_probs", "2", "--max_new_tokens", "2")
    result = call(script, "--engine", "scratch", *flags, "--show_attention", "fine")
    assert result.status == 0, result.err
    assert f"the lab's own {task.bundled.name} model" in result.err  # the same choice: nothing cached, no hub
    assert folders == [task.bundled]


@pytest.mark.parametrize(("script", "model"), [("sentiment_analysis", SENTIMENT), ("text_generation", GENERATION)])
def test_the_scratch_engine_starts_without_what_takes_seconds(
    script: str, model: pretrained.Task, tmp_path: Path
) -> None:
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(PROJECT)!r})
import {script} as script
script.draw_plots = lambda *_: None  # Matplotlib is imported only for plots, after the answers
script.main(script.Config(("fine",), engine="scratch", model=sys.argv[1], output_dir=Path(sys.argv[2])))
print([name for name in ("transformers", "matplotlib", "torch._dynamo") if name in sys.modules])
"""
    command = [sys.executable, "-c", code, str(model.bundled), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr + done.stdout


@pytest.mark.parametrize("engine", ["pipeline", "scratch"])
@pytest.mark.parametrize("script", [sentiment_analysis, text_generation])
def test_the_record_names_the_engine(
    call: Call, tiny_classifier: Path, tiny_language: Path, tmp_path: Path, script: ModuleType, engine: str
) -> None:
    model = tiny_classifier if script is sentiment_analysis else tiny_language
    assert call(script, "fine", "--engine", engine, "--model", str(model)).status == 0
    record = json.loads((tmp_path / f"out/{script.__name__}.json").read_text())
    assert record["results"]["engine"] == record["config"]["engine"] == engine
    assert record["results"]["form"] == ("plain" if engine == "scratch" else None)
    assert record["results"]["model"] == str(model)


# --- side by side -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["pipeline", "scratch"])
@pytest.mark.parametrize("script", [sentiment_analysis, text_generation])
def test_compare_shows_both_and_records_the_difference(
    call: Call, tiny_classifier: Path, tiny_language: Path, tmp_path: Path, script: ModuleType, engine: str
) -> None:
    model = tiny_classifier if script is sentiment_analysis else tiny_language
    result = call(script, "fine", "a funny film", "--compare", "--engine", engine, "--model", str(model))
    assert result.status == 0, result.err
    assert "pipeline" in result.out
    assert "scratch" in result.out
    record = json.loads((tmp_path / f"out/{script.__name__}.json").read_text())
    difference, *_, speed = [figure for figure in record["figures"] if figure["name"] != "continuation"]
    assert difference["name"].startswith("largest difference of")
    assert float(difference["value"]) <= 1e-4
    assert difference["ok"]
    assert speed["name"].endswith("per second")
    speeds = record["results"]["texts_per_second" if script is sentiment_analysis else "tokens_per_second"]
    assert speeds.keys() == {"pipeline", "scratch", "accelerated"}
    (agreement,) = [figure for figure in record["figures"] if figure["value"] == "2 of 2"]
    assert agreement["ok"]
    assert "2 of 2" in result.out
    assert min(speeds.values()) > 0


@pytest.mark.parametrize("script", [sentiment_analysis, text_generation])
def test_compare_notices_a_faulty_model(
    call: Call,
    tiny_classifier: Path,
    tiny_language: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: ModuleType,
) -> None:
    def faulty(
        task: pretrained.Task, folder: Path, name: str, *options: Any, **settings: Any
    ) -> pretrained.LoadedModel:
        loaded = original(task, folder, name, *options, **settings)
        with torch.no_grad():
            loaded.model.position_embeddings.weight[:, 0] += 2.0
        return loaded

    original = engines.load_own
    monkeypatch.setattr(script, "load_own", faulty)
    model = tiny_classifier if script is sentiment_analysis else tiny_language
    assert call(script, "a funny film", "--compare", "--model", str(model)).status == 0
    record = json.loads((tmp_path / f"out/{script.__name__}.json").read_text())
    figure = next(figure for figure in record["figures"] if figure["name"].startswith("largest difference"))
    assert not figure["ok"]
    assert float(figure["value"]) > 1e-4


def test_timing_is_interleaved_and_keeps_the_shortest_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, order = [0.0], []

    def runner(name: str, times: list[float]) -> str:
        order.append(name)
        now[0] += times.pop(0)
        return name.upper()

    monkeypatch.setattr(engines.time, "perf_counter", lambda: now[0])
    times = {"a": [4.0, 1.0, 2.0], "b": [3.0, 2.5, 0.5]}
    runs = {name: lambda name=name: runner(name, times[name]) for name in times}
    timings = engines.time_interleaved(runs, seconds=11.0)
    assert order == ["a", "b"] * 2 + ["a", "b"]
    assert timings == {"a": ("A", 1.0), "b": ("B", 0.5)}


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_lower_precision_needs_our_own_engine(call: Call, refused: Call, tiny_language: Path, precision: str) -> None:
    flags = ("fine", "--precision", precision, "--model", str(tiny_language), "--max_new_tokens", "3")
    refused(text_generation, flags, "--precision", precision, "--engine scratch")
    assert call(text_generation, *flags, "--engine", "scratch", "--show_attention", "--show_probs", "2").status == 0
    result = call(text_generation, *flags, "--compare", "--temperature", "0")
    assert result.status == 0
    assert f"may be fewer; {precision} rounds the weights" in result.out
    assert f"accelerated, {precision}" in result.out


# --- attention --------------------------------------------------------------------------------------------------------


def heat_map_of(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any]) -> Any:
    """The axes that `run` draws a head on."""
    drawn = []

    def save(figure: Any, path: Path) -> None:
        path.touch()
        drawn.append((figure, path))

    monkeypatch.setattr(attention_plots, "save_figure", save)
    run()
    ((figure, _),) = drawn
    plt.close(figure)
    return figure.axes[0]


@pytest.mark.parametrize("engine", ["pipeline", "scratch"])
def test_the_head_that_is_drawn_is_the_librarys(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str
) -> None:
    text, flags = "A wonderful film", ("--model", str(SENTIMENT.bundled), "--engine", engine)
    axes = heat_map_of(
        monkeypatch,
        lambda: call(sentiment_analysis, text, "Dull.", *flags, "--show_attention", "--layer", "1", "--head", "3"),
    )
    model = AutoModelForSequenceClassification.from_pretrained(SENTIMENT.bundled, attn_implementation="eager").eval()
    ids = AutoTokenizer.from_pretrained(SENTIMENT.bundled)(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = model(ids, output_attentions=True).attentions[1][0, 3]
    actual = torch.as_tensor(axes.images[0].get_array())
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["[CLS]", "a", "wonderful", "film", "[SEP]"]
    record = json.loads((tmp_path / "out/sentiment_analysis.json").read_text())
    assert "sentiment_attention.png" in record["files"]
    assert record["results"]["attention"] == {"text": text, "layer": 1, "head": 3}


def test_the_library_returns_attention_weights_only_if_requested_at_loading() -> None:
    """This is the reason that the heads are drawn from our own model."""
    loaded = load_folder(SENTIMENT, SENTIMENT.bundled, "x")
    with torch.inference_mode():
        assert not loaded.model(torch.tensor([[2, 3]]), output_attentions=True).attentions
        assert (
            load_own(SENTIMENT, SENTIMENT.bundled, "x").model.forward_with_internals(torch.tensor([[2, 3]])).attentions
        )


def test_attention_of_a_generated_text_is_causal(
    call: Call, tiny_language: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--model", str(tiny_language), "--max_new_tokens", "4", "--show_attention", "--head", "1")
    axes = heat_map_of(monkeypatch, lambda: call(text_generation, "a b", *flags))
    values = axes.images[0].get_array()
    assert values.shape[0] >= 6
    assert values.mask[~torch.ones(values.shape).tril().bool()].all()  # later positions are hidden
    assert values.sum(axis=1).tolist() == pytest.approx([1.0] * len(values))
    assert axes.get_xticklabels()[1].get_text() == "␣"


@pytest.mark.parametrize("length", [1, 20, 40, 256])
def test_a_head_stays_legible_for_texts_of_any_length(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, length: int
) -> None:
    weights = torch.rand(1, 2, length, length).softmax(dim=-1)
    tokens = [f"token{i}$" for i in range(length)]
    axes = heat_map_of(monkeypatch, lambda: draw_head([weights], 0, 1, tokens, tmp_path / "x.png"))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert 0 < len(labels) <= 60
    assert labels[0] == r"token0\$"
    assert (len(axes.texts) == length**2) == (length <= 20)
    assert max(axes.figure.get_size_inches()) <= 13


@pytest.mark.parametrize("engine", ["pipeline", "scratch"])
@pytest.mark.parametrize("script", [sentiment_analysis, text_generation])
def test_a_head_that_is_not_there_is_refused(
    refused: Call, tiny_classifier: Path, tiny_language: Path, script: ModuleType, engine: str
) -> None:
    model = ("--engine", engine, "--model", str(tiny_classifier if script is sentiment_analysis else tiny_language))
    refused(script, ("fine", *model, "--show_attention", "--layer", "1"), "--layer is 1", "1, numbered 0 to 0")
    refused(script, ("fine", *model, "--show_attention", "--head=-1"), "--head is -1", "2, numbered 0 to 1")
    refused(script, ("fine", *model, "--head", "1"), "--show_attention")


# --- explanations on the command line ---------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["pipeline", "scratch"])
def test_explain_prints_draws_and_records(call: Call, tmp_path: Path, engine: str) -> None:
    flags = ("--model", str(SENTIMENT.bundled), "--engine", engine, "--explain", "A wonderful film", "😀 $x$ dull")
    result = call(sentiment_analysis, *flags)
    assert (result.status, result.err) == (0, "")
    assert "  wonderful +0." in result.out
    with Image.open(tmp_path / "out/sentiment_explanation.png") as image:
        assert image.width > 800
    result = call(sentiment_analysis, *flags, "--json")
    words = json.loads(result.out.splitlines()[0])["words"]
    assert max(words, key=lambda pair: pair[1])[0] == "wonderful"
    record = json.loads((tmp_path / "out/sentiment_analysis.json").read_text())
    assert [word for word, _ in record["results"]["explanations"][0]["words"]] == ["A", "wonderful", "film"]


# --- generation shows its work ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["pipeline", "scratch"])
def test_probabilities_of_each_step_are_the_models(call: Call, tmp_path: Path, engine: str) -> None:
    flags = ("--model", str(GENERATION.bundled), "--engine", engine, "--max_new_tokens", "4", "--temperature", "0")
    result = call(text_generation, "Once upon", *flags, "--show_probs", "3", "--json")
    (line,) = result.out.splitlines()
    output = json.loads(line)
    assert "".join(step["token"] for step in output["steps"]) == output["continuation"]
    loaded = load_model(GENERATION, str(GENERATION.bundled))
    ids = loaded.tokenizer("Once upon", return_tensors="pt")["input_ids"]
    for step in output["steps"]:
        with torch.inference_mode():
            expected = loaded.model(ids).logits[0, -1].softmax(-1).topk(3)
        named = [loaded.tokenizer.decode([token]) for token in expected.indices.tolist()]
        assert [token for token, _ in step["likeliest"]] == named
        assert [p for _, p in step["likeliest"]] == pytest.approx(expected.values.tolist(), abs=1e-5)
        assert step["token"] == named[0]  # temperature 0
        assert step["probability"] == pytest.approx(float(expected.values[0]), abs=1e-5)
        ids = torch.cat([ids, expected.indices[None, :1]], dim=1)
    shown = call(text_generation, "Once upon", *flags, "--show_probs", "3").out
    assert f"   1 {text_generation.visible(output['steps'][0]['token']):<12}" in shown


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_at_temperature_0_each_token_is_its_most_likely_one(call: Call, precision: str, batch_size: int) -> None:
    """int8 rounds the inputs of a batch together, so that the same tokens in another batch have other probabilities."""
    flags = ("--engine", "scratch", "--temperature", "0", "--max_new_tokens", "30", "--show_probs", "2", "--json")
    model = ("--model", str(GENERATION.bundled), "--precision", precision, "--batch_size", str(batch_size))
    lines = call(text_generation, *text_generation.EXAMPLES, *flags, *model).out.splitlines()
    steps = [step for line in lines for step in json.loads(line)["steps"]]
    assert len(steps) == 30 * len(text_generation.EXAMPLES)
    assert all(step["token"] == step["likeliest"][0][0] for step in steps)
    assert all(step["probability"] == step["likeliest"][0][1] for step in steps)


def test_probabilities_of_texts_that_end_early_are_those_of_each_text(tiny_language: Path) -> None:
    """In float32 a text does not depend on the others in its batch, nor on the padding before it."""
    own = load_own(GENERATION, tiny_language, "tiny")
    prompts, sampling = ["Once upon a", "fine"], Sampling(temperature=0.7, repetition_penalty=1.3, top_p=0.9)
    stop = own.tokenizer.eos_token_id
    rows = [[3, 4, 5, 6], [7, stop]]
    arguments = sampling, 5, torch.device("cpu")
    together = step_probabilities(own, prompts, rows, *arguments)
    assert [len(steps) for steps in together] == [4, 2]
    for number, steps in enumerate(together):
        (alone,) = step_probabilities(own, prompts[number : number + 1], rows[number : number + 1], *arguments)
        assert [step["token"] for step in steps] == [step["token"] for step in alone]
        for step, other in zip(steps, alone, strict=True):
            assert step["probability"] == pytest.approx(other["probability"], abs=1e-5)
            assert [p for _, p in step["likeliest"]] == pytest.approx([p for _, p in other["likeliest"]], abs=1e-5)
    ids = torch.tensor([own.tokenizer(["fine"])["input_ids"][0]])
    with torch.inference_mode():
        logits = own.model(ids)[:, -1].float()
    expected = token_probabilities(logits, ids, None, sampling)[0, 7]
    assert together[1][0]["probability"] == pytest.approx(float(expected), abs=1e-5)


def test_the_lesson_shows_what_the_script_prints(call: Call) -> None:
    flags = ("--engine", "scratch", "--temperature", "0", "--max_new_tokens", "5", "--show_probs", "4")
    prompt = "The old man looked at the sea and"
    shown = call(text_generation, prompt, *flags, "--model", str(GENERATION.bundled)).out
    lesson = (PROJECT / "README.md").read_text(encoding="utf-8")
    (block,) = [part.split("```")[0] for part in lesson.split("```text\n") if part.startswith("step token")]
    assert block in shown
    assert " ".join(("python text_generation.py", f'"{prompt}"', *flags)) in lesson


def test_tokens_that_cannot_be_drawn_are_not_shown(call: Call) -> None:
    flags = ("--model", str(GENERATION.bundled), "--top_k", "2", "--max_new_tokens", "3", "--show_probs", "5", "--json")
    output = json.loads(call(text_generation, "Once upon", *flags).out)
    for step in output["steps"]:
        assert len(step["likeliest"]) == 2
        assert sum(p for _, p in step["likeliest"]) == pytest.approx(1.0, abs=1e-5)
        assert step["token"] in dict(step["likeliest"])


def test_a_stream_shows_each_token_as_it_comes_and_no_half_characters(
    tiny_language: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load_own(GENERATION, tiny_language, "x")
    texts = [" film 😀!", " and\x07"]
    rows = [loaded.tokenizer([text])["input_ids"][0] for text in texts]
    rows[1] += [loaded.tokenizer.eos_token_id] * (len(rows[0]) - len(rows[1]))
    seen: list[str] = []

    def steps() -> Iterator[Tensor]:
        for pair in zip(*rows, strict=True):
            yield torch.tensor(pair)
            seen.append(capsys.readouterr().out)

    list(text_generation.print_while_generating(loaded, ["a", "b"], steps()))
    assert seen[0].startswith("a")
    assert "".join(seen) == "a film 😀!"
    assert len([part for part in seen if part]) > 3  # it was printed in parts
    assert not any("\ufffd" in part for part in seen)
    assert capsys.readouterr().out == "\n\nb and\\x07\n\n"


def test_it_streams_on_a_terminal_only(call: Call, tiny_language: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streamed: list[bool] = []

    def spy(*arguments: Any) -> list[list[int]]:
        streamed.append(arguments[3])
        return original(*arguments[:3])

    original = text_generation.new_tokens
    monkeypatch.setattr(text_generation, "new_tokens", spy)
    flags = ("fine", "--model", str(tiny_language), "--max_new_tokens", "2")
    for on_terminal in (True, False):
        monkeypatch.setattr(sys.stdout, "isatty", lambda there=on_terminal: there)
        for more in (("--engine", "scratch"), ("--engine", "scratch", "--json"), ("--engine", "pipeline")):
            assert call(text_generation, *flags, *more).status == 0
    assert streamed == [True, False, False, False, False, False]


def test_a_device_that_is_not_there_is_refused(refused: Call, tiny_language: Path, tiny_classifier: Path) -> None:
    for script, model in ((text_generation, tiny_language), (sentiment_analysis, tiny_classifier)):
        refused(script, ("fine", "--model", str(model), "--device", "abacus"), "--device abacus")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("flags", [("--compare",), ("--engine", "scratch", "--show_attention")])
def test_both_scripts_run_on_cuda(call: Call, flags: tuple[str, ...]) -> None:
    assert call(sentiment_analysis, "fine", "--model", str(SENTIMENT.bundled), "--device", "cuda", *flags).status == 0
    assert call(text_generation, "fine", "--model", str(GENERATION.bundled), "--device", "cuda", *flags).status == 0


def test_the_loader_makes_the_requested_form(tiny_language: Path) -> None:
    for options, kind in ((EngineOptions(), "GPT2"), (EngineOptions(precision="int8"), "AcceleratedGPT2")):
        loaded = load_model(GENERATION, str(tiny_language), loader(options))
        assert type(loaded.model).__name__ == kind
        assert loaded.folder == tiny_language


# --- what runs is what the lesson shows -------------------------------------------------------------------------------


def lesson_calls(run: Callable[[], Any]) -> set[str]:
    """The functions of transformer_block.py that `run` calls, recorded with the interpreter's profiler."""
    called: set[str] = set()

    def record(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename == transformer_block.__file__:
            called.add(frame.f_code.co_qualname)

    sys.setprofile(record)
    try:
        run()
    finally:
        sys.setprofile(None)
    return called


@pytest.mark.parametrize("script", [sentiment_analysis, text_generation])
def test_the_scratch_engine_runs_the_lessons_block_unless_it_is_accelerated(
    call: Call, tiny_classifier: Path, tiny_language: Path, script: ModuleType
) -> None:
    model = tiny_classifier if script is sentiment_analysis else tiny_language
    flags = ("fine", "--engine", "scratch", "--model", str(model), "--json")
    lesson = {"attention", "TransformerBlock.forward", "MultiHeadAttention.forward"}
    assert lesson <= lesson_calls(lambda: call(script, *flags))
    assert not lesson & lesson_calls(lambda: call(script, *flags, "--accelerate"))


@pytest.mark.parametrize("script", [sentiment_analysis, text_generation])
def test_the_accelerated_form_gives_the_same_and_says_so(
    call: Call, tiny_classifier: Path, tiny_language: Path, script: ModuleType, tmp_path: Path
) -> None:
    model = tiny_classifier if script is sentiment_analysis else tiny_language
    flags = ("fine", "a funny film", "--engine", "scratch", "--model", str(model))
    plain, fast = call(script, *flags), call(script, *flags, "--accelerate")
    assert "engine: scratch, plain\n" in plain.out
    assert fast.out == plain.out.replace("scratch, plain", "scratch, accelerated")
    assert json.loads((tmp_path / f"out/{script.__name__}.json").read_text())["results"]["form"] == "accelerated"


@pytest.mark.parametrize("script", [sentiment_analysis, text_generation])
def test_a_lower_precision_switches_the_accelerated_form_on_and_says_so(
    call: Call, tiny_classifier: Path, tiny_language: Path, script: ModuleType
) -> None:
    model = tiny_classifier if script is sentiment_analysis else tiny_language
    result = call(script, "fine", "--engine", "scratch", "--precision", "int8", "--model", str(model))
    assert result.status == 0
    assert "--precision int8 runs the accelerated form" in result.err
    assert "engine: scratch, accelerated, int8\n" in result.out


@pytest.mark.parametrize("script", [sentiment_analysis, text_generation])
def test_accelerate_is_for_our_own_engine(refused: Call, script: ModuleType) -> None:
    refused(script, ("fine", "--accelerate"), "--accelerate", "--engine scratch")


@pytest.mark.parametrize("flag", ["--temperature=-1", "--top_k=0", "--top_p=2", "--repetition_penalty=0"])
def test_sampling_options_out_of_range_name_their_flag(refused: Call, flag: str) -> None:
    refused(text_generation, ("fine", flag), flag.split("=")[0] + " is")
