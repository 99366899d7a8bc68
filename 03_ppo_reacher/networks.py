"""The agent's two networks: an actor, which is a Gaussian policy, and a critic.

# B batch (any number of leading dimensions), O observation_dim, A action_dim, P parameters
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
    """A multilayer perceptron with ReLU between its linear layers.

    With `orthogonal`, weights are orthogonal matrices and biases are zero. The last layer's weights
    are scaled by `output_gain`, the others by sqrt(2), which compensates for ReLU. Orthogonal
    matrices preserve the size of signals and gradients from layer to layer (Saxe et al. 2014;
    Engstrom et al. 2020 measure the effect for PPO).
    """

    def __init__(
        self,
        input_dim: int,
        hidden_sizes: Sequence[int],
        output_dim: int,
        output_gain: float,
        orthogonal: bool,
    ) -> None:
        super().__init__()
        sizes = [input_dim, *hidden_sizes, output_dim]
        self.layers: Any = nn.ModuleList()
        for fan_in, fan_out in pairwise(sizes):
            self.layers.append(nn.Linear(fan_in, fan_out))
        if orthogonal:
            for layer in self.layers[:-1]:
                nn.init.orthogonal_(layer.weight, gain=2**0.5)
                nn.init.zeros_(layer.bias)
            nn.init.orthogonal_(self.layers[-1].weight, gain=output_gain)
            nn.init.zeros_(self.layers[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, input_dim) to (B, output_dim)."""
        *hidden, last = self.layers
        for layer in hidden:
            # F.linear and not layer(x): calling a module takes as long as a small layer's product.
            x = F.linear(x, layer.weight, layer.bias).relu()  # (B, fan_in) -> (B, fan_out)
        return F.linear(x, last.weight, last.bias)  # (B, fan_in) -> (B, output_dim)


class PolicyNetwork(nn.Module):
    """The actor: pi(a | s) = Normal(mean(s), exp(log_std)).

    There is one standard deviation per action dimension, the same for all states.

    Args:
        observation_dim: size of an observation.
        action_dim: size of an action.
        hidden_sizes: sizes of the hidden layers.
        initial_log_std: logarithm of the initial standard deviation.
        orthogonal: orthogonal weights, with initial mean actions near zero; else PyTorch's default.
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
        # A small last layer: initial mean actions are near zero.
        self.mean = MLP(observation_dim, hidden_sizes, action_dim, 0.01, orthogonal)
        self.log_std = nn.Parameter(torch.full((action_dim,), float(initial_log_std)))  # (A,)

    def forward(self, observations: Tensor) -> Independent:
        """Return the distribution over actions (B, A) for normalized observations (B, O).

        Its `log_prob` and `entropy` are (B,).
        """
        # No validation: `train` checks for NaN and reports it.
        normal = Normal(self.mean(observations), self.log_std.exp(), validate_args=False)
        return Independent(normal, 1, validate_args=False)

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return log pi(a | s) of actions (B, A) as (B,).

        It equals `self(observations).log_prob(actions)` with fewer operations.
        """
        # log Normal(a; mean, std) = -z^2 / 2 - log(std) - log(2 pi) / 2, summed over A dimensions
        z = (actions - self.mean(observations)) * (-self.log_std).exp()  # (B, A)
        squares = z.square().sum(-1)  # (B, A) -> (B,)
        return -0.5 * squares - self.log_std.sum() - self.log_std.numel() * HALF_LOG_TWO_PI

    def entropy(self) -> Tensor:
        """Return the policy's differential entropy in nats, a scalar equal for all states."""
        return self.log_std.sum() + self.log_std.numel() * (0.5 + HALF_LOG_TWO_PI)


class ValueNetwork(nn.Module):
    """The critic: V(s), the expected discounted return from a state.

    It shares no weights with the actor.
    """

    def __init__(
        self,
        observation_dim: int,
        hidden_sizes: Sequence[int] = (96, 96),
        orthogonal: bool = True,
    ) -> None:
        super().__init__()
        self.value = MLP(observation_dim, hidden_sizes, 1, 1.0, orthogonal)

    def forward(self, observations: Tensor) -> Tensor:
        """Return values (B,) of normalized observations (B, O)."""
        return self.value(observations).squeeze(-1)  # (B, 1) -> (B,)


def as_one_vector(parameters: Sequence[nn.Parameter]) -> nn.Parameter:
    """Return one parameter (P,) that holds all `parameters`, which become views of it.

    Their gradients become views of its gradient. With one long tensor instead of a dozen short ones
    the optimizer step, gradient clipping and gradient averaging have less overhead. The views stay
    valid as long as gradients are zeroed in place.
    """
    sizes = [parameter.numel() for parameter in parameters]
    vector = nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in parameters]))
    vector.grad = torch.zeros_like(vector)
    values = vector.data.split(sizes)  # (P,) -> (numel,) each
    gradients = vector.grad.split(sizes)  # (P,) -> (numel,) each
    for parameter, value, gradient in zip(parameters, values, gradients, strict=True):
        parameter.data = value.view_as(parameter)  # (numel,) -> the parameter's shape
        parameter.grad = gradient.view_as(parameter)
    return vector
