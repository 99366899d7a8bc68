"""Optimizers for both trainings: AdamW or Muon, weight decay, warm-up and cosine decay, gradient clipping.

Everything depends on the step and the settings alone, never on a clock, so a resumed run is bit-exact. With
several processes the gradients are averaged first.

Shapes: N matrices of one shape (R, C).

Sources: AdamW: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization"; cosine: Loshchilov and Hutter 2017,
"SGDR"; Muon: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", with the scale of Liu et
al. 2025, "Muon is Scalable for LLM Training", which lets it share AdamW's learning rate and weight decay.
"""

# pyright: reportPrivateImportUsage=false
# PyTorch's documented functions for lists of tensors, `torch._foreach_...`, have a name with an underscore.

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lab.checkpoints import check_like, load_optimizer
from lab.distributed import average_gradients
from lab.errors import UserError, require_at_least

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al.: steep at 0, so that five iterations suffice
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of the optimizer and its schedule. Raises UserError, naming the flag, for invalid values."""

    optimizer: Literal["adamw", "muon"]
    """"muon" for the matrices between the layers (the rest by AdamW, as always), or "adamw" for everything."""
    num_steps: int
    """Optimizer steps of the whole run; the learning-rate schedule ends with them."""
    learning_rate: float
    """Peak learning rate."""
    warmup_steps: int = 50
    """Steps of linear warm-up."""
    min_lr_ratio: float = 0.0
    """Learning rate at the end of the cosine decay, as a fraction of the peak."""
    weight_decay: float = 0.1
    """Decoupled weight decay of matrices; biases and norms have none."""
    beta1: float = 0.9
    """Decay rate of AdamW's first moment."""
    beta2: float = 0.99
    """Decay rate of AdamW's second moment."""
    max_grad_norm: float = 1.0
    """Clip the global gradient norm to this."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "num_steps")
        require_at_least(0, self, "learning_rate", "warmup_steps", "weight_decay", "min_lr_ratio")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if not self.max_grad_norm > 0:
            raise UserError(f"--max_grad_norm is {self.max_grad_norm}; it must be above 0")


def learning_rate_at(step: int, config: OptimizerConfig) -> float:
    """Return the learning rate of a step, counted from 0: linear warm-up, then half a cosine (SGDR, eq. 5)."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(config.num_steps - config.warmup_steps, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))  # from 1 to 0
    return config.learning_rate * (config.min_lr_ratio + (1 - config.min_lr_ratio) * cosine)


def newton_schulz(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Return matrices (N, R, C) with all singular values moved close to 1, by the Newton-Schulz iteration."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices  # (N, R, C) with R <= C, the cheaper side
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # no singular value above 1, or the iteration runs away
    for _ in range(iterations):  # applies s -> a s + b s^3 + c s^5 to each singular value
        square = x @ x.mT  # (N, R, C) @ (N, C, R) -> (N, R, R)
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)  # b square + c square @ square
        x = torch.add(polynomial @ x, x, alpha=a)  # (N, R, C); float32, also with products in bfloat16
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum with an orthogonalized direction, so that a step changes a matrix equally in all directions.

    For the weight matrices of linear layers; embeddings, biases and norms go to AdamW.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], lr: float, momentum: float) -> None:
        super().__init__(list(groups), {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update all matrices, those of one shape together: fewer and larger kernels."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                shapes.setdefault(parameter.shape, []).append(parameter)
            for shape, matrices in shapes.items():
                scale = 0.2 * math.sqrt(max(shape))  # Liu et al., eq. 4: as large a step as AdamW's
                directions = newton_schulz(torch.stack(self.momentum(matrices, group["momentum"])))  # (N, R, C)
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, directions.unbind(), alpha=-group["lr"] * scale)

    def momentum(self, matrices: Sequence[Tensor], decay: float) -> tuple[Tensor, ...]:
        """Return the running means of the gradients, (R, C) each, one step ahead (Nesterov momentum)."""
        gradients: list[Any] = [parameter.grad for parameter in matrices]
        for parameter in matrices:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        averages = [self.state[parameter]["momentum"] for parameter in matrices]
        torch._foreach_lerp_(averages, gradients, 1 - decay)
        return torch._foreach_lerp(gradients, averages, decay)


class OptimizerGroup:
    """The optimizers of a model with their learning-rate schedule and step count.

    Args:
        lr_scales: factor on the learning rate of a parameter, 1 where it has no entry.
    """

    def __init__(
        self, model: nn.Module, config: OptimizerConfig, lr_scales: Mapping[nn.Parameter, float] | None = None
    ) -> None:
        self.config = config
        self.steps_done = 0
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        linear_weights = {layer.weight for layer in model.modules() if isinstance(layer, nn.Linear)}
        for_muon = [p for p in self.parameters if config.optimizer == "muon" and p in linear_weights]
        for_adamw = [p for p in self.parameters if config.optimizer != "muon" or p not in linear_weights]
        betas = (config.beta1, config.beta2)
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(self.groups(for_adamw, lr_scales or {}), betas=betas, eps=1e-8, fused=True)
        ]
        if for_muon:
            self.optimizers.append(Muon(self.groups(for_muon, lr_scales or {}), config.learning_rate, momentum=0.95))

    def groups(
        self, parameters: Sequence[nn.Parameter], lr_scales: Mapping[nn.Parameter, float]
    ) -> list[dict[str, Any]]:
        """Return the parameters grouped by weight decay (matrices only) and learning-rate scale."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in parameters:
            decay = self.config.weight_decay if parameter.ndim >= 2 else 0.0
            groups.setdefault((decay, lr_scales.get(parameter, 1.0)), []).append(parameter)
        return [
            {"params": members, "weight_decay": decay, "lr_scale": scale} for (decay, scale), members in groups.items()
        ]

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return learning_rate_at(self.steps_done, self.config)

    def step(self) -> None:
        """Average and clip the gradients, take one optimizer step, and clear the gradients."""
        average_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * group["lr_scale"]
            optimizer.step()
            optimizer.zero_grad()
        self.steps_done += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a bit-exact resume needs in addition to the weights."""
        return {"steps_done": self.steps_done, "optimizers": [each.state_dict() for each in self.optimizers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a `state_dict`. Raises UserError if its optimizers had other settings."""
        check_like(state["steps_done"], 0, "steps_done")
        self.steps_done = state["steps_done"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            groups = [_renamed(group) for group in saved["param_groups"]]
            for own, theirs in zip(optimizer.param_groups, groups, strict=True):
                if set(own) != set(theirs):
                    names = ", ".join(sorted(set(own) ^ set(theirs)))
                    raise UserError(f"--resume: the checkpoint is from another version ({names}); start a new run")
            load_optimizer(optimizer, {**saved, "param_groups": groups})


def _renamed(group: dict[str, Any]) -> dict[str, Any]:
    """Return a saved parameter group with today's names: `lr_scale` was once called `share`."""
    return {"lr_scale" if name == "share" else name: value for name, value in group.items()}
