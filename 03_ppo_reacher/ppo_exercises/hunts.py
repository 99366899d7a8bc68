"""Checks of the bug hunts of lesson 3: the mended functions as answers to exercises, or under probes of their own.

# T steps of a rollout, N environments, B batch, O observation_dim, A action_dim
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from agent import Agent, make_agent
from lab.exercises.probes import Answer, Probe
from ppo_config import PPOConfig
from ppo_exercises.rollouts_solutions import log_prob


def estimating(compute_gae: Callable[..., Any]) -> Answer:
    """Return `compute_gae` as an answer to the exercise of the same name."""
    return {"compute_gae": compute_gae}


class OneStep:
    """Environments that note the actions that they receive."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.received: Any = None  # (N, A)

    def step(self, actions: Any) -> Any:
        """Note the actions; return observations, rewards, ends and information without content."""
        self.received = torch.as_tensor(actions).clone()
        no_end = np.zeros(self.num_envs, dtype=bool)
        return np.zeros((self.num_envs, 1)), np.zeros(self.num_envs), no_end, no_end, {}


def collecting(collect: Callable[..., Any]) -> Answer:
    """Return `RolloutCollector.collect` as an answer to the exercise `sample_action`: one step of B environments."""

    def sample_action(mean: Tensor, log_std: Tensor, noise: Tensor, low: Any, high: Any) -> Any:
        envs = OneStep(len(mean))
        collector = SimpleNamespace(
            envs=envs,
            low=low,
            high=high,
            observations=np.zeros((len(mean), 1)),
            _finished_returns=lambda rewards, ended: [],
        )
        agent = SimpleNamespace(
            policy=SimpleNamespace(log_std=log_std, mean=lambda observations: mean.clone()),
            normalizer=lambda observations: observations,
            environment_actions=lambda action, low, high: action.clamp(min=low).clamp(max=high),
        )
        with patch.object(torch, "randn", lambda *shape: noise.clone().expand(shape)):
            stored = collect(collector, agent, 1).actions[0]  # (1, B, A) -> (B, A)
        return stored, envs.received, log_prob(mean, log_std, stored)

    return {"sample_action": sample_action}


def _agent(seed: int) -> Agent:
    """Return an agent with random weights, whose statistics have seen random observations."""
    torch.manual_seed(seed)
    agent = make_agent(PPOConfig(hidden_sizes=(4,)), observation_dim=3, action_dim=2)
    agent.normalizer.statistics.update(torch.randn(16, 3) * (1 + seed) + seed)
    return agent


def _loaded(answer: Answer, part: Callable[[Agent], Any]) -> Any:
    """Return a part of an agent that has loaded the state of another one."""
    saved, agent = _agent(1), _agent(2)
    answer["load_state_dict"](agent, saved.state_dict())
    return part(agent)


def _mean_action(agent: Agent) -> Tensor:
    observations = torch.tensor([[4.0, 0.5, -2.0], [0.25, 1.0, 3.0]])  # (B, O)
    return agent.policy.mean(agent.normalizer(observations)).detach()  # (B, O) -> (B, A)


def _earlier_version(answer: Answer) -> bool:
    """Return whether an agent of an earlier version, whose file does not say so, scales its actions."""
    agent = _agent(2)
    state = _agent(1).state_dict()
    del state["scaled_actions"]
    answer["load_state_dict"](agent, state)
    return agent.scaled_actions


PROBES = {
    "failed_exam": (
        Probe("the mean of the observations", lambda answer: _loaded(answer, lambda a: a.normalizer.statistics.mean)),
        Probe("their deviation", lambda answer: _loaded(answer, lambda a: a.normalizer.statistics.std)),
        Probe("their count", lambda answer: _loaded(answer, lambda a: a.normalizer.statistics.count)),
        Probe("the weights of the policy", lambda answer: _loaded(answer, lambda a: dict(a.policy.state_dict()))),
        Probe("the weights of the critic", lambda answer: _loaded(answer, lambda a: dict(a.value.state_dict()))),
        Probe("the mean action", lambda answer: _loaded(answer, _mean_action)),
        Probe("the scale of the actions", lambda answer: _loaded(answer, lambda a: a.scaled_actions)),
        Probe("a file of an earlier version", _earlier_version),
    )
}
ANSWERS = {"weak_critic": estimating, "wild_arm": collecting}
