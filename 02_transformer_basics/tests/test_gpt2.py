"""Our GPT-2 equals the library's: logits, every hidden state and attention map, the gradient of every parameter."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from lab.errors import UserError
from models.batching import pad_left, pad_right
from models.generation import KVCache, generate
from models.gpt2 import GPT2, GPT2Config
from speed import accelerate

SMALL = {"vocab_size": 97, "n_embd": 24, "n_head": 4, "n_layer": 3, "n_positions": 33}
DTYPES = pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=str)


def test_default_sizes_are_those_of_the_smallest_gpt2() -> None:
    official = transformers.GPT2Config()
    for name, value in vars(GPT2Config()).items():
        assert value == getattr(official, name), name


def write_reference(folder: Path, **sizes: Any) -> Any:
    """The library's model with weights so large that small faults show, also written to `folder`."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        **{"attn_implementation": "eager", "bos_token_id": 0, "eos_token_id": 0} | sizes  # pyright: ignore[reportArgumentType]
    )
    model = transformers.GPT2LMHeadModel(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("ln_" in name and name.endswith("weight")), std=0.1)
    model.save_pretrained(folder)
    return model.eval()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("gpt2")
    return write_reference(folder, **SMALL), folder


def inputs(length: int, side: str, vocab_size: int = 97) -> tuple[Tensor, Tensor]:
    """Three texts of different lengths as input_ids and attention_mask (3, length)."""
    torch.manual_seed(1)
    texts = [torch.randint(1, vocab_size, (size,)).tolist() for size in (length, max(1, length // 2), 1)]
    if side == "none":
        return torch.tensor(texts[:1]), torch.ones(1, length, dtype=torch.long)
    input_ids, mask = (pad_left if side == "left" else pad_right)(texts)
    return input_ids, torch.ones_like(input_ids) if mask is None else mask


def reference(theirs: Any, input_ids: Tensor, mask: Tensor) -> Any:
    """Output of the library, with positions as its own `generate` counts them: padding has none."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return theirs(
        input_ids, attention_mask=mask, position_ids=positions, output_hidden_states=True, output_attentions=True
    )


def assert_equal(ours: GPT2, theirs: Any, input_ids: Tensor, mask: Tensor, limit: float) -> None:
    """Compare at all tokens; `limit`: the largest difference, relative to the largest number."""
    expected, inside, there = (
        reference(theirs, input_ids, mask),
        ours.forward_with_internals(input_ids, mask),
        mask.bool(),
    )
    logits = [ours(input_ids, mask), inside.logits, accelerate(ours)(input_ids, mask)]
    pairs = [(actual[there], expected.logits[there]) for actual in logits]
    for actual, desired in zip(inside.hidden_states, expected.hidden_states, strict=True):
        pairs.append((actual[there], desired[there]))
    for actual, desired in zip(inside.attentions, expected.attentions, strict=True):
        pairs.append((actual.transpose(1, 2)[there], desired.transpose(1, 2)[there]))
    for actual, desired in pairs:
        assert actual.shape == desired.shape
        assert (actual - desired).abs().max() <= limit * max(1.0, desired.abs().max().item())


@DTYPES
@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.parametrize("length", [1, 2, 17, 33])
def test_equal_at_odd_sizes(small: tuple[Any, Path], length: int, side: str, dtype: torch.dtype, limit: float) -> None:
    theirs, ours = small[0].to(dtype), GPT2.from_pretrained(small[1]).to(dtype)
    assert_equal(ours, theirs, *inputs(length, side), limit)


@pytest.mark.parametrize("length", [4, pytest.param(1024, marks=pytest.mark.slow)])
def test_equal_at_the_official_size(tmp_path: Path, length: int) -> None:
    theirs, ours = write_reference(tmp_path), GPT2.from_pretrained(tmp_path)
    assert sum(parameter.numel() for parameter in ours.parameters()) == 124_439_808
    input_ids, mask = inputs(length, "left", 50257)
    with torch.no_grad():  # the attention weights of 1,024 positions take gigabytes
        assert_equal(ours, theirs, input_ids[:2], mask[:2], 1e-4)
        ours, theirs = ours.double(), theirs.double()
        for row in (0, 1):
            assert_equal(ours, theirs, input_ids[row : row + 1], mask[row : row + 1], 1e-9)


@pytest.mark.parametrize("activation", ["gelu", "relu", "gelu_pytorch_tanh"])
def test_other_sizes_by_configuration(tmp_path: Path, activation: str) -> None:
    sizes = SMALL | {"n_layer": 1, "n_inner": 31, "activation_function": activation, "layer_norm_epsilon": 1e-3}
    theirs = write_reference(tmp_path, **sizes).double()
    assert_equal(GPT2.from_pretrained(tmp_path).double(), theirs, *inputs(9, "left"), 1e-9)


@pytest.mark.parametrize("side", ["none", "left"])
def test_gradients_of_every_parameter(small: tuple[Any, Path], side: str) -> None:
    theirs, ours = small[0].double(), GPT2.from_pretrained(small[1]).double()
    input_ids, mask = inputs(17, side)
    for model, logits in (
        (ours, ours(input_ids, mask)),
        (theirs, reference(theirs, input_ids, mask).logits),
    ):
        model.zero_grad()
        (logits.sin() * mask[..., None]).sum().backward()  # outputs at padding have no meaning
    expected: Any = ours.convert_hf_state_dict({name: p.grad for name, p in theirs.named_parameters()})
    actual = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        assert gradient is not None, name
        assert (gradient - expected[name]).abs().max() <= 1e-9, name


def test_the_state_of_an_accelerated_model_is_that_of_the_plain_one(small: tuple[Any, Path]) -> None:
    """Packed weights are not in a state_dict: to load one would mix two models."""
    ours = GPT2.from_pretrained(small[1])
    fast = accelerate(ours)
    for use in (fast.state_dict, lambda: fast.load_state_dict(ours.state_dict())):
        with pytest.raises(UserError, match="ask the plain model"):
            use()
    input_ids, mask = inputs(9, "left")
    torch.testing.assert_close(copy.deepcopy(fast)(input_ids, mask), fast(input_ids, mask))


def test_accelerating_leaves_the_plain_model_as_it_was(small: tuple[Any, Path]) -> None:
    ours = GPT2.from_pretrained(small[1])
    input_ids, mask = inputs(9, "left")
    expected = ours(input_ids, mask).detach()
    state = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    for precision in ("float32", "int8"):
        accelerate(ours, precision)(input_ids, mask)
    assert torch.equal(ours(input_ids, mask), expected)
    assert ours(input_ids, mask).requires_grad
    assert ours.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize("grad", [False, True])
def test_the_plain_model_runs_the_same_code_with_and_without_gradients(small: tuple[Any, Path], grad: bool) -> None:
    ours = GPT2.from_pretrained(small[1])
    ran: list[torch.nn.Module] = []
    for block in ours.blocks:
        block.register_forward_hook(lambda module, *_: ran.append(module))
    with torch.set_grad_enabled(grad):
        logits = ours(torch.tensor([[1, 2, 3]]))
    assert ran == list(ours.blocks)
    assert logits.requires_grad is grad


# --------------------------------------------------------------------------------------------------------- with a cache


@pytest.mark.parametrize("pieces", [[1] * 12, [5, 1, 1, 5], [3, 4, 5]])
@pytest.mark.parametrize("fast", [False, True], ids=["plain", "accelerated"])
@pytest.mark.parametrize("side", ["none", "left"])
def test_piece_by_piece_with_a_cache_equals_all_at_once(
    small: tuple[Any, Path], side: str, fast: bool, pieces: list[int]
) -> None:
    """Pieces of one position are where `is_causal=True` would let the query see the first key alone."""
    ours = GPT2.from_pretrained(small[1]).double().requires_grad_(False)
    if fast:
        ours = accelerate(ours)
    input_ids, mask = inputs(12, side)
    expected = ours(input_ids, mask)
    cache, start = ours.new_cache(len(input_ids), 12), 0
    for size in pieces:
        end = start + size
        logits = ours(input_ids[:, start:end], mask[:, :end], cache)
        there = mask[:, start:end].bool()
        torch.testing.assert_close(logits[there], expected[:, start:end][there], rtol=0, atol=1e-9)
        start = end


def test_last_only_is_the_last_row(small: tuple[Any, Path]) -> None:
    ours = GPT2.from_pretrained(small[1])
    input_ids, mask = inputs(9, "left")
    torch.testing.assert_close(ours(input_ids, mask, last_only=True), ours(input_ids, mask)[:, -1:])


def test_the_cache_takes_its_memory_once() -> None:
    cache = KVCache(torch.zeros(2, 1, 1, 4, 2))
    for number in range(4):
        keys, values = cache(torch.full((1, 1, 1, 2), float(number)), torch.full((1, 1, 1, 2), -float(number)))
        assert keys[0, 0, :, 0].tolist() == list(range(number + 1))
        assert values[0, 0, :, 0].tolist() == [-i for i in range(number + 1)]
        assert keys.untyped_storage().data_ptr() == cache.buffer.untyped_storage().data_ptr()


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "accelerated"])
def test_a_full_cache_takes_no_more_positions(small: tuple[Any, Path], fast: bool) -> None:
    ours = GPT2.from_pretrained(small[1])
    model, cache = accelerate(ours) if fast else ours, ours.new_cache(1, 4)
    one, two = torch.ones(1, 1, dtype=torch.long), torch.ones(1, 2, dtype=torch.long)
    model(torch.cat([one, two], dim=1), None, cache)
    with pytest.raises(UserError, match="the cache has room for 4 positions, not for 5"):
        model(two, None, cache)
    model(one, None, cache)
    with pytest.raises(UserError, match="the cache has room for 4 positions, not for 5"):
        model(one, None, cache)


# ------------------------------------------------------------------------------------------------------------- pitfalls


def test_a_text_gets_the_same_logits_with_padding_on_either_side(small: tuple[Any, Path]) -> None:
    ours, text = GPT2.from_pretrained(small[1]).double(), [5, 6, 7]
    alone = ours(torch.tensor([text]))[0]
    for pad in (pad_left, pad_right):
        input_ids, mask = pad([text, list(range(1, 10))])
        assert mask is not None
        torch.testing.assert_close(ours(input_ids, mask)[0][mask[0].bool()], alone, rtol=0, atol=1e-9)


def test_a_row_of_padding_alone_gives_finite_numbers_and_gradients(small: tuple[Any, Path]) -> None:
    ours = GPT2.from_pretrained(small[1])
    mask = torch.tensor([[0, 0, 0], [0, 1, 1]])
    logits = ours(torch.tensor([[1, 2, 3], [0, 4, 5]]), mask)
    assert logits.isfinite().all()
    logits[1, 1:].sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in ours.parameters())
    with torch.no_grad():
        assert ours(torch.tensor([[1, 2, 3], [0, 4, 5]]), mask).isfinite().all()


def test_no_position_sees_a_later_one(small: tuple[Any, Path]) -> None:
    ours, input_ids = GPT2.from_pretrained(small[1]), torch.tensor([[1, 2, 3, 4, 5]])
    changed = torch.tensor([[1, 2, 3, 4, 60]])
    with torch.no_grad():
        torch.testing.assert_close(ours(input_ids)[:, :4], ours(changed)[:, :4])
        assert (ours(input_ids)[:, 4] - ours(changed)[:, 4]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("input_ids", "mask", "words"),
    [
        (torch.tensor([[97]]), None, "hold 97; the vocabulary ends at 96"),
        (torch.ones(1, 34, dtype=torch.long), None, "34 tokens are more than the model's 33"),
        (torch.ones(3, dtype=torch.long), None, "batch, time"),
        (torch.ones(1, 3, dtype=torch.long), torch.ones(1, 2), "attention_mask must be"),
        (torch.ones(1, 3, dtype=torch.long), torch.full((1, 3), -1e9), "1 for tokens and 0 for padding"),
    ],
)
def test_invalid_inputs_are_refused(
    small: tuple[Any, Path], input_ids: Tensor, mask: Tensor | None, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        GPT2.from_pretrained(small[1])(input_ids, mask)


def test_more_than_the_context_is_refused_with_a_cache_too(small: tuple[Any, Path]) -> None:
    ours = GPT2.from_pretrained(small[1])
    cache = ours.new_cache(1, 40)
    ours(torch.ones(1, 33, dtype=torch.long), None, cache)
    with pytest.raises(UserError, match="34 tokens are more than the model's 33"):
        ours(torch.ones(1, 1, dtype=torch.long), None, cache)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16", "int8"])
def test_equal_on_a_gpu(small: tuple[Any, Path], precision: str) -> None:
    expected = GPT2.from_pretrained(small[1])
    ours = accelerate(GPT2.from_pretrained(small[1]).to("cuda"), precision)
    input_ids, mask = inputs(17, "left")
    with torch.no_grad():
        actual, desired = ours(input_ids.cuda(), mask.cuda()).cpu(), expected(input_ids, mask)
    limit = 1e-3 if precision == "float32" else 0.1
    assert (actual - desired)[mask.bool()].abs().max() <= limit * desired.abs().max()
    tokens = generate(ours, input_ids[:1].cuda(), max_new_tokens=8)
    assert tokens.shape == (1, 25)


@pytest.mark.parametrize("rate", ["embd_pdrop", "attn_pdrop", "resid_pdrop"])
def test_each_dropout_rate_drops_what_it_drops_in_the_library(tmp_path: Path, rate: str) -> None:
    """With one rate above 0 both sides draw the same random numbers, and so drop the same."""
    rates = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0, rate: 0.4}
    theirs, input_ids = write_reference(tmp_path, **SMALL, **rates).train(), inputs(17, "none")[0]
    ours = GPT2.from_pretrained(tmp_path)
    without = ours(input_ids)
    torch.manual_seed(3)
    expected = theirs(input_ids).logits
    torch.manual_seed(3)
    torch.testing.assert_close(ours.train()(input_ids), expected, rtol=1e-4, atol=1e-4)
    assert (expected - without).abs().max() > 0.1


def test_training_drops_nothing_inside_the_feed_forward_network() -> None:
    """As in the library: dropout after the feed-forward network, not between its two linear layers."""
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=50, n_positions=16, n_embd=24, n_layer=2, n_head=2, resid_pdrop=0.5)).train()
    hidden: list[torch.Tensor] = []
    for block in model.blocks:
        block.ff_out.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0]))
    model(torch.randint(50, (2, 8)))
    assert len(hidden) == 2
    assert all(bool((tensor != 0).all()) for tensor in hidden)
