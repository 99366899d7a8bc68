"""The two networks of the agent: an actor, which is a Gaussian over actions, and a critic.

# B batch (any number of leading dimensions), O observation_dim, A action_dim
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Independent, Normal

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class MLP(nn.Module):
    """Linear layers with ReLU between them; with `orthogonal`, weights that are so, and biases of zero.

    The last layer's weights are scaled by `output_gain`, those of the others by sqrt(2), which makes up for what ReLU
    takes away. Orthogonal matrices keep the size of signals and gradients from layer to layer (Saxe et al. 2014;
    Engstrom et al. 2020 measure it for PPO).
    """

    def __init__(
        self, input_dim: int, hidden_sizes: Sequence[int], output_dim: int, output_gain: float, orthogonal: bool
    ) -> None:
        super().__init__()
        sizes = [input_dim, *hidden_sizes, output_dim]
        self.layers: Any = nn.ModuleList(nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(sizes))
        for number, layer in enumerate(self.layers if orthogonal else ()):
            nn.init.orthogonal_(layer.weight, gain=2**0.5 if number < len(hidden_sizes) else output_gain)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, input_dim) to (B, output_dim)."""
        *hidden, last = self.layers
        for layer in hidden:  # functions, for a module's call takes as long as a small layer's arithmetic
            x = F.linear(x, layer.weight, layer.bias).relu()  # (B, fan_in) -> (B, fan_out)
        return F.linear(x, last.weight, last.bias)


class PolicyNetwork(nn.Module):
    """The actor: pi(a | s) = Normal(mean(s), exp(log_std)), one standard deviation an action dimension for all states.

    Args:
        observation_dim: size of an observation.
        action_dim: size of an action.
        hidden_sizes: widths of the hidden layers.
        initial_log_std: logarithm of the standard deviation at the start of training.
        orthogonal: orthogonal weights, and first actions near zero; else PyTorch's default.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hidden_sizes: Sequence[int] = (96, 96),
        initial_log_std: float = -0.5,
        orthogonal: bool = True,
    ) -> None:
        super().__init__()
        self.mean = MLP(observation_dim, hidden_sizes, action_dim, 0.01, orthogonal)  # first actions: near zero
        self.log_std = nn.Parameter(torch.full((action_dim,), float(initial_log_std)))

    def forward(self, observations: Tensor) -> Independent:
        """observations (B, O), normalised, to a distribution over actions (B, A); its log_prob is (B,)."""
        normal = Normal(self.mean(observations), self.log_std.exp(), validate_args=False)  # NaN is train()'s to report
        return Independent(normal, 1, validate_args=False)

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        """log pi(a | s) of actions (B, A) as (B,): `self(observations).log_prob(actions)` in fewer operations."""
        scaled = (actions - self.mean(observations)) * (-self.log_std).exp()  # (B, A)
        return -0.5 * scaled.square().sum(-1) - self.log_std.sum() - self.log_std.numel() * HALF_LOG_TWO_PI

    def entropy(self) -> Tensor:
        """Differential entropy of the action in any state, in nats: a scalar, for it depends on log_std alone."""
        return self.log_std.sum() + self.log_std.numel() * (0.5 + HALF_LOG_TWO_PI)


class ValueNetwork(nn.Module):
    """The critic: V(s), the discounted return to expect from a state. Shares nothing with the actor."""

    def __init__(self, observation_dim: int, hidden_sizes: Sequence[int] = (96, 96), orthogonal: bool = True) -> None:
        super().__init__()
        self.value = MLP(observation_dim, hidden_sizes, 1, 1.0, orthogonal)

    def forward(self, observations: Tensor) -> Tensor:
        """observations (B, O), normalised, to values (B,)."""
        return self.value(observations).squeeze(-1)  # (B, 1) -> (B,)


def as_one_vector(parameters: Sequence[nn.Parameter]) -> nn.Parameter:
    """A parameter (P,) that holds all of `parameters`; they and their gradients become views of it and of its gradient.

    One long tensor in place of a dozen short ones: the optimizer, the clipping of gradients and their averaging over
    processes spend most of their time on getting started. The views stay valid while gradients are zeroed in place.
    """
    sizes = [parameter.numel() for parameter in parameters]
    vector = nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in parameters]))
    vector.grad = torch.zeros_like(vector)
    parts = zip(parameters, vector.data.split(sizes), vector.grad.split(sizes), strict=True)
    for parameter, values, gradient in parts:
        parameter.data, parameter.grad = values.view_as(parameter), gradient.view_as(parameter)
    return vector
