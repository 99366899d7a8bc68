"""Both engines give the same answers for models of any settings, or refuse them in the same line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

import sentiment_analysis
import text_generation
from engines import load_own
from lab.errors import UserError
from lab.launch import warn_once
from models.generation import Sampling
from models.hub import GENERATION, SENTIMENT, LoadedModel, Task, load_folder

TEXTS = [
    "a wonderful film",
    "GREAT Film, naïve 😀!",
    "the plot is dull and the acting is worse " * 3,
    "She said that the <|endoftext|> mouse",
    " of the [MASK] sea . He looked",
    "x",
]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
SCORE_DIFFERENCE = 1e-4

# Settings of the files; the first value of each is the usual one, which hypothesis prefers.
SIDES = ("right", "left")
TOKENIZER_SETTINGS: dict[str, list[Any]] = {
    "model_max_length": [64, None, 1e30, 20, 9],
    "padding_side": [*SIDES],
    "truncation_side": [*SIDES],
    "model_input_names": [["input_ids", "attention_mask"], ["input_ids"], ["input_ids", "token_type_ids"]],
    "clean_up_tokenization_spaces": [False, True],
    "add_prefix_space": [None, True, False],
    "add_bos_token": [None, True],
    "do_lower_case": [None, True, False],
    "strip_accents": [None, True, False],
    "split_special_tokens": [None, True],
    "max_length": [None, 12],
    "extra_special_tokens": [None, ["film"]],
}
MODEL_SETTINGS: dict[str, list[Any]] = {
    "return_dict": [None, False],
    "output_attentions": [None, True],
    "output_hidden_states": [None, True],
    "use_cache": [None, False],
    "prefix": [None, "Once upon"],
    "bos_token_id": [None, 0, 7],
    "pad_token_id": [None, 0, 3, 100_000],
    "num_beams": [None, 3],
    "repetition_penalty": [None, 1.8],
    "min_length": [None, 5],
    "max_length": [None, 7],
    "task_specific_params": [None, {"text-generation": {"do_sample": True, "max_length": 50, "prefix": "So"}}],
}
GENERATION_CONFIG: dict[str, list[Any]] = {
    "repetition_penalty": [None, 1.8],
    "encoder_repetition_penalty": [None, 1.8],
    "no_repeat_ngram_size": [None, 2],
    "encoder_no_repeat_ngram_size": [None, 2],
    "num_beams": [None, 4],
    "num_return_sequences": [None, 3],
    "min_new_tokens": [None, 6],
    "min_length": [None, 20],
    "max_length": [None, 3],
    "max_new_tokens": [None, 2],
    "temperature": [None, 0.1],
    "do_sample": [None, True, False],
    "top_k": [None, 2],
    "top_p": [None, 0.2],
    "min_p": [None, 0.5],
    "typical_p": [None, 0.3],
    "epsilon_cutoff": [None, 0.05],
    "eta_cutoff": [None, 0.05],
    "bad_words_ids": [None, [[263], [5]]],
    "suppress_tokens": [None, [263, 264]],
    "begin_suppress_tokens": [None, [263, 264]],
    "forced_bos_token_id": [None, 9],
    "forced_eos_token_id": [None, 9],
    "sequence_bias": [None, [[[263], 10.0]]],
    "length_penalty": [None, 2.0],
    "stop_strings": [None, ["e"]],
    "eos_token_id": [None, 0, 263, [0, 263, 264]],
    "pad_token_id": [None, 5, 100_000],
    "return_dict_in_generate": [None, True],
    "output_scores": [None, True],
    "guidance_scale": [None, 2.0],
    "renormalize_logits": [None, True],
    "made_up": [None, 1],
}
TOKENIZER_CLASSES = ["TokenizersBackend", None, "PreTrainedTokenizerFast"]


ALIASES = {
    **{"n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers"},
    **{"dim": "hidden_size", "n_heads": "num_attention_heads", "n_layers": "num_hidden_layers"},
}


def some(draw: Callable[..., Any], choices: dict[str, list[Any]], most: int) -> dict[str, Any]:
    """A few of the settings, those of None left out."""
    names = draw(st.lists(st.sampled_from(sorted(choices)), max_size=most, unique=True))
    chosen = {name: draw(st.sampled_from(choices[name])) for name in names}
    return {name: value for name, value in chosen.items() if value is not None}


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def edit_tokenizer(draw: Callable[..., Any], folder: Path, classes: list[str | None], special: list[Any]) -> None:
    """Change tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
    choices = {**TOKENIZER_SETTINGS, "eos_token": special, "pad_token": special, "mask_token": special}
    config = read(folder / "tokenizer_config.json") | {"tokenizer_class": draw(st.sampled_from(classes))}
    config |= some(draw, choices, 3)
    if draw(st.sampled_from([False, False, True])):  # a bare file, as the first releases have
        config = {"model_max_length": 64, "tokenizer_class": config["tokenizer_class"]}
    write(folder / "tokenizer_config.json", {name: value for name, value in config.items() if value is not None})
    if draw(st.sampled_from([False, False, False, True])):
        write(folder / "special_tokens_map.json", some(draw, {"eos_token": special, "pad_token": special}, 2))
    file = read(folder / "tokenizer.json")
    changes = {
        "truncation": [{"max_length": 5, "strategy": "LongestFirst", "stride": 0, "direction": "Left"}],
        "padding": [padding("<pad>", 0), padding("[PAD]", 1)],
        "normalizer": [None, {"type": "Lowercase"}, bert_normalizer(lowercase=False)],
        "post_processor": [None],
    }
    for name in draw(st.lists(st.sampled_from(sorted(changes)), max_size=1)):
        file[name] = draw(st.sampled_from(changes[name]))
    if draw(st.sampled_from([False, False, False, True])) and file["pre_tokenizer"]["type"] == "ByteLevel":
        file["pre_tokenizer"]["add_prefix_space"] = True
    write(folder / "tokenizer.json", file)


def padding(token: str, token_id: int) -> dict[str, Any]:
    fixed = {"pad_to_multiple_of": None, "pad_type_id": 0, "direction": "Left"}
    return {"strategy": {"Fixed": 30}, "pad_id": token_id, "pad_token": token, **fixed}


def bert_normalizer(lowercase: bool) -> dict[str, Any]:
    fixed = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None}
    return {"type": "BertNormalizer", "lowercase": lowercase, **fixed}


def edit_weights(draw: Callable[..., Any], folder: Path, dtype: torch.dtype, extra: list[str]) -> None:
    """Store the weights in another type and form, with other tensors, or with a number that is none."""
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    wrong = draw(st.sampled_from([None] * 12 + [torch.nan, torch.inf, -torch.inf]))
    if wrong is not None:
        name = draw(st.sampled_from(sorted(tensors)))
        tensors[name].view(-1)[0] = wrong
    for name in draw(st.lists(st.sampled_from(extra), max_size=2, unique=True)):
        copied = {"lm_head.weight": "transformer.wte.weight"}.get(name)
        tensors[name] = tensors[copied].clone() if copied else torch.zeros(3)
    form = draw(st.sampled_from(["safetensors", "shards", "bin"]))
    (folder / "model.safetensors").unlink()
    if form == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    elif form == "safetensors":
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    else:
        write_shards(folder, tensors)


def write_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    files: dict[str, str] = {}
    for number in (1, 2):
        names = sorted(tensors)[number - 1 :: 2]
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, folder / file, {"format": "pt"})
        files |= dict.fromkeys(names, file)
    write(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": files})


def rename_sizes(draw: Callable[..., Any], folder: Path) -> None:
    """Give the sizes of config.json the names that all architectures share."""
    if draw(st.sampled_from([False, False, False, True])):
        settings = read(folder / "config.json")
        write(folder / "config.json", {ALIASES.get(name, name): value for name, value in settings.items()})


def random_weights(model: Any, folder: Path) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3 + (1.0 if parameter.ndim == 1 else 0.0))
    model.save_pretrained(folder)


# --- text generation --------------------------------------------------------------------------------------------------


def make_language_model(draw: Callable[..., Any], source: Path, folder: Path) -> None:
    """Write a GPT-2 with random sizes, weights and settings."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder)
    torch.manual_seed(draw(st.integers(0, 1000)))
    width, heads = draw(st.sampled_from([(16, 2), (8, 1), (24, 4)]))
    config = transformers.GPT2Config(
        vocab_size=300 + draw(st.sampled_from([0, 5])),
        n_positions=64,
        n_embd=width,
        n_head=heads,
        n_layer=draw(st.sampled_from([1, 2])),
        n_inner=draw(st.sampled_from([None, 20])),
        activation_function=draw(st.sampled_from(["gelu_new", "gelu", "relu"])),
        layer_norm_epsilon=draw(st.sampled_from([1e-5, 1e-2])),
    )
    random_weights(transformers.GPT2LMHeadModel(config), folder)
    dtype = draw(st.sampled_from(sorted(DTYPES, reverse=True)))
    changed = {"dtype": dtype, "bos_token_id": 0, "eos_token_id": draw(st.sampled_from([0, None, 263, [0, 263]]))}
    write(folder / "config.json", read(folder / "config.json") | changed | some(draw, MODEL_SETTINGS, 2))
    rename_sizes(draw, folder)
    (folder / "generation_config.json").unlink()
    if draw(st.booleans()):
        write(folder / "generation_config.json", some(draw, GENERATION_CONFIG, 3))
    extra = ["lm_head.weight", "v_head.summary.bias", "transformer.h.0.attn.bias", "transformer.h.9.ln_1.bias"]
    edit_weights(draw, folder, DTYPES[dtype], extra)
    classes = [*TOKENIZER_CLASSES, "GPT2Tokenizer", "GPT2TokenizerFast"]
    edit_tokenizer(draw, folder, classes, ["<|endoftext|>", None, "Ġthe", "the", "<pad>", "!"])


def answer(task: Task, loader: Callable[..., LoadedModel], folder: Path, run: Callable[[LoadedModel], Any]) -> Any:
    """The answers of an engine, or the line in which it refuses."""
    warn_once.cache_clear()
    try:
        return run(loader(task, folder, "the model"))
    except UserError as error:
        return str(error)


def language_answers(load: Callable[..., LoadedModel], folder: Path, config: text_generation.Config) -> Any:
    def run(loaded: LoadedModel) -> Any:
        prompts = list(config.texts)
        text_generation.check_prompts(loaded, prompts, config.max_new_tokens)
        rows = text_generation.new_tokens(loaded, prompts, config)
        texts = [text_generation.decode(loaded, row) for row in rows]
        return loaded.tokenizer(prompts)["input_ids"], rows, texts, loaded.tokenizer.eos_token_id

    return answer(GENERATION, load, folder, run)


def language_models_agree(data: st.DataObject, source: Path, folder: Path) -> None:
    draw = data.draw
    make_language_model(draw, source, folder)
    sampling = Sampling(
        temperature=draw(st.sampled_from([0.0, 0.8, 1.3])),
        top_k=draw(st.sampled_from([None, 5])),
        top_p=draw(st.sampled_from([None, 0.7])),
        repetition_penalty=draw(st.sampled_from([None, None, 1.5])),
    )
    config = text_generation.Config(
        texts=tuple(draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4))),
        batch_size=draw(st.sampled_from([8, 1, 2])),
        max_new_tokens=draw(st.sampled_from([6, 1])),
        sampling=sampling,
        seed=draw(st.integers(0, 5)),
    )
    assert language_answers(load_own, folder, config) == language_answers(load_folder, folder, config)


# --- classification ---------------------------------------------------------------------------------------------------

CLASSES: list[dict[str, Any]] = [
    {"id2label": {"0": "NEGATIVE", "1": "POSITIVE"}},
    {"id2label": {"1": "POSITIVE", "0": "NEGATIVE"}},
    {"id2label": {"1": "NEGATIVE", "0": "POSITIVE"}, "num_labels": 2},
    {"id2label": {"2": "c", "0": "a", "1": "b"}, "label2id": {"a": 2, "b": 1, "c": 0}},
    {"id2label": None},
    {"id2label": None, "num_labels": 3},
    {"id2label": None, "label2id": {"bad": 0, "good": 1}},
    {"id2label": {"0": "5", "1": "\x1b[31mred"}},
    {"problem_type": "single_label_classification"},
    {"id2label": {"0": "a", "2": "b"}},
    {"id2label": {"1": "a", "2": "b"}},
    {"id2label": {"0": "a", "1": "b"}, "num_labels": 3},
    {"id2label": {"a": 0, "b": 1}},
    {"id2label": {"0": 0, "1": 1}},
    {"id2label": {"0": "good"}},
    {"id2label": ["a", "b"]},
    {"id2label": {}},
    {"problem_type": "multi_label_classification"},
    {"problem_type": "regression"},
    {"problem_type": "other"},
    {"num_labels": "two"},
]


def make_classifier(draw: Callable[..., Any], source: Path, folder: Path) -> None:
    """Write a DistilBERT classifier with random sizes, weights and settings."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder)
    torch.manual_seed(draw(st.integers(0, 1000)))
    width, heads = draw(st.sampled_from([(16, 2), (8, 1), (24, 4)]))
    classes = draw(st.sampled_from([*CLASSES[:9] * 3, *CLASSES]))
    names = classes.get("id2label")
    config = transformers.DistilBertConfig(
        vocab_size=len(read(folder / "tokenizer.json")["model"]["vocab"]) + draw(st.sampled_from([0, 5])),
        max_position_embeddings=64,
        dim=width,
        n_heads=heads,
        n_layers=draw(st.sampled_from([1, 2])),
        hidden_dim=20,
        activation=draw(st.sampled_from(["gelu", "relu"])),
        sinusoidal_pos_embds=draw(st.booleans()),
    )
    config.num_labels = len(names) if names else 3 if classes.get("num_labels") == 3 else 2
    random_weights(transformers.DistilBertForSequenceClassification(config), folder)
    dtype = draw(st.sampled_from(sorted(DTYPES, reverse=True)))
    changed = read(folder / "config.json") | {"dtype": dtype} | some(draw, MODEL_SETTINGS, 2) | classes
    write(folder / "config.json", {name: value for name, value in changed.items() if value is not None})
    rename_sizes(draw, folder)
    edit_weights(draw, folder, DTYPES[dtype], ["vocab_projector.bias", "distilbert.transformer.layer.7.x.weight"])
    tokenizers = [*TOKENIZER_CLASSES, "DistilBertTokenizer", "BertTokenizerFast"]
    edit_tokenizer(draw, folder, tokenizers, ["[PAD]", None, "film", "[SEP]", "<pad>", "[UNK]"])


def class_answers(load: Callable[..., LoadedModel], folder: Path, texts: list[str], batch_size: int) -> Any:
    def run(loaded: LoadedModel) -> Any:
        sentiment_analysis.check_texts(loaded, texts)
        answers = sentiment_analysis.classify(loaded, texts, batch_size)
        ids = loaded.tokenizer(texts, truncation=True)["input_ids"]
        return ids, [answer["label"] for answer in answers], [answer["score"] for answer in answers]

    return answer(SENTIMENT, load, folder, run)


def classifiers_agree(data: st.DataObject, source: Path, folder: Path) -> None:
    make_classifier(data.draw, source, folder)
    texts = data.draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=5))
    batch_size = data.draw(st.sampled_from([8, 1, 2]))
    ours, theirs = (class_answers(load, folder, texts, batch_size) for load in (load_own, load_folder))
    assert type(ours) is type(theirs), (ours, theirs)
    if isinstance(ours, str):
        assert ours == theirs
        return
    assert ours[:2] == theirs[:2]
    assert ours[2] == pytest.approx(theirs[2], abs=SCORE_DIFFERENCE)


# --- the properties ---------------------------------------------------------------------------------------------------

CHECKS = {"language": language_models_agree, "classifier": classifiers_agree}


def check_many(examples: int, check: Callable[..., None], source: Path, tmp_path: Path) -> None:
    numbers = iter(range(10**6))

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples < 100,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        phases=[Phase.generate, Phase.shrink],
    )
    @given(st.data())
    def agree(data: st.DataObject) -> None:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        try:
            check(data, source, folder)
        finally:
            shutil.rmtree(folder)

    agree()


@pytest.mark.parametrize("kind", CHECKS)
def test_engines_agree_on_any_model(kind: str, tiny_language: Path, tiny_classifier: Path, tmp_path: Path) -> None:
    check_many(40, CHECKS[kind], {"language": tiny_language, "classifier": tiny_classifier}[kind], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHECKS)
def test_engines_agree_on_many_models(kind: str, tiny_language: Path, tiny_classifier: Path, tmp_path: Path) -> None:
    check_many(300, CHECKS[kind], {"language": tiny_language, "classifier": tiny_classifier}[kind], tmp_path)
