"""Generation with a static cache gives the plain model's tokens; what a CUDA graph would record can be replayed."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import speed.accelerated
import speed.choice
import speed.cuda_graph
import speed.linear_layers
from lab.errors import UserError
from models.batching import pad_left
from models.generation import Sampling, generate, stream
from models.gpt2 import GPT2, GPT2Config
from speed import accelerate
from speed.cuda_graph import MAX_FREE_STEPS, SLOT_MULTIPLE, StaticCache, StaticStep, attend, block_step

V, CONTEXT = 61, 24
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def _static_cache_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed.accelerated, "uses_graphs", lambda device: True)


def a_model(seed: int = 0, layers: int = 2, context: int = CONTEXT, heads: int = 2) -> GPT2:
    """A model with weights so large that its tokens differ."""
    torch.manual_seed(seed)
    model = GPT2(GPT2Config(V, context, 12 * heads, layers, heads)).eval()
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.3)
    nn.init.normal_(model.position_embeddings.weight, std=1.5)  # else it repeats one token
    return model


def prompts(*lengths: int, seed: int = 1) -> tuple[Tensor, Tensor | None]:
    torch.manual_seed(seed)
    return pad_left([torch.randint(V, (length,)).tolist() for length in lengths])


def static_steps(model: Any) -> list[StaticStep]:
    return model.static_steps.steps


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[StaticStep]:
    """The static steps that were computed, in order."""
    steps: list[StaticStep] = []
    compute = StaticStep.compute
    monkeypatch.setattr(StaticStep, "compute", lambda step: steps.append(step) or compute(step))
    return steps


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 3),
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
    st.integers(1, 40),
)
def test_tokens_are_those_of_the_plain_path(seed: int, layers: int, lengths: list[int], new_tokens: int) -> None:
    """One prompt or several with padding, and windows that slide one time or more."""
    plain = a_model(seed, layers)
    input_ids, mask = prompts(*lengths, seed=seed)
    options: Any = {"max_new_tokens": new_tokens, "slide": True}
    expected = generate(plain, input_ids, mask, **options)
    assert generate(accelerate(plain), input_ids, mask, **options).tolist() == expected.tolist()


@pytest.mark.parametrize("lengths", [(5,), (7, 2, 1)], ids=str)
def test_every_new_position_is_a_static_step(lengths: tuple[int, ...], computed: list[StaticStep]) -> None:
    plain = a_model(context=200)
    input_ids, mask = prompts(*lengths)
    expected = generate(plain, input_ids, mask, max_new_tokens=150)
    assert generate(accelerate(plain), input_ids, mask, max_new_tokens=150).tolist() == expected.tolist()
    assert len(computed) == 149
    assert len(set(expected[0].tolist())) > 15  # the tokens differ enough for faults to show


def test_sampled_tokens_are_those_of_the_plain_path() -> None:
    plain = a_model()
    sampling = Sampling(temperature=0.8, top_k=20, top_p=0.95, repetition_penalty=1.1)
    tokens = [
        generate(
            model, *prompts(6, 3), max_new_tokens=15, sampling=sampling, generator=torch.Generator().manual_seed(0)
        )
        for model in (plain, accelerate(plain))
    ]
    assert tokens[0].tolist() == tokens[1].tolist()


@pytest.mark.parametrize(
    ("precision", "limit"), [("float32", 1e-5), ("float16", 1e-2), ("bfloat16", 0.06), ("int8", 0.06)]
)
def test_logits_in_every_precision(precision: str, limit: float, computed: list[StaticStep]) -> None:
    """Close to the plain model's in float32; a step reads the cache that the ordinary path wrote, and the reverse."""
    plain = a_model(context=40)
    input_ids, mask = prompts(30, 11)
    assert mask is not None
    model = accelerate(plain, precision)
    with torch.no_grad():
        expected = plain(input_ids, mask)
    cache, outputs, start = model.new_cache(2, 30), [], 0
    for length in (20, 1, 1, 1, 4, 1, 1, 1):
        end = start + length
        outputs.append(model(input_ids[:, start:end], mask[:, :end], cache))
        start = end
    actual = torch.cat(outputs, dim=1)
    assert len(computed) == 6
    error = (actual - expected)[mask.bool()].norm() / expected[mask.bool()].norm()
    assert error < limit


@pytest.fixture
def layers_for_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return a function that makes accelerated models have the layers for GPUs, of the kind with this name."""

    def choose(kind: str) -> None:
        monkeypatch.setenv("LAB_CACHE", str(tmp_path / kind))
        monkeypatch.setattr(speed.linear_layers, "uses_graphs", lambda device: True)
        monkeypatch.setattr(speed.choice, "uses_graphs", lambda device: True)
        monkeypatch.setattr(speed.choice, "fastest_on_gpu", lambda *_: kind)

    return choose


@pytest.mark.parametrize(
    ("precision", "kind", "limit", "dtype"),
    [
        ("float32", "plain", 1e-5, torch.float32),
        ("float16", "plain", 1e-2, torch.float16),
        ("bfloat16", "plain", 0.06, torch.bfloat16),
        ("bfloat16", "float32 plain", 0.03, torch.float32),
        ("int8", "plain", 0.06, torch.float32),
        ("int8", "bfloat16 plain", 0.08, torch.bfloat16),
    ],
)
def test_layers_for_gpus(
    precision: str, kind: str, limit: float, dtype: torch.dtype, layers_for_gpus: Callable[[str], None]
) -> None:
    """The cache has the type of the layers; a step reads what the ordinary path wrote, and the reverse."""
    plain = a_model(context=40)
    layers_for_gpus(kind)
    model = accelerate(plain, precision)
    input_ids, mask = prompts(30, 11)
    assert mask is not None
    with torch.no_grad():
        expected = plain(input_ids, mask)
        cache, outputs = model.new_cache(2, 30), []
        assert cache[0].buffer.dtype == dtype
        for start, end in ((0, 20), (20, 21), (21, 25), (25, 26), (26, 30)):
            outputs.append(model(input_ids[:, start:end], mask[:, :end], cache))
        actual = torch.cat(outputs, dim=1)
        assert {logits.dtype for logits in (*outputs, model(input_ids, mask))} == {torch.float32}
    for logits in (actual, model(input_ids, mask)):
        assert 0 < (logits - expected)[mask.bool()].norm() / expected[mask.bool()].norm() < limit


def test_one_text_and_several_may_have_layers_of_two_types(layers_for_gpus: Callable[[str], None]) -> None:
    """In turns: each generation has the cache and the layers of its own type."""
    plain = a_model()
    layers_for_gpus("")
    kinds = {1: "float32 plain", 8: "plain"}
    speed.choice.fastest_on_gpu = lambda layers, sizes, rows, device: kinds[rows]  # the fixture restores it
    model = accelerate(plain, "bfloat16")
    inputs = [prompts(9, seed=1), prompts(5, 6, seed=2)]
    alone = [generate(model, *each, max_new_tokens=12).tolist() for each in inputs]
    streams = [stream(model, *each, max_new_tokens=12) for each in inputs]
    turns = [torch.stack(each, dim=1) for each in zip(*zip(*streams, strict=True), strict=True)]
    for tokens, (input_ids, _), expected in zip(turns, inputs, alone, strict=True):
        assert torch.cat([input_ids, tokens], dim=1).tolist() == expected
    assert {step.sizes[0]: step.buffers.dtype for step in static_steps(model)} == {1: torch.float32, 2: torch.bfloat16}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_of_one_query(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 without the fused kernel, which takes three times as long on a GPU."""
    torch.manual_seed(0)
    query, keys, values = torch.randn(2, 3, 1, 8), torch.randn(2, 3, 20, 8), torch.randn(2, 3, 20, 8)
    bias = torch.zeros(2, 1, 1, 20).masked_fill(torch.rand(2, 1, 1, 20) < 0.5, -torch.inf)
    expected = nn.functional.scaled_dot_product_attention(query, keys, values, bias)
    fused = mock.Mock(wraps=nn.functional.scaled_dot_product_attention)
    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", fused)
    actual = attend(*(each.to(dtype) for each in (query, keys, values, bias)))
    assert fused.called == (dtype != torch.float32)
    limit = 1e-5 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(actual.float(), expected, rtol=limit, atol=limit)


def test_a_position_that_sees_only_padding_is_that_of_the_plain_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first position on, each a step; padding comes first, so that there is nothing to attend to.

    A slot is visible all the same: the attention of some kernels is NaN without one.
    """
    biases: list[Tensor] = []

    def recorded(block: Any, x: Tensor, bias: Tensor, *more: Tensor) -> Tensor:
        biases.append(bias)
        return block_step(block, x, bias, *more)

    monkeypatch.setattr(speed.cuda_graph, "block_step", recorded)
    plain = a_model()
    input_ids, mask = prompts(8, 3)
    assert mask is not None
    model = accelerate(plain)
    cache = model.new_cache(2, 8)
    with torch.no_grad():
        outputs = [model(input_ids[:, t : t + 1], mask[:, : t + 1], cache) for t in range(8)]
        torch.testing.assert_close(torch.cat(outputs, dim=1), plain(input_ids, mask))
    assert len(biases) == 8 * len(plain.blocks)
    assert all((bias == 0).any(dim=-1).all() for bias in biases)


def test_padding_of_an_earlier_batch_is_forgotten() -> None:
    plain = a_model()
    model = accelerate(plain)
    input_ids = torch.tensor([[5, 6, 7]])
    for mask in (torch.tensor([[0, 0, 1]]), None, torch.tensor([[0, 1, 1]]), None):
        cache = model.new_cache(1, 8)
        masks = [None if mask is None else mask[:, :end] for end in (1, 2, 3)]
        outputs = [model(input_ids[:, t : t + 1], masks[t], cache) for t in range(3)]
        with torch.no_grad():
            torch.testing.assert_close(outputs[-1], plain(input_ids, mask)[:, -1:])
        del cache
    assert len(static_steps(model)) == 1


# --- several caches ---------------------------------------------------------------------------------------------------


def test_two_generations_in_turn() -> None:
    plain = a_model()
    model = accelerate(plain)
    inputs = [prompts(9, 4, seed=1), prompts(5, 6, seed=2)]
    streams = [stream(model, *each, max_new_tokens=12) for each in inputs]
    tokens = [torch.stack(each, dim=1) for each in zip(*zip(*streams, strict=True), strict=True)]
    for (input_ids, mask), actual in zip(inputs, tokens, strict=True):
        expected = generate(plain, input_ids, mask, max_new_tokens=12)
        assert actual.tolist() == expected[:, input_ids.shape[1] :].tolist()
    assert len(static_steps(model)) == 2


def test_one_generation_after_the_other_shares_memory() -> None:
    """Also with another length, as long as the number of slots is the same."""
    plain = a_model(context=300)
    model = accelerate(plain)
    memory = set()
    for new_tokens in (10, 100, 30):
        expected = generate(plain, *prompts(4), max_new_tokens=new_tokens)
        assert generate(model, *prompts(4), max_new_tokens=new_tokens).tolist() == expected.tolist()
        (step,) = static_steps(model)
        memory.add(step.buffers.data_ptr())
    assert len(memory) == 1
    generate(model, *prompts(4), max_new_tokens=SLOT_MULTIPLE)  # more slots
    assert len(static_steps(model)) == 2


def test_a_window_that_slides_needs_two_steps() -> None:
    """The next window's cache is made while the last one's still exists."""
    model = accelerate(a_model())
    generate(model, *prompts(20), max_new_tokens=60, slide=True)
    assert len(static_steps(model)) == 2


def test_a_cache_that_is_kept_is_not_given_away() -> None:
    plain = a_model()
    model = accelerate(plain)
    input_ids, _ = prompts(6)
    with torch.no_grad():
        kept = model.new_cache(1, 10)
        model(input_ids[:, :5], None, kept)
        generate(model, *prompts(7, seed=5), max_new_tokens=9)
        torch.testing.assert_close(model(input_ids[:, 5:], None, kept), plain(input_ids)[:, -1:])


def test_few_steps_are_kept() -> None:
    model = accelerate(a_model())
    caches = [model.new_cache(size, 5) for size in range(1, 10)]
    assert len(static_steps(model)) == 9
    del caches
    gc.collect()
    model.new_cache(3, 5)
    sizes = [step.sizes[0] for step in static_steps(model)]
    assert len(sizes) == MAX_FREE_STEPS + 1
    assert sizes[-1] == 3


# --- what a step cannot compute ---------------------------------------------------------------------------------------


def test_an_id_outside_the_vocabulary_gives_nan_and_spoils_no_later_generation() -> None:
    """Although later generations hide the slot with NaN, and never write to it."""
    plain = a_model()
    model = accelerate(plain)
    for unknown in (V, -1):
        cache = model.new_cache(2, 20)
        model(torch.ones(2, 15, dtype=torch.long), None, cache)
        logits = model(torch.tensor([[5], [unknown]]), None, cache)
        assert logits[1].isnan().all()
        assert not logits[0].isnan().any()
        del cache
        expected = generate(plain, *prompts(4, 4), max_new_tokens=9)
        assert generate(model, *prompts(4, 4), max_new_tokens=9).tolist() == expected.tolist()
        assert len(static_steps(model)) == 1


def test_errors_are_those_of_the_ordinary_path() -> None:
    model = accelerate(a_model())
    one = torch.ones(1, 1, dtype=torch.long)

    def after_two_positions() -> list[Any]:
        cache = model.new_cache(1, CONTEXT)
        model(one.expand(1, 2), None, cache)
        return cache

    with pytest.raises(UserError, match="integers"):
        model(one.float(), None, after_two_positions())
    with pytest.raises(UserError, match="attention_mask must be"):
        model(one, one, after_two_positions())
    with pytest.raises(RuntimeError):
        model(one.expand(2, 1), None, after_two_positions())  # another batch size
    cache = after_two_positions()
    for _ in range(CONTEXT - 2):
        model(one, None, cache)
    with pytest.raises(UserError, match=f"{CONTEXT + 1} tokens are more than the model's {CONTEXT}"):
        model(one, None, cache)


def test_memory_is_usable_outside_of_inference_mode() -> None:
    model = accelerate(a_model())
    with torch.inference_mode():
        cache = model.new_cache(1, 10)
    assert model(torch.tensor([[1]]), None, cache).isfinite().all()


def test_the_cache_of_another_model_takes_the_ordinary_path(computed: list[StaticStep]) -> None:
    first, second = accelerate(a_model(0)), accelerate(a_model(1))
    input_ids, _ = prompts(4)
    outputs = []
    for is_static in (True, False):
        cache = first.new_cache(1, 10)
        first(input_ids[:, :3], None, cache)
        outputs.append(second(input_ids[:, 3:], None, cache if is_static else list(cache)))
    assert torch.equal(outputs[0], outputs[1])
    assert computed == []


# --- graphs -----------------------------------------------------------------------------------------------------------

aten = torch.ops.aten
WAITS_FOR_THE_GPU = {aten._local_scalar_dense, aten.nonzero, aten.is_nonzero, aten.equal, aten._unique2}


class RecordedGraph(TorchDispatchMode):
    """Does on the CPU what a CUDA graph does: keeps all operations with their tensors, and repeats them in place."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket not in WAITS_FOR_THE_GPU, f"{func} cannot be captured"
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, recorded in self.calls:
            for old, new in zip(tree_leaves(recorded), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():  # neither a view nor in place
                    old.copy_(new)


def record(compute: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """A stand-in for `capture`."""
    for _ in range(3):
        compute()
    with RecordedGraph() as graph:
        result = compute()

    def replay() -> Tensor:
        result.fill_(torch.nan)
        graph.replay()
        return result

    return replay


def test_logits_are_not_overwritten_by_the_next_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed.cuda_graph, "capture", record)
    model = accelerate(a_model())
    cache = model.new_cache(1, 10)
    first = model(torch.tensor([[1]]), None, cache)
    before = first.clone()
    model(torch.tensor([[2]]), None, cache)
    assert torch.equal(first, before)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("lengths", [(20,), (9, 4, 1)], ids=str)
def test_a_recorded_step_can_be_replayed(
    precision: str, lengths: tuple[int, ...], computed: list[StaticStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At other positions, with other tokens and masks, in several windows and generations."""
    model = accelerate(a_model(), precision)
    expected = [generate(model, *prompts(*lengths, seed=seed), max_new_tokens=40, slide=True) for seed in (1, 2)]
    model = accelerate(a_model(), precision)
    monkeypatch.setattr(speed.cuda_graph, "capture", record)
    computed.clear()
    for seed in (1, 2):
        tokens = generate(model, *prompts(*lengths, seed=seed), max_new_tokens=40, slide=True)
        assert tokens.tolist() == expected[seed - 1].tolist()
    assert len(computed) == 4 * len(static_steps(model)) == 8


def test_the_cpu_keeps_the_ordinary_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    cache = accelerate(a_model()).new_cache(1, 7)
    assert not isinstance(cache, StaticCache)
    assert cache[0].buffer.shape[3] == 7


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize(
    ("precision", "limit"), [("float32", 1e-4), ("float16", 0.03), ("bfloat16", 0.06), ("int8", 0.08)]
)
def test_graphs_on_a_gpu(precision: str, limit: float) -> None:
    """Captured for real: logits and tokens, batches with padding, windows that slide, two generations in turn."""
    plain = a_model().cuda()
    model = accelerate(plain, precision)
    input_ids, mask = (each.cuda() for each in prompts(16, 7) if each is not None)
    cache = model.new_cache(2, 20)
    with torch.inference_mode():
        model(input_ids[:, :8], mask[:, :8], cache)
        steps = [model(input_ids[:, t : t + 1], mask[:, : t + 1], cache) for t in range(8, 16)]
        actual, expected = torch.cat(steps, dim=1), plain(input_ids, mask)[:, 8:]
    assert (actual - expected).norm() / expected.norm() < limit
    assert len({step.replay for step in static_steps(model)} - {None}) == 1
    if precision != "float32":
        return
    for options in ({"max_new_tokens": 8}, {"max_new_tokens": 60, "slide": True}):
        for ids, padding in ((input_ids, mask), (input_ids[:1], None)):
            tokens = generate(plain, ids, padding, **options)  # pyright: ignore[reportArgumentType]
            assert generate(model, ids, padding, **options).tolist() == tokens.tolist()  # pyright: ignore[reportArgumentType]
    first, second = (stream(model, ids, max_new_tokens=8) for ids in (input_ids[:1], input_ids[:1] + 1))
    turns = [torch.cat(tokens) for tokens in zip(*zip(first, second, strict=True), strict=True)]
    assert turns[0].tolist() == generate(plain, input_ids[:1], max_new_tokens=8)[0, 16:].tolist()
