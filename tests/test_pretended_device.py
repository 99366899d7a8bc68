"""The pretended GPU finds what fails on a real one, and computes what the CPU does."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pretended_device import pretended_gpu
from torch import Tensor, nn

from lab.checkpoints import save_checkpoint
from lab.devices import pick_device


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    with pretended_gpu():
        yield pick_device("cuda")


class ForgetfulModel(nn.Module):
    """Creates a tensor on the CPU, wherever its parameters are."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + torch.arange(2)


def test_the_device_is_there_only_within_the_context() -> None:
    with pretended_gpu():
        assert pick_device("auto") == pick_device("cuda") != torch.device("cpu")
        assert pick_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        assert pick_device("auto").type in ("cpu", "mps")


def test_a_tensor_left_on_the_cpu_is_found(gpu: torch.device) -> None:
    model = ForgetfulModel()
    assert model(torch.ones(4, 3)).shape == (4, 2)
    model.to(gpu)
    with pytest.raises(RuntimeError, match="same device"):
        model(torch.ones(4, 3, device=gpu))
    with pytest.raises(RuntimeError, match="same device"):
        model.linear(torch.ones(4, 3))


FORBIDDEN: dict[str, Callable[[Tensor, Tensor], object]] = {
    "sum": lambda cpu, gpu: cpu + gpu,
    "sum with a scalar on the GPU": lambda cpu, gpu: cpu + gpu.sum(),
    "in place": lambda cpu, gpu: cpu.mul_(gpu),
    "cat": lambda cpu, gpu: torch.cat([cpu, gpu]),
    "stack of scalars": lambda cpu, gpu: torch.stack([cpu.sum(), gpu.sum()]),
    "GPU indices": lambda cpu, gpu: cpu[gpu.long()],
    "assigned values": lambda cpu, gpu: gpu.__setitem__(torch.tensor([0, 1]), cpu[:2]),
    "gather": lambda cpu, gpu: gpu.gather(0, cpu.long()),
    "embedding": lambda cpu, gpu: F.embedding(cpu.long(), gpu[:, None]),
    "where": lambda cpu, gpu: torch.where(cpu > 0, gpu, gpu),
    "attention mask": lambda cpu, gpu: F.scaled_dot_product_attention(*[gpu.view(1, 1, 3, 1)] * 3, attn_mask=cpu > -1),
    "gradient": lambda cpu, gpu: setattr(gpu, "grad", cpu),
    "numpy": lambda cpu, gpu: gpu.numpy(),
}
ALLOWED: dict[str, Callable[[Tensor, Tensor], object]] = {
    "scalar on the CPU": lambda cpu, gpu: gpu * cpu.sum(),
    "indices on the CPU": lambda cpu, gpu: gpu[cpu.long()],
    "mask on the CPU": lambda cpu, gpu: gpu[cpu > 0],
    "assigned scalar": lambda cpu, gpu: gpu.__setitem__(0, 5.0),
    "copy to the GPU": lambda cpu, gpu: gpu.copy_(cpu),
    "copy to the CPU": lambda cpu, gpu: cpu.copy_(gpu),
    "list": lambda cpu, gpu: [*gpu.tolist(), gpu[0].item()],
    "generator": lambda cpu, gpu: torch.rand(3, device=gpu.device, generator=torch.Generator(gpu.device)),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_a_gpu_refuses_is_refused(gpu: torch.device, name: str) -> None:
    with pytest.raises((RuntimeError, TypeError)):
        FORBIDDEN[name](torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 1.0, 2.0], device=gpu))


@pytest.mark.parametrize("name", ALLOWED)
def test_what_a_gpu_allows_is_allowed(gpu: torch.device, name: str) -> None:
    ALLOWED[name](torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 1.0, 2.0], device=gpu))


def test_a_tensor_on_the_gpu_is_not_saved(gpu: torch.device, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="GPU"):
        save_checkpoint(tmp_path / "model.pth", "a model", {"weight": torch.ones(2, device=gpu)})
    save_checkpoint(tmp_path / "model.pth", "a model", {"weight": torch.ones(2, device=gpu).cpu()})


@pytest.mark.parametrize("fused", [True, False])
def test_training_is_equal_to_that_on_the_cpu(gpu: torch.device, fused: bool) -> None:
    def final_weights(device: torch.device | str) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 5))
        first, *_, last = model
        last.weight = first.weight  # tied weights stay tied
        model.to(device)
        assert last.weight is first.weight
        optimizer = torch.optim.Adam(model.parameters(), fused=fused)
        for _ in range(3):
            tokens = torch.randint(5, (8,)).to(device)
            q = model(tokens).view(1, 1, 8, 5)
            output = F.scaled_dot_product_attention(q, q, q, is_causal=True)[0, 0]
            optimizer.zero_grad()
            F.cross_entropy(output, tokens).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
        assert all(parameter.device == torch.device(device) for parameter in model.parameters())
        return [parameter.detach().cpu() for parameter in model.parameters()]

    for ours, expected in zip(final_weights(gpu), final_weights("cpu"), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)
