"""How a transformer's weights are moved: AdamW or Muon, weight decay, warm-up and cosine, clipped gradients.

Everything is a function of the step and of settings, never of a clock, so a run that is resumed goes on as if nothing
had happened. With several processes the gradients are averaged before anything else is done with them.

Shapes: N matrices of one shape (R, C).

Sources: AdamW: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization"; cosine: Loshchilov and Hutter 2017,
"SGDR"; Muon: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", with the scale of Liu et
al. 2025, "Muon is Scalable for LLM Training", which lets it share AdamW's learning rate and weight decay.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lab.distributed import average_gradients
from lab.errors import UserError, require_at_least
from speed.onednn import FastProducts

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al.: steep at 0, so that five rounds suffice
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class OptimizerConfig:
    """How the weights are moved. Raises UserError, naming the flag, for values that make no sense."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """"muon" for the matrices between the layers (the rest by AdamW, as always), or "adamw" for everything."""
    num_steps: int = 1000
    """Optimizer steps of the whole run; the learning rate follows from it."""
    learning_rate: float = 1e-3
    """Learning rate at its highest."""
    warmup_steps: int = 50
    """Steps in which it rises to that, in a straight line."""
    final_learning_rate: float = 0.0
    """Share of it that is left at the end of the cosine."""
    weight_decay: float = 0.1
    """Share of a matrix that is taken off a step, times the learning rate; biases, norms and gains keep theirs."""
    beta1: float = 0.9
    """AdamW's memory of gradients."""
    beta2: float = 0.99
    """AdamW's memory of squared gradients."""
    max_grad_norm: float = 1.0
    """Gradients longer than this, all taken together, are scaled down to it."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "num_steps")
        require_at_least(0, self, "learning_rate", "warmup_steps", "weight_decay", "final_learning_rate")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if not self.max_grad_norm > 0:
            raise UserError(f"--max_grad_norm is {self.max_grad_norm}; it must be above 0")


def learning_rate_at(step: int, config: OptimizerConfig) -> float:
    """The learning rate of a step, counted from 0: up in a straight line, down along half a cosine (SGDR, eq. 5)."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(config.num_steps - config.warmup_steps, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))  # from 1 to 0
    return config.learning_rate * (config.final_learning_rate + (1 - config.final_learning_rate) * cosine)


def arithmetic(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """A context in which matrix products are computed in `precision`; weights and sums stay in float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else FastProducts()


def orthogonalized(matrices: Tensor, rounds: int = 5) -> Tensor:
    """matrices (N, R, C) with all singular values brought near 1, by the iteration of Newton and Schulz."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices  # (N, R, C) with R <= C, the cheaper way round
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # no singular value above 1, or the iteration runs away
    for _ in range(rounds):
        square = x @ x.mT  # (N, R, C) @ (N, C, R) -> (N, R, R)
        x = a * x + (b * square + c * square @ square) @ x  # applies s -> a s + b s^3 + c s^5 to each singular value
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose direction is made orthogonal, so that a step changes a matrix as much in every direction.

    For matrices between layers; embeddings, biases and norms go to AdamW.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], lr: float, momentum: float) -> None:
        super().__init__(list(groups), {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Change the matrices by their gradients, those of one shape at once."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                shapes.setdefault(parameter.shape, []).append(parameter)
            for shape, matrices in shapes.items():
                scale = 0.2 * math.sqrt(max(shape))  # Liu et al., eq. 4: as large a step as AdamW's
                directions = orthogonalized(torch.stack([self.momentum(p, group["momentum"]) for p in matrices]))
                for parameter, direction in zip(matrices, directions, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(direction, alpha=-group["lr"] * scale)

    def momentum(self, parameter: nn.Parameter, share: float) -> Tensor:
        """The running mean of gradients (R, C), looking one step ahead as Nesterov's."""
        assert parameter.grad is not None
        buffer = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
        buffer.lerp_(parameter.grad, 1 - share)
        return parameter.grad.lerp(buffer, share)


class Optimization:
    """The optimizers of a model, its schedule, and how far it has come.

    Args:
        shares: the share of the learning rate that a parameter is moved by, 1 where it has no entry.
    """

    def __init__(
        self, model: nn.Module, config: OptimizerConfig, shares: Mapping[nn.Parameter, float] | None = None
    ) -> None:
        self.config, self.steps_done = config, 0
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        layers = {layer.weight for layer in model.modules() if isinstance(layer, nn.Linear)}
        by_muon = [p for p in self.parameters if config.optimizer == "muon" and p in layers]
        others = [p for p in self.parameters if config.optimizer != "muon" or p not in layers]
        betas = (config.beta1, config.beta2)
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(self.groups(others, shares or {}), betas=betas, eps=1e-8, fused=True)
        ]
        if by_muon:
            self.optimizers.append(Muon(self.groups(by_muon, shares or {}), config.learning_rate, momentum=0.95))

    def groups(self, parameters: Sequence[nn.Parameter], shares: Mapping[nn.Parameter, float]) -> list[dict[str, Any]]:
        """The parameters by what they have in common: matrices decay, each share of the learning rate is its own."""
        found: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in parameters:
            decay = self.config.weight_decay if parameter.ndim >= 2 else 0.0
            found.setdefault((decay, shares.get(parameter, 1.0)), []).append(parameter)
        return [{"params": alike, "weight_decay": decay, "share": share} for (decay, share), alike in found.items()]

    @property
    def learning_rate(self) -> float:
        """That of the next step."""
        return learning_rate_at(self.steps_done, self.config)

    def step(self) -> None:
        """One step along the gradients that `backward` left, which are then forgotten."""
        average_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * group["share"]
            optimizer.step()
            optimizer.zero_grad()
        self.steps_done += 1

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on to the same bits, beside the weights."""
        return {"steps_done": self.steps_done, "optimizers": [each.state_dict() for each in self.optimizers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`. Raises UserError for one of a version whose optimizers had other settings."""
        self.steps_done = state["steps_done"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            for own, theirs in zip(optimizer.param_groups, saved["param_groups"], strict=True):
                if set(own) != set(theirs):
                    names = ", ".join(sorted(set(own) ^ set(theirs)))
                    raise UserError(f"--resume: the checkpoint is of another version ({names}); start afresh")
            optimizer.load_state_dict(saved)
