"""Every command with --device on a pretended GPU: it runs there, and its results equal those on the CPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pretended_device import GpuTensor, pretended_gpu
from safetensors.torch import load_file

import lab.training
import sentiment_analysis
import speed.accelerated
import text_generation
import train_language_model
import train_sentiment
from lab.checkpoints import save_checkpoint
from speed import choice

Call = Callable[..., Any]
GENERATE = ("a wonderful film", "once upon", "--max_new_tokens", "6")
LANGUAGE = ("--embed_dim", "16", "--num_layers", "1", "--num_heads", "2", "--context", "8", "--batch_size", "4")
LANGUAGE = (*LANGUAGE, "--num_steps", "2", "--evaluate_every", "2", "--checkpoint_every", "1")
SENTIMENT = (
    "--epochs",
    "2",
    "--checkpoint_every",
    "1",
    "--embed_dim",
    "16",
    "--num_layers",
    "1",
    "--num_heads",
    "2",
    "--ff_dim",
    "32",
    "--vocab_size",
    "200",
)


@pytest.fixture(autouse=True)
def _what_the_pretended_device_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of the pretended device cannot be made in inference mode, and have no memory of their own to look at."""
    monkeypatch.setattr(torch.inference_mode, "__enter__", lambda self: torch.no_grad.__enter__(self))
    monkeypatch.setattr(torch.inference_mode, "__exit__", lambda self, *error: torch.no_grad.__exit__(self, *error))
    monkeypatch.setattr(GpuTensor, "untyped_storage", lambda self: self.on_cpu.untyped_storage(), raising=False)
    # checkpoints may hold tensors of a GPU, since they are read onto the CPU
    monkeypatch.setattr(GpuTensor, "__reduce_ex__", lambda self, protocol: self.on_cpu.__reduce_ex__(protocol))


@pytest.fixture(autouse=True)
def _the_same_kernels_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, too, take PyTorch's own kernels only, so that results in few bits are equal."""
    every_kernel = choice.layers_of

    def first_kernel(*arguments: Any) -> dict[str, Any]:
        return dict(list(every_kernel(*arguments).items())[:1])

    monkeypatch.setattr(choice, "layers_of", first_kernel)


def on_both_devices(call: Call, script: Any, *arguments: str) -> tuple[Any, Any]:
    """Return the result on the CPU and on the pretended GPU."""
    on_cpu = call(script, *arguments, "--device", "cpu")
    with pretended_gpu():
        on_gpu = call(script, *arguments, "--device", "cuda")
    return on_cpu, on_gpu


@pytest.mark.parametrize(
    "flags",
    [
        ("--temperature", "0"),
        ("--engine", "scratch", "--temperature", "0"),
        ("--engine", "scratch", "--seed", "3", "--repetition_penalty", "1.2", "--top_k", "5", "--top_p", "0.9"),
        ("--engine", "scratch", "--temperature", "0", "--batch_size", "1", "--show_probs", "3"),
        ("--engine", "scratch", "--temperature", "0", "--accelerate"),
        ("--engine", "scratch", "--temperature", "0", "--precision", "bfloat16"),
        ("--temperature", "0", "--show_attention"),
    ],
    ids=" ".join,
)
def test_text_generation(call: Call, tiny_language: Path, flags: tuple[str, ...]) -> None:
    on_cpu, on_gpu = on_both_devices(call, text_generation, *GENERATE, "--model", str(tiny_language), *flags)
    assert on_gpu.status == on_cpu.status == 0, on_gpu.err
    assert on_gpu == on_cpu


@pytest.mark.parametrize("flags", [("--accelerate",), ("--precision", "bfloat16")], ids=" ".join)
def test_generation_by_static_steps(
    call: Call, tiny_language: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    """The steps of CUDA graphs, which the pretended device runs without capturing them."""
    flags = (*GENERATE, "--engine", "scratch", "--temperature", "0", *flags, "--model", str(tiny_language))
    on_cpu = call(text_generation, *flags, "--device", "cpu")
    uses_graphs: list[str] = []
    monkeypatch.setattr(speed.accelerated, "uses_graphs", lambda device: uses_graphs.append(device.type) or True)
    with pretended_gpu():
        on_gpu = call(text_generation, *flags, "--device", "cuda")
    assert uses_graphs == ["gpu"]
    assert on_gpu.status == on_cpu.status == 0, on_gpu.err
    assert on_gpu == on_cpu


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--engine", "scratch"),
        ("--engine", "scratch", "--accelerate"),
        ("--engine", "scratch", "--precision", "bfloat16"),
        ("--explain", "--engine", "scratch"),
        ("--show_attention", "--engine", "scratch"),
        ("--engine", "scratch", "--batch_size", "1", "--json"),
    ],
    ids=lambda flags: " ".join(flags) or "plain",
)
def test_sentiment_analysis(call: Call, tiny_classifier: Path, flags: tuple[str, ...]) -> None:
    texts = ("a wonderful film, funny and moving", "the plot is dull")
    on_cpu, on_gpu = on_both_devices(call, sentiment_analysis, *texts, "--model", str(tiny_classifier), *flags)
    assert on_gpu.status == on_cpu.status == 0, on_gpu.err
    assert on_gpu == on_cpu


@pytest.mark.parametrize("script", [text_generation, sentiment_analysis], ids=lambda script: script.__name__)
def test_engines_are_compared(call: Call, tiny_language: Path, tiny_classifier: Path, script: Any) -> None:
    flags = {text_generation: ("--model", str(tiny_language), "--temperature", "0")}
    with pretended_gpu():
        result = call(
            script, "a film", "--compare", *flags.get(script, ("--model", str(tiny_classifier))), "--device", "cuda"
        )
    assert result.status == 0, result.err
    assert "accelerated" in result.out


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def interruption(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Return a context in which training is interrupted after its first checkpoint."""

    @contextmanager
    def interrupted() -> Iterator[None]:
        def save_and_stop(*arguments: Any) -> None:
            save_checkpoint(*arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(lab.training, "save_checkpoint", save_and_stop)
            yield

    return interrupted


@pytest.fixture
def data(tmp_path: Path) -> dict[Any, Path]:
    """Return the training data of each script."""
    text, reviews = tmp_path / "text.txt", tmp_path / "reviews.csv"
    text.write_text("The mouse saw the cheese. " * 40)
    lines = [f"a {('dull', 'great')[number % 2]} film with the number {number},{number % 2}" for number in range(80)]
    reviews.write_text("\n".join(["text,label", *lines]))
    return {train_language_model: text, train_sentiment: reviews}


TRAININGS = {train_language_model: LANGUAGE, train_sentiment: SENTIMENT}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("script", TRAININGS, ids=lambda script: script.__name__)
def test_training_and_resuming(
    call: Call, data: dict[Any, Path], interruption: Any, tmp_path: Path, script: Any
) -> None:
    flags = ("--data", str(data[script]), *TRAININGS[script])

    def run(folder: str, device: str, *more: str) -> Any:
        return call(script, *flags, "--output_dir", str(tmp_path / folder), "--device", device, *more)

    assert run("cpu", "cpu").status == 0
    with pretended_gpu():
        assert run("whole", "cuda").status == 0
        with interruption():
            assert run("interrupted", "cuda").status == 130
        resumed = run("interrupted", "cuda", "--resume")
    assert resumed.status == 0, resumed.err
    whole = weights(tmp_path / "whole")
    assert all(torch.equal(weight, whole[name]) for name, weight in weights(tmp_path / "interrupted").items())
    torch.testing.assert_close(whole, weights(tmp_path / "cpu"), rtol=0, atol=1e-6)
