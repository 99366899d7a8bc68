"""Checkpoints are read as data, in every form of the layout, or refused in one line; code in them never runs."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel

from lab.errors import UserError
from models.distilbert import DistilBertClassifier, DistilBertConfig
from models.gpt2 import GPT2, GPT2Config

MODELS = {"language": GPT2, "classifier": DistilBertClassifier}


@pytest.fixture(params=MODELS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(kind: str, tiny_language: Path, tiny_classifier: Path, tmp_path: Path) -> Path:
    """A copy of a tiny model that a test may damage."""
    copy = tmp_path / "model"
    shutil.copytree({"language": tiny_language, "classifier": tiny_classifier}[kind], copy)
    return copy


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def as_pickle(folder: Path) -> None:
    torch.save(weights(folder), folder / "pytorch_model.bin")


def in_shards(folder: Path, save: Callable[..., Any], stem: str, suffix: str) -> None:
    tensors, where = weights(folder), {}
    for number, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2]), 1):
        file = f"{stem}-0000{number}-of-00002.{suffix}"
        save({name: tensors[name] for name in names}, folder / file)
        where |= dict.fromkeys(names, file)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def safetensors_shards(folder: Path) -> None:
    in_shards(folder, save_file, "model", "safetensors")


def pickle_shards(folder: Path) -> None:
    in_shards(folder, torch.save, "pytorch_model", "bin")


@pytest.mark.parametrize("write", [as_pickle, safetensors_shards, pickle_shards])
def test_every_form_of_the_layout_gives_the_same_model(folder: Path, kind: str, write: Callable[[Path], None]) -> None:
    expected = MODELS[kind].from_pretrained(folder).state_dict()
    write(folder)
    (folder / "model.safetensors").unlink()
    loaded = MODELS[kind].from_pretrained(folder)
    assert not loaded.training
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_names_without_the_prefix_and_the_masks_of_old_releases_are_read(tiny_language: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_language, folder)
    expected = GPT2.from_pretrained(folder).state_dict()
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in weights(folder).items()}
    tensors |= {"h.0.attn.bias": torch.ones(1, 1, 64, 64).tril(), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    tensors["lm_head.weight"] = tensors["wte.weight"].clone()
    save_file(tensors, folder / "model.safetensors")
    loaded = GPT2.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.items())


def test_16_bit_files_are_read_as_float32(folder: Path, kind: str) -> None:
    save_file({name: tensor.half() for name, tensor in weights(folder).items()}, folder / "model.safetensors")
    assert {tensor.dtype for tensor in MODELS[kind].from_pretrained(folder).state_dict().values()} == {torch.float32}


def test_a_name_that_is_cached_is_found(hub_cache: Path, tiny_language: Path) -> None:
    snapshot = hub_cache / "models--nobody--tiny/snapshots/0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(tiny_language, snapshot)
    (hub_cache / "models--nobody--tiny/refs").mkdir()
    (hub_cache / "models--nobody--tiny/refs/main").write_text(snapshot.name)
    assert GPT2.from_pretrained("nobody/tiny").config.n_embd == 16


# ------------------------------------------------------------------------------------------------------------ bad files


class Exploit:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.proof),))


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = weights(folder)
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def drop_one(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.pop(min(tensors)))


def transposed(folder: Path) -> None:
    def transpose(tensors: dict[str, torch.Tensor]) -> None:
        name = next(name for name in tensors if name.endswith(("wpe.weight", "position_embeddings.weight")))
        tensors[name] = tensors[name].t().contiguous()

    edit_weights(folder, transpose)


def integers(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update({name: t.to(torch.int8) for name, t in tensors.items()}))


def truncate(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def damaged_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ')


def list_as_config(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def no_shard(folder: Path) -> None:
    safetensors_shards(folder)
    no_weights(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def shard_elsewhere(folder: Path) -> None:
    no_weights(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../model.safetensors"}}')


def empty_index(folder: Path) -> None:
    no_weights(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')


def pickled_list(folder: Path) -> None:
    no_weights(folder)
    torch.save([torch.zeros(2)], folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_config, "no config.json in it"),
        (no_weights, "no weights in it"),
        (damaged_config, "config.json is damaged"),
        (list_as_config, "holds no settings"),
        (truncate, "model.safetensors is damaged"),
        (drop_one, "its weights lack"),
        (
            transposed,
            r"weights for position_embeddings.weight are torch.float32 \(16, (64|256)\), not \((64|256), 16\)",
        ),
        (integers, "torch.int8"),
        (no_shard, "model-00002-of-00002.safetensors, which its index lists, is missing"),
        (shard_elsewhere, "must name files next to it"),
        (empty_index, "must name files next to it"),
        (pickled_list, "something other than named tensors"),
        (lambda folder: edit_config(folder, model_type="bert"), "a model of type 'bert'"),
        (lambda folder: edit_config(folder, vocab_size="many"), "vocab_size in config.json is 'many'"),
        (lambda folder: edit_config(folder, vocab_size=True), "vocab_size in config.json is True"),
        (lambda folder: edit_config(folder, vocab_size=0), "it must be at least 1"),
        (lambda folder: edit_config(folder, n_embd=20, dim=20), "weights for"),
        (lambda folder: edit_config(folder, n_head=3, n_heads=3), "must be a multiple"),
        (lambda folder: edit_config(folder, n_layer=2, n_layers=2), "its weights lack"),
        (lambda folder: edit_config(folder, activation_function="silu", activation="silu"), "activation"),
    ],
)
def test_a_damaged_model_is_refused(folder: Path, kind: str, damage: Callable[[Path], None], words: str) -> None:
    MODELS[kind].from_pretrained(folder)
    damage(folder)
    with pytest.raises(UserError, match=words) as caught:
        MODELS[kind].from_pretrained(folder)
    assert str(caught.value).startswith(f"{folder}: ")
    assert "\n" not in str(caught.value)


def test_a_pickle_with_code_is_refused_and_not_run(folder: Path, kind: str, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Exploit(tmp_path / "exploited")}, protocol=2))
    with pytest.raises(UserError, match="damaged or holds more than tensors"):
        MODELS[kind].from_pretrained(folder)
    assert not (tmp_path / "exploited").exists()


def test_models_are_not_taken_for_each_other(tiny_language: Path, tiny_classifier: Path) -> None:
    with pytest.raises(UserError, match="a model of type 'distilbert', where 'gpt2' is expected"):
        GPT2.from_pretrained(tiny_classifier)
    with pytest.raises(UserError, match="a model of type 'gpt2', where 'distilbert' is expected"):
        DistilBertClassifier.from_pretrained(tiny_language)


def test_names_that_are_nowhere_and_files_are_refused(hub_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for name, words in (("nobody/nothing", "no such folder"), (str(tmp_path / "file"), "not a folder")):
        with pytest.raises(UserError, match=words):
            GPT2.from_pretrained(name)


@pytest.mark.parametrize("flag", ["scale_attn_by_inverse_layer_idx", "add_cross_attention"])
def test_variants_that_would_compute_something_else_are_refused(tiny_language: Path, tmp_path: Path, flag: str) -> None:
    shutil.copytree(tiny_language, tmp_path / "model")
    edit_config(tmp_path / "model", **{flag: True})
    with pytest.raises(UserError, match="attention that GPT-2 as published does not have"):
        GPT2.from_pretrained(tmp_path / "model")


def test_training_checkpoints_with_former_module_names_load() -> None:
    """Also inside another module, as in the average of a model's weights."""
    small = DistilBertConfig(vocab_size=20, max_position_embeddings=8, dim=8, n_heads=2, n_layers=1, hidden_dim=8)
    models = (GPT2(GPT2Config(20, 8, 8, 1, 2)), DistilBertClassifier(small))
    former = {"token_embeddings": "tokens", "word_embeddings": "words", "position_embeddings": "positions"}
    former["pre_classifier"] = "hidden"
    for model in models:
        for module in (model, AveragedModel(model)):
            expected = {name: torch.randn_like(tensor.float()) for name, tensor in module.state_dict().items()}
            old = {}
            for name, tensor in expected.items():
                parts = [former.get(part, part) for part in name.split(".")]
                old[".".join(parts)] = tensor
            assert old.keys() != expected.keys()
            module.load_state_dict(old)
            for name, tensor in module.state_dict().items():
                torch.testing.assert_close(tensor.float(), expected[name].to(tensor.dtype).float())
