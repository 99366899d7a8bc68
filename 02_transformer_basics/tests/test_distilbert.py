"""Our DistilBERT equals the library's: logits, all hidden states and attention weights, all gradients."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lab.errors import UserError
from models.batching import batches_by_length, pad_left, pad_right
from models.distilbert import DistilBertClassifier, DistilBertConfig
from speed import PRECISIONS, accelerate

SMALL = {"vocab_size": 97, "dim": 24, "n_heads": 4, "n_layers": 3, "hidden_dim": 40, "max_position_embeddings": 33}
OFFICIAL = {"vocab_size": 30522, "dim": 768, "n_heads": 12, "n_layers": 6, "hidden_dim": 3072}


def test_default_sizes_are_those_of_distilbert_base() -> None:
    official = transformers.DistilBertConfig()
    for name, value in vars(DistilBertConfig()).items():
        assert value == getattr(official, name), name


def write_reference(folder: Path, **sizes: Any) -> Any:
    """The library's model with weights so large that small faults show, also written to `folder`."""
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(**{"num_labels": 3, "attn_implementation": "eager"} | sizes)
    model = transformers.DistilBertForSequenceClassification(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float(name.lower().endswith("norm.weight")), std=0.1)
    model.save_pretrained(folder)
    return model.eval()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("distilbert")
    return write_reference(folder, **SMALL), folder


def inputs(length: int, side: str, vocab_size: int = 97) -> tuple[Tensor, Tensor | None]:
    """Three texts of different lengths as input_ids and attention_mask (3, length)."""
    torch.manual_seed(1)
    texts = [torch.randint(1, vocab_size, (size,)).tolist() for size in (length, max(1, length // 2), 1)]
    if side == "none":
        return torch.tensor(texts[:1]), None
    return (pad_left if side == "left" else pad_right)(texts)


def assert_equal(ours: DistilBertClassifier, theirs: Any, input_ids: Tensor, mask: Tensor | None, limit: float) -> None:
    """`limit`: the largest difference, relative to the largest number."""
    expected = theirs(input_ids, attention_mask=mask, output_hidden_states=True, output_attentions=True)
    inside = ours.forward_with_internals(input_ids, mask)
    pairs = [(ours(input_ids, mask), expected.logits), (inside.logits, expected.logits)]
    pairs.append((accelerate(ours)(input_ids, mask), expected.logits))
    pairs += zip(inside.hidden_states, expected.hidden_states, strict=True)
    pairs += zip(inside.attentions, expected.attentions, strict=True)
    for actual, desired in pairs:
        assert actual.shape == desired.shape
        assert (actual - desired).abs().max() <= limit * max(1.0, desired.abs().max().item())


@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.parametrize("length", [1, 2, 17, 33])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=str)
def test_equal_at_odd_sizes(small: tuple[Any, Path], length: int, side: str, dtype: torch.dtype, limit: float) -> None:
    theirs, ours = small[0].to(dtype), DistilBertClassifier.from_pretrained(small[1]).to(dtype)
    assert_equal(ours, theirs, *inputs(length, side), limit)


@pytest.mark.parametrize("length", [5, pytest.param(512, marks=pytest.mark.slow)])
def test_equal_at_the_official_size(tmp_path: Path, length: int) -> None:
    theirs, ours = write_reference(tmp_path, **OFFICIAL), DistilBertClassifier.from_pretrained(tmp_path)
    with torch.no_grad():
        for side in ("left", "right"):
            assert_equal(ours, theirs, *inputs(length, side, 30522), 1e-4)
        assert_equal(ours.double(), theirs.double(), *inputs(length, "right", 30522), 1e-9)


@pytest.mark.parametrize("side", ["none", "right"])
def test_gradients_of_every_parameter(small: tuple[Any, Path], side: str) -> None:
    theirs, ours = small[0].double(), DistilBertClassifier.from_pretrained(small[1]).double()
    input_ids, mask = inputs(17, side)
    for model, logits in ((ours, ours(input_ids, mask)), (theirs, theirs(input_ids, attention_mask=mask).logits)):
        model.zero_grad()
        logits.sin().sum().backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    expected = ours.convert_hf_state_dict(expected)
    actual = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        assert gradient is not None, name
        assert (gradient - expected[name]).abs().max() <= 1e-9, name


@pytest.mark.parametrize("rate", ["attention_dropout", "seq_classif_dropout"])
def test_each_dropout_rate_drops_what_it_drops_in_the_library(tmp_path: Path, rate: str) -> None:
    """With one rate above 0 both sides draw the same random numbers, and so drop the same."""
    rates = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, rate: 0.4}
    theirs, input_ids = write_reference(tmp_path, **SMALL, **rates).train(), inputs(17, "none")[0]
    ours = DistilBertClassifier.from_pretrained(tmp_path)
    without = ours(input_ids)
    torch.manual_seed(3)
    expected = theirs(input_ids).logits
    torch.manual_seed(3)
    torch.testing.assert_close(ours.train()(input_ids), expected, rtol=1e-4, atol=1e-4)
    assert (expected - without).abs().max() > 0.01


def test_dropout_of_the_embeddings_is_the_librarys(tmp_path: Path) -> None:
    theirs, input_ids = write_reference(tmp_path, **SMALL).train(), inputs(17, "none")[0]
    ours = DistilBertClassifier.from_pretrained(tmp_path).train()
    torch.manual_seed(3)
    expected = theirs.distilbert.embeddings(input_ids)
    torch.manual_seed(3)
    torch.testing.assert_close(ours.embed(input_ids), expected)
    assert (expected == 0).any()


def test_relu_and_labels_are_read(tmp_path: Path) -> None:
    labels = {0: "bad", 1: "so so", 2: "good"}
    theirs = write_reference(tmp_path, **SMALL, activation="relu", id2label=labels).double()
    ours = DistilBertClassifier.from_pretrained(tmp_path).double()
    assert ours.labels == ("bad", "so so", "good")
    assert_equal(ours, theirs, *inputs(9, "right"), 1e-9)


def test_batched_texts_get_the_same_results_as_single_ones(small: tuple[Any, Path]) -> None:
    ours = DistilBertClassifier.from_pretrained(small[1])
    torch.manual_seed(2)
    texts = [torch.randint(1, 97, (int(size),)).tolist() for size in torch.randint(1, 34, (40,))]
    alone = torch.cat([ours(torch.tensor([text])).softmax(-1) for text in texts])
    for model in (ours, accelerate(ours)):
        for tokens in (1, 60, 10_000):
            torch.testing.assert_close(model.predict(texts, tokens), alone, rtol=0, atol=1e-5)
    assert not torch.allclose(alone[0], alone[1], atol=1e-4)  # else a wrong order would go unnoticed


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 60), max_size=50), st.integers(1, 200))
def test_batches_hold_every_text_once_and_not_too_many_tokens(lengths: list[int], tokens: int) -> None:
    batches = batches_by_length(lengths, tokens)
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[number] for number in batch) <= tokens
    for batch, after in pairwise(batches):
        assert max(lengths[i] for i in batch) <= min(lengths[i] for i in after)
        assert (len(batch) + 1) * lengths[after[0]] > tokens  # no batch is smaller than it must be


def test_gradient_at_the_embeddings_says_which_words_decide(small: tuple[Any, Path]) -> None:
    """A word's gradient times its change predicts what the change does to the logits."""
    ours = DistilBertClassifier.from_pretrained(small[1]).double()
    embedded = ours.embed(torch.tensor([[5, 6, 7, 8]])).detach().requires_grad_()
    ours.classify(embedded)[0, 1].backward()
    assert embedded.grad is not None
    step = 1e-6 * torch.randn_like(embedded)
    with torch.no_grad():
        change = ours.classify(embedded + step)[0, 1] - ours.classify(embedded - step)[0, 1]
    torch.testing.assert_close(change, 2 * (embedded.grad * step).sum(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("input_ids", "words"),
    [
        (torch.tensor([[97]]), "hold 97; the vocabulary ends at 96"),
        (torch.tensor([[3, -1]]), "hold -1"),
        (torch.ones(1, 34, dtype=torch.long), "34 tokens are more than the model's 33"),
        (torch.ones(4, dtype=torch.long), "batch, time"),
        (torch.ones(1, 0, dtype=torch.long), "batch, time"),
        (torch.ones(1, 4), "integers"),
    ],
)
def test_invalid_inputs_are_refused(small: tuple[Any, Path], input_ids: Tensor, words: str) -> None:
    with pytest.raises(UserError, match=words):
        DistilBertClassifier.from_pretrained(small[1])(input_ids)


@pytest.mark.parametrize("shape", [(3, 1), (1, 7), (3, 8), (7,)])
@pytest.mark.parametrize("fast", [False, True], ids=["plain", "accelerated"])
def test_a_mask_of_another_shape_is_refused(small: tuple[Any, Path], fast: bool, shape: tuple[int, ...]) -> None:
    ours = DistilBertClassifier.from_pretrained(small[1])
    model = accelerate(ours) if fast else ours
    input_ids = torch.ones(3, 7, dtype=torch.long)
    for use in (lambda mask: model(input_ids, mask), lambda mask: model.pooled_output(model.embed(input_ids), mask)):
        with pytest.raises(UserError, match=r"attention_mask must be \(3, 7\), one per token, not"):
            use(torch.ones(shape))


def test_probabilities_are_ordinary_tensors(small: tuple[Any, Path]) -> None:
    probabilities = DistilBertClassifier.from_pretrained(small[1]).predict([[1, 2], [3]])
    probabilities /= probabilities.sum()
    head = torch.nn.Linear(probabilities.shape[1], 1)
    head(probabilities).sum().backward()
    assert head.weight.grad is not None


def test_a_text_without_tokens_is_refused(small: tuple[Any, Path]) -> None:
    with pytest.raises(UserError, match="text 2 has no tokens"):
        DistilBertClassifier.from_pretrained(small[1]).predict([[1], []])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_equal_on_a_gpu(small: tuple[Any, Path]) -> None:
    theirs, ours = small[0].double().cuda(), DistilBertClassifier.from_pretrained(small[1]).double().cuda()
    input_ids, mask = inputs(17, "right")
    assert mask is not None
    assert_equal(ours, theirs, input_ids.cuda(), mask.cuda(), 1e-9)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_accelerated_form_on_a_gpu(small: tuple[Any, Path], precision: str) -> None:
    plain = DistilBertClassifier.from_pretrained(small[1]).cuda()
    input_ids, mask = (each.cuda() for each in inputs(17, "right") if each is not None)
    with torch.no_grad():
        expected = plain(input_ids, mask)
    actual = accelerate(plain, precision)(input_ids, mask)
    assert actual.dtype == torch.float32
    limit = 1e-4 if precision == "float32" else 0.05
    assert (actual - expected).norm() < limit * expected.norm()
