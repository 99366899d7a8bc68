"""Labels, special tokens, generation settings and weights in the files of a model: the same for both engines."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import sentiment_analysis
import text_generation
from engines import FileTokenizer, load_own, read_tokenizer
from lab.errors import UserError
from models.distilbert import DistilBertClassifier
from models.generation import Sampling
from models.gpt2 import GPT2
from models.hub import GENERATION, SENTIMENT, load_model
from models.settings import check_own_settings, class_labels, ignored_generation_settings
from sentiment.data import LABELS, SentimentData
from sentiment.options import Options
from sentiment.training_setup import setup_distill

Call = Callable[..., Any]
ENGINES = ("pipeline", "scratch")
PROMPTS = ("Once upon a time", "the old man", "x")


@pytest.fixture
def language(tiny_language: Path, tmp_path: Path) -> Path:
    """A copy of the tiny language model that a test may change."""
    return Path(shutil.copytree(tiny_language, tmp_path / "language"))


@pytest.fixture
def classifier(tiny_classifier: Path, tmp_path: Path) -> Path:
    """A copy of the tiny classifier that a test may change."""
    return Path(shutil.copytree(tiny_classifier, tmp_path / "classifier"))


def edit(path: Path, **changes: Any) -> None:
    """Change settings in a JSON file, which may be missing; None removes one."""
    settings = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({name: value for name, value in {**settings, **changes}.items() if value is not None}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def lines(call: Call, script: Any, folder: Path, engine: str, *arguments: str) -> tuple[list[dict[str, Any]], str]:
    """The JSON lines that a script prints, without the model's name, and its standard error."""
    result = call(script, *arguments, "--json", "--model", str(folder), "--engine", engine)
    assert result.status == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()], result.err


def texts(call: Call, folder: Path, engine: str, *arguments: str) -> tuple[list[str], str]:
    """The greedy continuations of some prompts, and the standard error."""
    flags = ("--temperature", "0", "--max_new_tokens", "12", *arguments)
    answers, err = lines(call, text_generation, folder, engine, *PROMPTS, *flags)
    return [answer["continuation"] for answer in answers], err


def both(call: Call, folder: Path, *arguments: str) -> tuple[list[str], str]:
    """The continuations and the standard error, which must be the same for both engines."""
    theirs, ours = (texts(call, folder, engine, *arguments) for engine in ENGINES)
    assert ours == theirs
    return ours


# --- classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("engine", "flag"), [("pipeline", "--compare"), ("scratch", "--explain")])
def test_the_number_decides_which_name_a_class_has(
    call: Call, tiny_classifier: Path, classifier: Path, engine: str, flag: str
) -> None:
    arguments = ("a funny film", "the plot is dull", flag, "--engine", engine)
    expected = call(sentiment_analysis, *arguments, "--model", str(tiny_classifier))
    edit(classifier / "config.json", id2label={"1": "POSITIVE", "0": "NEGATIVE"})
    actual = call(sentiment_analysis, *arguments, "--model", str(classifier))
    label_and_score = [line.split()[:2] for line in expected.out.splitlines()[:3]]
    assert [line.split()[:2] for line in actual.out.splitlines()[:3]] == label_and_score


@pytest.mark.parametrize("names", [{"0": "NEGATIVE", "1": "POSITIVE"}, {"1": "POSITIVE", "0": "NEGATIVE"}])
def test_a_teacher_is_known_by_the_numbers_of_its_classes(classifier: Path, tmp_path: Path, names: dict) -> None:
    edit(classifier / "config.json", id2label=names)
    assert DistilBertClassifier.from_pretrained(classifier).labels == LABELS
    edit(classifier / "config.json", id2label={str(1 - int(number)): name for number, name in names.items()})
    data = SentimentData([("fine", 1)], [("fine", 1)], {"test": [("fine", 1)]}, LABELS)
    with pytest.raises(UserError, match=r"--teacher .*its labels are \('POSITIVE', 'NEGATIVE'\)"):
        setup_distill(Options(), data, classifier, tmp_path / "answers.pth", torch.device("cpu"))


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({}, ["LABEL_0", "LABEL_1"]),
        ({"num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        ({"id2label": {"2": "c", "0": "a", "1": "b"}}, ["a", "b", "c"]),
        ({"id2label": {str(n): str(n) for n in (10, 9, *range(9))}}, [str(n) for n in range(11)]),
        ({"label2id": {"x": 0, "y": 1, "z": 2}}, ["LABEL_0", "LABEL_1"]),
    ],
)
def test_labels_are_those_of_the_library(settings: dict[str, Any], labels: list[str]) -> None:
    assert class_labels(settings) == labels


@pytest.mark.parametrize(
    "changes",
    [
        {"id2label": {"1": "a", "2": "b"}},
        {"id2label": {"0": "a", "00": "b"}},
        {"id2label": {"good": 0, "bad": 1}},
        {"id2label": ["a", "b"]},
        {"id2label": {"0": "only"}},
        {"id2label": {"0": "a", "1": "b"}, "num_labels": 3},
        {"num_labels": "two"},
        {"problem_type": "multi_label_classification"},
        {"problem_type": "regression"},
    ],
    ids=str,
)
def test_both_engines_refuse_the_same_classes_in_the_same_line(
    refused: Call, classifier: Path, changes: dict[str, Any]
) -> None:
    edit(classifier / "config.json", **changes)
    first, second = (
        refused(sentiment_analysis, ("fine", "--model", str(classifier), "--engine", engine), str(classifier))
        for engine in ENGINES
    )
    assert first == second


@pytest.mark.parametrize(
    ("engine", "flags"), [("pipeline", ()), ("scratch", ("--explain",)), ("scratch", ("--compare",))]
)
def test_names_of_classes_do_not_control_the_terminal(
    call: Call, classifier: Path, engine: str, flags: tuple[str, ...]
) -> None:
    names = {str(number): f"\x1b[2J\x1b]0;x\x07UP\n{number}" for number in range(2)}
    edit(classifier / "config.json", id2label=names)
    result = call(sentiment_analysis, "fine", "--model", str(classifier), "--engine", engine, *flags)
    assert result.status == 0, result.err
    assert r"\x1b[2J\x1b]0;x\x07UP\n" in result.out
    assert all(character.isprintable() or character == "\n" for character in result.out + result.err)


# --- settings of generation -------------------------------------------------------------------------------------------

GENERATION_SETTINGS = [
    {"repetition_penalty": 1.8, "no_repeat_ngram_size": 2},
    {"num_beams": 4, "length_penalty": 2.0},
    {"num_return_sequences": 3},
    {"min_new_tokens": 9},
    {"suppress_tokens": [263, 264], "bad_words_ids": [[265]]},
    {"temperature": 0.3, "top_k": 3, "top_p": 0.5},
    {"forced_eos_token_id": 9},
    {"stop_strings": ["e"]},
    {"eos_token_id": [263, 264]},
]


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        *(("generation_config.json", settings) for settings in GENERATION_SETTINGS),
        *(("config.json", settings) for settings in GENERATION_SETTINGS[:3]),
    ],
    ids=str,
)
def test_the_flags_decide_how_text_is_generated_not_the_models_files(
    call: Call, tiny_language: Path, language: Path, file: str, settings: dict[str, Any]
) -> None:
    expected, silence = texts(call, tiny_language, "scratch")
    assert silence == ""
    edit(language / file, **settings)
    actual, err = both(call, language)
    assert actual == expected
    assert err == f"note: {language}: its files set {', '.join(sorted(settings))}; this is ignored, the flags decide\n"


def test_settings_of_the_task_and_a_prefix_are_not_followed(call: Call, tiny_language: Path, language: Path) -> None:
    task = {"text-generation": {"do_sample": True, "max_length": 3, "num_beams": 2}}
    edit(language / "config.json", task_specific_params=task, prefix="Once ", return_dict=False, output_attentions=True)
    actual, err = both(call, language)
    assert actual == texts(call, tiny_language, "scratch")[0]
    assert "num_beams, prefix; this is ignored" in err


def test_neutral_settings_are_not_mentioned(language: Path) -> None:
    edit(language / "generation_config.json", temperature=1.0, num_beams=1, eos_token_id=[0], do_sample=True, top_k=50)
    assert ignored_generation_settings(language, 0) == []
    (language / "generation_config.json").write_text("[")
    assert ignored_generation_settings(language, 0) == []
    edit(language / "config.json", eos_token_id=5)
    assert ignored_generation_settings(language, 0) == ["eos_token_id"]


def test_a_repetition_penalty_does_not_depend_on_the_batch(call: Call, language: Path) -> None:
    """The most likely token is the one that pads: a penalty for the padding would change the text."""

    def prefer_the_end(tensors: dict[str, torch.Tensor]) -> None:
        tensors["transformer.wte.weight"][0].mul_(3)
        tensors["transformer.ln_f.weight"].zero_()
        tensors["transformer.ln_f.bias"].copy_(tensors["transformer.wte.weight"][0])

    edit_weights(language, prefer_the_end)
    assert both(call, language, "--repetition_penalty", "100")[0] == ["", "", ""]
    edit(language / "tokenizer_config.json", eos_token=None)
    flags = ("--repetition_penalty", "100", "--max_new_tokens", "3")
    expected = both(call, language, *flags, "--batch_size", "1")[0]
    assert both(call, language, *flags)[0] == expected
    assert both(call, language, "--max_new_tokens", "3")[0] != expected


# --- special tokens and spelling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer_class", ["TokenizersBackend", None])
@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json", "special_tokens_map.json"])
def test_both_engines_stop_at_the_tokenizers_end_token(
    call: Call, language: Path, tokenizer_class: str | None, where: str
) -> None:
    """The fourth token of the first text is made the end token: of the tokenizer, or in config.json alone."""
    own, config = load_own(GENERATION, language, "x"), text_generation.Config(sampling=Sampling())
    stop = text_generation.new_tokens(own, [*PROMPTS], config)[0][3]
    name = next(token for token, number in own.tokenizer.get_vocab().items() if number == stop)
    edit(language / "tokenizer_config.json", tokenizer_class=tokenizer_class)
    unchanged = both(call, language)[0]
    edit(language / where, **({"eos_token_id": stop} if where == "config.json" else {"eos_token": name}))
    actual = both(call, language)[0]
    if where == "config.json":
        assert actual == unchanged
    elif where == "tokenizer_config.json":
        assert actual != unchanged


def test_a_tokenizer_without_padding_token_pads_none_the_less(
    call: Call, tiny_language: Path, language: Path, tiny_classifier: Path, classifier: Path
) -> None:
    expected = texts(call, tiny_language, "scratch")[0]
    for changes in ({"eos_token": None}, {"pad_token": "<pad>"}, {"tokenizer_class": "GPT2Tokenizer"}):
        shutil.copy(tiny_language / "tokenizer_config.json", language)
        edit(language / "tokenizer_config.json", **changes)
        assert both(call, language)[0] == expected, changes
    for changes in ({"pad_token": None}, {"pad_token": "<pad>"}):
        edit(classifier / "tokenizer_config.json", **changes)
        edit(classifier / "config.json", pad_token_id=5000 if changes["pad_token"] else 0)
        for engine in ENGINES:
            answers = lines(call, sentiment_analysis, classifier, engine, "fine", "a funny film")[0]
            expected_answers = lines(call, sentiment_analysis, tiny_classifier, engine, "fine", "a funny film")[0]
            for answer, other in zip(answers, expected_answers, strict=True):
                assert answer["label"] == other["label"]
                assert answer["score"] == pytest.approx(other["score"], abs=1e-5)


def test_a_classifier_that_knows_no_padding_classifies_several_texts(
    call: Call, tiny_language: Path, tmp_path: Path
) -> None:
    """A GPT-2 classifies at the last token that is not padding."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=300, n_positions=64, n_embd=16, n_layer=1, n_head=2)
    config.num_labels = 2
    transformers.GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "gpt2")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_language / name, tmp_path / "gpt2")
    single = [lines(call, sentiment_analysis, tmp_path / "gpt2", "pipeline", prompt)[0][0] for prompt in PROMPTS]
    for token in (None, "<|endoftext|>"):
        edit(tmp_path / "gpt2/tokenizer_config.json", pad_token=token)
        together = lines(call, sentiment_analysis, tmp_path / "gpt2", "pipeline", *PROMPTS)[0]
        for one, other in zip(single, together, strict=True):
            assert (one["text"], one["label"]) == (other["text"], other["label"])
            assert one["score"] == pytest.approx(other["score"], abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "normalizer", "settings"),
    [
        ("classifier", {"lowercase": False}, {"tokenizer_class": "DistilBertTokenizer"}),
        ("classifier", {}, {"tokenizer_class": "BertTokenizer", "do_lower_case": False}),
        ("classifier", {"strip_accents": False}, {"tokenizer_class": "DistilBertTokenizer", "strip_accents": True}),
        ("classifier", {}, {"mask_token": "film", "sep_token": "funny"}),
        ("language", None, {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}),
        ("language", None, {"add_bos_token": True}),
        ("language", None, {"pad_token": "the"}),
        ("language", None, {"model_max_length": 5, "truncation_side": "left"}),
    ],
)
def test_ids_are_the_librarys_whatever_the_settings_say(
    language: Path, classifier: Path, kind: str, normalizer: dict[str, Any] | None, settings: dict[str, Any]
) -> None:
    folder, task = (classifier, SENTIMENT) if kind == "classifier" else (language, GENERATION)
    file = json.loads((folder / "tokenizer.json").read_text())
    if normalizer:
        file["normalizer"] |= normalizer
    (folder / "tokenizer.json").write_text(json.dumps(file))
    edit(folder / "tokenizer_config.json", **settings)
    theirs, ours = load_model(task, str(folder)).tokenizer, read_tokenizer(folder, "x", 64)
    samples = ["GREAT film", "the naïve funny film", "fine"]
    for truncation in (False, True):
        assert ours(samples, truncation)["input_ids"] == theirs(samples, truncation=truncation)["input_ids"]
    assert ours.encode("GREAT film").ids == theirs("GREAT film", truncation=True)["input_ids"]


def test_the_bundled_tokenizers_need_no_library() -> None:
    for task in (SENTIMENT, GENERATION):
        assert isinstance(read_tokenizer(task.bundled, "x", 256), FileTokenizer)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_text_is_truncated_on_the_side_that_the_tokenizer_says(call: Call, classifier: Path, engine: str) -> None:
    edit(classifier / "tokenizer_config.json", truncation_side="left", model_max_length=12)
    answers, err = lines(call, sentiment_analysis, classifier, engine, "film " * 20 + "dull " * 10, "dull " * 10)
    assert err == "note: text 1 has 32 tokens; only the last 12 are used\n"
    assert answers[0]["score"] == pytest.approx(answers[1]["score"], abs=1e-5)


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("number", [torch.nan, -torch.inf])
def test_weights_that_are_no_numbers_are_refused(
    refused: Call, language: Path, classifier: Path, engine: str, number: float
) -> None:
    for script, folder in ((text_generation, language), (sentiment_analysis, classifier)):
        edit_weights(folder, lambda tensors: tensors[max(tensors)].view(-1)[:1].fill_(number))
        arguments = ("fine", "--model", str(folder), "--engine", engine, "--json")
        refused(script, arguments, str(folder), "they hold NaN or infinite numbers")


@pytest.mark.parametrize("engine", ENGINES)
def test_results_that_are_no_numbers_are_refused(refused: Call, language: Path, classifier: Path, engine: str) -> None:
    """Finite weights, so large that what is computed with them is not."""
    for script, folder in ((text_generation, language), (sentiment_analysis, classifier)):
        edit_weights(folder, lambda tensors: [tensor.fill_(3e38) for tensor in tensors.values()])
        refused(script, ("fine", "--model", str(folder), "--engine", engine), str(folder), "not finite")


@pytest.mark.parametrize("engine", ENGINES)
def test_other_tensors_are_ignored_with_the_same_note(
    call: Call, tiny_language: Path, language: Path, engine: str
) -> None:
    def add(tensors: dict[str, torch.Tensor]) -> None:
        tensors |= {"v_head.summary.bias": torch.zeros(1), "a\x1b[31mx": torch.zeros(2)}

    edit_weights(language, add)
    actual, err = texts(call, language, engine)
    assert actual == texts(call, tiny_language, engine)[0]
    note = "2 of its tensors belong to no part of the model and are ignored"
    assert err == rf"note: {language}: {note} (the first is a\x1b[31mx)" + "\n"


def test_an_output_projection_of_its_own_is_refused_and_a_copy_is_read(language: Path) -> None:
    expected = GPT2.from_pretrained(language).state_dict()
    edit_weights(language, lambda tensors: tensors.update({"lm_head.weight": tensors["transformer.wte.weight"] + 0}))
    for name, tensor in GPT2.from_pretrained(language).state_dict().items():
        assert torch.equal(tensor, expected[name])
    edit_weights(language, lambda tensors: tensors.pop("transformer.wte.weight"))
    assert torch.equal(GPT2.from_pretrained(language).token_embeddings.weight, expected["token_embeddings.weight"])
    edit_weights(language, lambda t: t.update({"transformer.wte.weight": t["lm_head.weight"].flip(0)}))
    with pytest.raises(UserError, match=r"lm_head\.weight is not wte\.weight"):
        GPT2.from_pretrained(language)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_engines_compute_in_float32_whatever_the_file_holds(
    call: Call, language: Path, tmp_path: Path, dtype: str
) -> None:
    edit_weights(language, lambda t: t.update({name: each.to(getattr(torch, dtype)) for name, each in t.items()}))
    edit(language / "config.json", dtype=dtype)
    assert call(text_generation, *PROMPTS, "--compare", "--temperature", "0", "--model", str(language)).status == 0
    checks = json.loads((tmp_path / "out/text_generation.json").read_text())["figures"]
    assert float(checks[0]["value"]) <= 1e-5
    assert checks[1]["value"] == "3 of 3"


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        *(("tokenizer_config.json", {"model_max_length": length}) for length in (0, -1, True, "64")),
        ("tokenizer_config.json", {"eos_token": 5}),
        ("tokenizer_config.json", {"tokenizer_class": 3}),
        ("special_tokens_map.json", {"eos_token": 5}),
        ("config.json", {"pad_token_id": "x"}),
        ("config.json", {"is_encoder_decoder": True}),
    ],
    ids=str,
)
def test_settings_of_the_wrong_kind_are_refused_in_the_same_line(
    refused: Call, language: Path, classifier: Path, file: str, changes: dict[str, Any]
) -> None:
    for script, folder in ((text_generation, language), (sentiment_analysis, classifier)):
        edit(folder / file, **changes)
        first, second = (
            refused(script, ("fine", "--model", str(folder), "--engine", engine), str(folder)) for engine in ENGINES
        )
        assert first == second


def test_tensors_are_found_with_and_without_the_models_prefix_but_not_twice(language: Path, classifier: Path) -> None:
    expected = DistilBertClassifier.from_pretrained(classifier).state_dict()
    edit_weights(classifier, lambda t: [t.update({name.removeprefix("distilbert."): t.pop(name)}) for name in list(t)])
    for name, tensor in DistilBertClassifier.from_pretrained(classifier).state_dict().items():
        assert torch.equal(tensor, expected[name])
    edit_weights(language, lambda tensors: tensors.update({"wte.weight": tensors["transformer.wte.weight"] + 1}))
    with pytest.raises(UserError, match=r"hold wte\.weight twice"):
        GPT2.from_pretrained(language)


def test_sizes_under_the_names_that_all_architectures_share_are_read(language: Path) -> None:
    settings = json.loads((language / "config.json").read_text())
    names = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"}
    renamed = {names.get(name, name): value for name, value in settings.items()}
    (language / "config.json").write_text(json.dumps({**renamed, "max_position_embeddings": 64, "n_positions": 7}))
    config = GPT2.from_pretrained(language).config
    assert (config.n_embd, config.n_layer, config.n_head, config.n_positions) == (16, 1, 2, 64)


# --- where a model is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("script", [text_generation, sentiment_analysis])
def test_a_path_that_is_not_utf_8_is_refused_by_its_cause(
    refused: Call, language: Path, classifier: Path, script: Any, engine: str
) -> None:
    folder = language if script is text_generation else classifier
    odd = os.fsdecode(os.fsencode(folder.parent) + b"/mod\xe8le")
    folder.rename(odd)
    refused(script, ("fine", "--model", odd, "--engine", engine), "not UTF-8 text", r"mod\udce8le")


def test_a_user_without_a_home_folder_gets_the_bundled_model(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(*_: Any, **__: Any) -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_home)
    assert "cannot be reached" in str(load_model(SENTIMENT).note)


@pytest.mark.parametrize("settings", [{}, {"eos_token_id": None}, {"eos_token_id": [1, 2]}, {"pad_token_id": 3}])
def test_settings_of_special_tokens_are_accepted(settings: dict[str, Any]) -> None:
    check_own_settings(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"bos_token_id": [1]},
        {"pad_token_id": [1]},
        {"eos_token_id": [1, "two"]},
        {"eos_token_id": True},
        {"bos_token_id": 1.0},
    ],
)
def test_other_special_tokens_are_refused(settings: dict[str, Any]) -> None:
    (role,) = settings
    with pytest.raises(UserError, match=f"^{role} in config.json is .*; it must be the number of a token$"):
        check_own_settings(settings)
