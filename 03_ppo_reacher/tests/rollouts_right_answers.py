"""Right answers to the exercises on rollouts in other styles than the lab's: all must pass."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal


def log_prob_by_library(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """PyTorch's own distribution."""
    return Independent(Normal(mean, log_std.exp()), 1).log_prob(action)


def log_prob_by_matrix(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """A multivariate normal distribution with a diagonal covariance matrix."""
    return MultivariateNormal(mean, covariance_matrix=torch.diag((2 * log_std).exp())).log_prob(action)


def log_prob_by_numbers(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Python numbers, one after the other."""
    results = []
    for row in range(len(mean)):
        total = 0.0
        for joint in range(len(log_std)):
            std = math.exp(log_std[joint].item())
            z = (action[row, joint].item() - mean[row, joint].item()) / std
            total -= (z * z + math.log(2 * math.pi * std * std)) / 2
        results.append(total)
    return torch.tensor(results, dtype=mean.dtype)


def log_prob_at_once(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """All joints at once, with a small number added to the deviation, as Spinning Up has it."""
    squares = ((action - mean) / (log_std.exp() + 1e-8)).pow(2)
    return -0.5 * torch.sum(squares + 2 * log_std + np.log(2 * np.pi), dim=1)


def log_prob_by_loss(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """PyTorch's loss of a Gaussian, negated."""
    variance = torch.exp(log_std).square().expand_as(mean)
    return -nn.functional.gaussian_nll_loss(mean, action, variance, full=True, reduction="none").sum(dim=-1)


def sample_by_library(mean: Tensor, log_std: Tensor, noise: Tensor, low: Any, high: Any) -> Any:
    """PyTorch's own distribution."""
    policy = Normal(mean, log_std.exp())
    action = policy.loc + policy.scale * noise
    return action, torch.clip(action, low, high), policy.log_prob(action).sum(1)


def sample_by_noise(mean: Tensor, log_std: Tensor, noise: Tensor, low: Any, high: Any) -> Any:
    """The noise is the number of standard deviations already."""
    action = torch.addcmul(mean, noise, torch.exp(log_std))
    low, high = torch.as_tensor(low, dtype=mean.dtype), torch.as_tensor(high, dtype=mean.dtype)
    clipped = torch.minimum(torch.maximum(action, low), high)
    sizes = noise.shape[1] * math.log(2 * math.pi) + 2 * log_std.sum()
    return [action, clipped, -0.5 * ((noise**2).sum(dim=1) + sizes)]


def sample_by_loop(mean: Tensor, log_std: Tensor, noise: Tensor, low: Any, high: Any) -> Any:
    """One row after the other."""
    actions, clipped, logs = [], [], []
    for row, draw in zip(mean, noise, strict=True):
        actions.append(row + log_std.exp() * draw)
        clipped.append(torch.where(actions[-1] < low, low, torch.where(actions[-1] > high, high, actions[-1])))
        logs.append(log_prob_at_once(row[None], log_std, actions[-1][None])[0])
    return torch.stack(actions), torch.stack(clipped).to(mean.dtype), torch.stack(logs)


def next_by_choice(next_observations: Any, info: Any) -> Any:
    """A new array of chosen rows."""
    final = info.get("final_obs")
    if final is None:
        return next_observations.copy()
    return np.array([row if last is None else last for row, last in zip(next_observations, final, strict=True)])


def next_by_mask(next_observations: Any, info: Any) -> Any:
    """All rows that ended at once."""
    result = np.array(next_observations)
    if "_final_obs" in info and info["_final_obs"].any():
        mask = info["_final_obs"]
        result[mask] = np.stack(info["final_obs"][mask])
    return result


def next_by_where(next_observations: Any, info: Any) -> Any:
    """Two full arrays, and a choice between them."""
    try:
        mask, final = info["_final_obs"], info["final_obs"]
    except KeyError:
        return next_observations
    rows = [final[i] if mask[i] else np.zeros_like(next_observations[i]) for i in range(len(mask))]
    return np.where(mask[:, None], np.stack(rows), next_observations)


def next_by_either_key(next_observations: Any, info: Any) -> Any:
    """The keys of old and of new versions of Gymnasium."""
    result = next_observations.copy()
    for key in ("final_observation", "final_obs"):
        for env, last in enumerate(info.get(key, [])):
            if last is not None:
                result[env] = last
    return result


RIGHT = {
    "log_prob": {
        "library": {"log_prob": log_prob_by_library},
        "matrix": {"log_prob": log_prob_by_matrix},
        "numbers": {"log_prob": log_prob_by_numbers},
        "at once": {"log_prob": log_prob_at_once},
        "loss": {"log_prob": log_prob_by_loss},
    },
    "sample_action": {
        "library": {"sample_action": sample_by_library},
        "noise": {"sample_action": sample_by_noise},
        "loop": {"sample_action": sample_by_loop},
    },
    "true_next_observations": {
        "choice": {"true_next_observations": next_by_choice},
        "mask": {"true_next_observations": next_by_mask},
        "where": {"true_next_observations": next_by_where},
        "either key": {"true_next_observations": next_by_either_key},
    },
}
