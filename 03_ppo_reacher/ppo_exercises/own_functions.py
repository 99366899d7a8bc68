"""Where a learner's own functions go in PPO: `python train.py --with ../my_exercises/compute_gae.py`.

# T steps of a rollout, N environments, B transitions, A action_dim
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lab.exercises.own import Functions, Place, Takes
from lab.exercises.own_results import anything, like, pair, scalar, shaped, with_gradient


def advantages(own: Functions, lab: Callable[..., Any]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return `compute_gae` with a learner's `compute_gae` or `td_errors`, and with their `value_targets`."""
    whole = own.get("compute_gae", lab)

    def compute_gae(
        rewards: Tensor,
        values: Tensor,
        next_values: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        discount: float,
        gae_lambda: float,
    ) -> tuple[Tensor, Tensor]:
        advantages, returns = whole(rewards, values, next_values, terminated, truncated, discount, gae_lambda)
        if "td_errors" in own:
            errors = own["td_errors"](rewards, values, next_values, terminated, truncated, discount)
            zero = torch.zeros_like(errors)  # as values: the rewards are then the TD errors themselves
            advantages, _ = lab(errors, zero, zero, terminated, truncated, discount, gae_lambda)
            returns = advantages + values
        if "value_targets" in own:
            returns = own["value_targets"](advantages, values)
        return advantages, returns

    return compute_gae


def loss_of_policy(own: Functions, lab: Any) -> Callable[..., Tensor]:
    """Return `policy_loss`; without clipping (detail 8) a learner's function gets an infinite range."""

    def policy_loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_ratio: float | None) -> Tensor:
        clip_ratio = math.inf if clip_ratio is None else clip_ratio
        return own["policy_loss"](log_probs, old_log_probs, advantages, clip_ratio)

    return policy_loss


def log_prob_of_policy(own: Functions, lab: Any) -> Callable[..., Tensor]:
    """Return the method `log_prob` of the policy with a learner's function of mean, log_std and action."""

    def log_prob(self: Any, observations: Tensor, actions: Tensor) -> Tensor:
        return own["log_prob"](self.mean(observations), self.log_std, actions)

    return log_prob


def running_statistics(own: Functions, lab: Any) -> type:
    """Return the lab's class with mean and deviation of a learner's `RunningMeanStd`, once it has seen a batch."""

    class RunningMeanStd(lab):
        def __init__(self, *shape: int) -> None:
            super().__init__(*shape)
            self.own = own["RunningMeanStd"](math.prod(shape))

        def update(self, batch: Tensor) -> None:
            self.own.update(batch.reshape(len(batch), -1))  # (B, dim)
            mean, std = (torch.as_tensor(each, dtype=torch.float64) for each in (self.own.mean, self.own.std))
            self.mean = mean.reshape(self.mean.shape)
            self.std = std.reshape(self.mean.shape)
            self.variance = self.std.square() - 1e-8  # what a model file holds, see `_compute_std`
            self.count += len(batch)

    return RunningMeanStd


def reward_scaling(own: Functions, lab: Any) -> type:
    """Return the lab's class with the scaling of a learner's `RewardScaler`."""

    class RewardScaler(lab):
        def __init__(self, num_envs: int, discount: float) -> None:
            super().__init__(num_envs, discount)
            self.own = own["RewardScaler"](num_envs, discount)

        def update(self, rewards: Tensor, ended: Tensor) -> None:
            self.own.update(rewards, ended)

        def __call__(self, rewards: Tensor) -> Tensor:
            return self.own(rewards).float()

    return RewardScaler


def scaled(result: Any, arguments: Any) -> str:
    """Accept scaled rewards in any precision from a call of a `RewardScaler`; its other methods return nothing."""
    if arguments[0] != "__call__" or (isinstance(result, Tensor) and result.shape == arguments[1].shape):
        return ""
    return "must return a tensor of the shape of the rewards when it is called"


SCRIPTS = {
    "train.py": Takes(
        (
            Place(
                "ppo.py:compute_gae",
                {"compute_gae": pair(like(0), like(0)), "td_errors": like(0), "value_targets": like(0)},
                advantages,
                rivals=frozenset({"compute_gae", "td_errors"}),
            ),
            Place("ppo.py:policy_loss", {"policy_loss": with_gradient(scalar)}, loss_of_policy),
            Place("ppo.py:value_loss", {"value_loss": with_gradient(scalar)}),
            Place("ppo.py:normalize", {"normalize_advantages": like(0)}),
            Place(
                "networks.py:PolicyNetwork.log_prob",
                {"log_prob": with_gradient(shaped(lambda given: given[0].shape[:-1], lambda given: given[0].dtype))},
                log_prob_of_policy,
            ),
            Place("environments.py:true_next_observations", {"true_next_observations": like(0)}),
            Place(
                "normalization.py:RunningMeanStd", {"RunningMeanStd": anything}, running_statistics, keeps_state=True
            ),
            Place("normalization.py:RewardScaler", {"RewardScaler": scaled}, reward_scaling, keeps_state=True),
        )
    )
}
