"""The kernel of a linear layer is the fastest that works; it is measured once and remembered where that is possible."""

import gc
import json
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lab.cache import KERNELS, remembered
from lab.files import ROOT
from lab.launch import warn_once
from models.distilbert import DistilBertClassifier, DistilBertConfig
from models.gpt2 import GPT2, GPT2Config
from speed import PRECISIONS, accelerate, choice, kernels, linear_layers
from speed.choice import choose, chosen_names, fastest, fastest_on_gpu, linear_factory
from speed.linear_layers import LayerFactory, PlainLinear, layers_of
from speed.quantization import quantize

CPU = torch.zeros(())
SIZES = {(16, 8), (8, 16)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and notes that were not printed yet."""
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    warn_once.cache_clear()
    return tmp_path / "cache" / "kernels.json"


class SlowLinear(PlainLinear):
    """A layer that takes a millisecond more."""

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.001)
        return super().forward(x)


class WrongLinear(PlainLinear):
    """A layer that is fast and wrong."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(*x.shape[:-1], len(self.weight))


class NanLinear(WrongLinear):
    """A layer whose output is not a number."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 0


class FailingLinear(PlainLinear):
    """A layer that this processor cannot compute."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("needs avx512_fp16")


def unavailable(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Refuse the size, as `SplitLinear` does."""
    raise ValueError("not for this size")


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave TorchScript out: it compiles neither a sleep nor an error."""
    monkeypatch.setattr(choice, "scripted", lambda layer, device: layer)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("other", [WrongLinear, NanLinear, FailingLinear, unavailable])
@pytest.mark.parametrize("rows", [1, 8])
def test_the_fastest_kernel_that_works_is_taken(other: LayerFactory, rows: int) -> None:
    layers: dict[str, LayerFactory] = {"slow": SlowLinear, "other": other, "fast": PlainLinear}
    assert fastest(layers, SIZES, rows) == dict.fromkeys(SIZES, "fast")
    del layers["fast"]
    assert fastest(layers, SIZES, rows) == dict.fromkeys(SIZES, "slow")


@pytest.mark.usefixtures("uncompiled")
def test_each_size_has_its_own_kernel() -> None:
    def slow_if_wide(weight: Tensor, bias: Tensor | None) -> nn.Module:
        return (SlowLinear if weight.shape[1] == 16 else PlainLinear)(weight, bias)

    def slow_if_narrow(weight: Tensor, bias: Tensor | None) -> nn.Module:
        return (SlowLinear if weight.shape[1] == 8 else PlainLinear)(weight, bias)

    assert fastest({"a": slow_if_wide, "b": slow_if_narrow}, SIZES, 4) == {(16, 8): "a", (8, 16): "b"}


@pytest.mark.usefixtures("uncompiled")
def test_a_lower_precision_is_never_slower_than_float32(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(choice, "layers_of", lambda *_: {"plain": SlowLinear, "float32 plain": PlainLinear})
    names = choose("int8", SIZES, 8, CPU)
    assert names == dict.fromkeys(SIZES, "float32 plain")
    assert type(linear_factory("int8", names, CPU)(nn.Linear(8, 16))) is PlainLinear
    assert capsys.readouterr().err == (
        "note: int8 is not faster than float32 here for weights of 16x8, 8x16: there, float32 products "
        "with rounded weights are used\n"
    )
    monkeypatch.setattr(choice, "layers_of", lambda *_: {"plain": PlainLinear, "float32 plain": SlowLinear})
    assert choose("float16", SIZES, 8, CPU) == dict.fromkeys(SIZES, "plain")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("other", [SlowLinear, FailingLinear])
def test_on_a_gpu_one_kind_of_layer_is_chosen_for_all_sizes(other: LayerFactory) -> None:
    def slow_if_wide(weight: Tensor, bias: Tensor | None) -> nn.Module:
        return (other if weight.shape[1] == 16 else PlainLinear)(weight, bias)

    for names in (("other", "plain"), ("plain", "other")):
        layers = {name: slow_if_wide if name == "other" else PlainLinear for name in names}
        assert fastest_on_gpu(layers, SIZES, 4, CPU.device) == "plain"


def test_on_a_gpu_a_new_size_is_measured_together_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the layers of a model are of one kind."""
    monkeypatch.setattr(choice, "uses_graphs", lambda device: True)
    layers: dict[str, LayerFactory] = {"first": PlainLinear, "second": PlainLinear}
    measured: list[set[tuple[int, int]]] = []

    def fastest_kind(layers: object, sizes: set[tuple[int, int]], *_: object) -> str:
        measured.append(set(sizes))
        return ("first", "second")[len(measured) - 1]

    monkeypatch.setattr(choice, "fastest_on_gpu", fastest_kind)
    assert chosen_names(layers, "float16", {(16, 8)}, 1) == {(16, 8): "first"}
    assert chosen_names(layers, "float16", SIZES, 1) == dict.fromkeys(SIZES, "second")
    assert measured == [{(16, 8)}, SIZES]


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_layers_for_gpus_have_rounded_weights(precision: str) -> None:
    """Their outputs for the unit vectors: the weights in the precision, and then in the type of the layer."""
    weight = torch.randn(6, 8)
    if precision == "int8":
        q_weight, scale = quantize(weight)
        rounded = q_weight * scale[:, None]  # (O, I) * (O, 1) -> (O, I)
    else:
        rounded = weight.to(getattr(torch, precision)).float()
    for name, make in linear_layers.gpu_layers(precision).items():
        weights = make(weight, None)(torch.eye(8)).t()  # (I, O) -> (O, I)
        expected = rounded.bfloat16().float() if name == "bfloat16 plain" else rounded
        torch.testing.assert_close(weights.float(), expected, rtol=1e-6, atol=0, msg=name)
        assert not torch.equal(expected, weight)


def test_what_a_graph_reads_exists_while_it_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph has addresses only: freed memory is soon that of another tensor, or of nobody."""
    read: list[weakref.ref[nn.Module]] = []

    def capture(compute: Any, device: torch.device) -> Callable[[], Tensor]:
        read.extend(weakref.ref(layer) for layer, _ in compute.args[0])
        result = compute()

        def replay() -> Tensor:
            gc.collect()
            assert all(layer() is not None for layer in read)
            return result

        return replay

    monkeypatch.setattr(choice, "capture", capture)
    fastest_on_gpu({"first": PlainLinear, "second": PlainLinear}, SIZES, 4, CPU.device)
    assert len(read) == 4


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_layers_for_gpus_are_measured_remembered_and_said(
    precision: str, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (linear_layers, choice):
        monkeypatch.setattr(module, "uses_graphs", lambda device: True)
    names = choose(precision, SIZES, 1, CPU)
    (name,) = set(names.values())
    assert name in layers_of(precision, CPU, 1)
    assert {*names} == SIZES
    other = name.split()[0]
    assert (f"{precision} is not faster than {other}" in capsys.readouterr().err) == (other in PRECISIONS)
    monkeypatch.setattr(choice, "fastest_on_gpu", None)  # it is not asked again
    assert choose(precision, SIZES, 1, CPU) == names
    assert list(layers_of("float32", CPU, 1)) == ["plain"]


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_float32_products_have_the_rounded_weights(precision: str) -> None:
    weight, x = torch.randn(96, 128), torch.randn(16, 128)  # large, so that the error hardly depends on the numbers
    layers = layers_of(precision, CPU, 8)
    exact, rounded = layers_of("float32", CPU, 8)["plain"](weight, None)(x), layers["float32 plain"](weight, None)(x)
    limit = {"float16": 5e-4, "bfloat16": 4e-3, "int8": 1e-2}[precision]
    assert 0 < (rounded - exact).norm() / exact.norm() < limit


def test_bfloat16_keeps_weights_beyond_the_range_of_float16() -> None:
    weight, x = torch.full((4, 8), 1e6), torch.ones(2, 8)
    for name, make in layers_of("bfloat16", CPU, 8).items():
        torch.testing.assert_close(make(weight, None)(x), torch.full((2, 4), 8e6), rtol=1e-2, atol=0, msg=name)


@pytest.mark.parametrize("size", [1e-2, 1e-7, 1e-9, 1e-30])
def test_bfloat16_keeps_small_weights(size: float) -> None:
    weight, x = size * torch.randn(64, 96), torch.randn(4, 96)
    for make in layers_of("bfloat16", CPU, 8).values():
        error = (make(weight, None)(x) - x @ weight.T) / size
        assert error.norm() < 0.01 * (x @ (weight / size).T).norm()


def test_a_remembered_kernel_that_does_not_work_is_replaced() -> None:
    names = choose("float32", SIZES, 1, CPU)
    layers = linear_factory("float32", dict.fromkeys(names, "split"), CPU)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)  # does not divide 8 or 16 inputs
        made = layers(plain := nn.Linear(8, 16))
    finally:
        torch.set_num_threads(threads)
    assert type(made) is PlainLinear
    x = torch.randn(2, 8)
    assert torch.equal(made(x), plain(x))


def test_choices_do_not_depend_on_the_default_type(monkeypatch: pytest.MonkeyPatch) -> None:
    types: set[torch.dtype] = set()

    class WatchedLinear(PlainLinear):
        def forward(self, x: Tensor) -> Tensor:
            types.update({x.dtype, self.weight.dtype})
            return super().forward(x)

    monkeypatch.setattr(choice, "scripted", lambda layer, device: layer)
    torch.set_default_dtype(torch.float64)
    try:
        fastest({"plain": WatchedLinear}, SIZES, 8)
        fastest_on_gpu({"plain": WatchedLinear}, SIZES, 8, CPU.device)
    finally:
        torch.set_default_dtype(torch.float32)
    assert types == {torch.float32}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_measuring_leaves_the_callers_random_numbers_alone(precision: str) -> None:
    model = small_gpt2()
    state = torch.get_rng_state()
    accelerate(model, precision)
    assert remembered(KERNELS)
    assert torch.equal(torch.get_rng_state(), state)


def not_measured(*_: object) -> dict[tuple[int, int], str]:
    raise AssertionError("measured again")


def test_choices_are_measured_once_for_each_processor_precision_and_number_of_rows(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = layers_of("float32", CPU, 1)
    first = chosen_names(layers, "float32", SIZES, 1)
    assert set(first) == SIZES
    monkeypatch.setattr(choice, "fastest", not_measured)
    assert chosen_names(layers, "float32", SIZES, 1) == first
    for change in (
        lambda: chosen_names(layers, "float32", {(4, 4)}, 1),
        lambda: chosen_names(layers, "int8", SIZES, 1),
        lambda: chosen_names(layers, "float32", SIZES, 8),
    ):
        with pytest.raises(AssertionError, match="measured again"):
            change()
    with monkeypatch.context() as patch:
        patch.setattr(choice, "processor", lambda: "another processor")
        with pytest.raises(AssertionError, match="measured again"):
            chosen_names(layers, "float32", SIZES, 1)
        patch.setattr(choice, "fastest", lambda layers, sizes, rows: dict.fromkeys(sizes, "plain"))
        chosen_names(layers, "float32", SIZES, 1)
    assert len(json.loads(cache.read_text())) == 2
    assert chosen_names(layers, "float32", SIZES, 1) == first
    with pytest.raises(AssertionError, match="measured again"):  # a kernel that this build no longer has
        chosen_names({"new": PlainLinear}, "float32", SIZES, 1)


def test_choices_among_other_kernels_are_forgotten() -> None:
    for layers in ({"plain": PlainLinear}, {"plain": PlainLinear, "new": PlainLinear}):
        for rows in (1, 16, 1):
            chosen_names(layers, "float32", SIZES, rows)
            assert sum(f"rows {rows}, among plain" in key for key in remembered(KERNELS)) == 1
    assert len(remembered(KERNELS)) == 2
    assert all("among plain, new" in key for key in remembered(KERNELS))


@pytest.mark.parametrize("contents", ["", "{", "[1, 2]", '{"a": 3}', "\0\0", '{"a": {"16x8": 5}}', None], ids=repr)
def test_a_damaged_file_is_measured_anew_and_replaced(
    contents: str | None, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = chosen_names(layers_of("float32", CPU, 8), "float32", SIZES, 8)
    key = next(iter(remembered(KERNELS)))
    damaged = contents if contents is not None else json.dumps({key: {"16x8": ["split"], "8x16": None}})
    cache.write_bytes(damaged.replace('"a"', json.dumps(key)).encode())
    assert set(chosen_names(layers_of("float32", CPU, 8), "float32", SIZES, 8)) == set(names)
    assert set(remembered(KERNELS)[key]) == {"16x8", "8x16"}
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("obstacle", ["file", "folder", "no home"])
def test_without_a_folder_to_write_to_it_measures_and_says_nothing(
    obstacle: str, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if obstacle == "file":
        cache.parent.write_text("in the way")
    elif obstacle == "folder":
        cache.mkdir(parents=True)
    else:
        monkeypatch.delenv("LAB_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home folder")))
    for _ in range(2):
        assert set(chosen_names(layers_of("float32", CPU, 8), "float32", SIZES, 8)) == SIZES
    assert remembered(KERNELS) == {}
    assert capsys.readouterr() == ("", "")


REMEMBER = """
import sys
sys.path[:0] = [{project!r}, {root!r}]
from lab.cache import remember, remembered
for number in range(200):
    remember("kernels", sys.argv[1], {{str(number): "plain"}}, replaces=sys.argv[1])
    assert remembered("kernels") != {{}}
"""


def test_two_processes_at_once_leave_a_valid_file() -> None:
    program = REMEMBER.format(project=str(ROOT / "02_transformer_basics"), root=str(ROOT))
    running = [subprocess.Popen([sys.executable, "-c", program, name]) for name in ("first", "second")]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert set(remembered(KERNELS)) <= {"first", "second"}
    assert {"199": "plain"} in remembered(KERNELS).values()


def small_gpt2() -> GPT2:
    return GPT2(GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2)).eval()


@pytest.mark.parametrize("same", [True, False])
def test_one_text_and_several_have_their_own_layers_where_their_kernels_differ(
    same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for_several = "plain" if same or not kernels.has_reordered() else "onednn for 8"
    names = {1: "plain", 8: for_several}
    monkeypatch.setattr(choice, "fastest", lambda layers, sizes, rows: dict.fromkeys(sizes, names[rows]))
    plain = small_gpt2()
    model = accelerate(plain)
    one, three = torch.tensor([[1, 2, 3]]), torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    heads: list[object] = []
    for ids in (one, three, one, three):
        torch.testing.assert_close(model(ids), plain(ids))
        heads.append(model.lm_head)
    assert (heads[0], heads[1]) == (heads[2], heads[3])
    assert (heads[0] is heads[1]) == (names[1] == names[8])
    weight = weakref.ref(plain.blocks[0].ff_in.weight)
    del plain
    gc.collect()
    assert (weight() is None) == (names[1] == names[8])  # the plain blocks are kept only for layers still to be made


@pytest.mark.parametrize(
    "make",
    [
        small_gpt2,
        lambda: DistilBertClassifier(DistilBertConfig(50, 16, dim=16, n_heads=2, n_layers=1, hidden_dim=24)),
    ],
)
def test_only_float32_models_have_other_kernels_than_pytorchs(make: Callable[[], GPT2], cache: Path) -> None:
    plain = make().double().eval()
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(accelerate(plain)(ids), plain(ids))
    assert list(layers_of("int8", torch.zeros((), device="meta"), 1)) == ["plain"]
    assert not cache.exists()
