"""Five tiny environments, from easy to harder, one per mechanism: the first one that fails tells where to look.

Each is solved in seconds. Probe environments are Andy Jones's idea ("Debugging RL, without the agonizing pain", 2021).
"""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import ppo
from agent import Agent
from ppo_config import PPOConfig


class Probe(gym.Env):
    """The observation, in [-0.8, 0.8], is sampled at each reset and stays; `score` returns the reward."""

    observation_space = gym.spaces.Box(-1.0, 5.0, (1,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))
    length = 1  # steps to the terminal state; 0: only a time limit ends the episode

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.target = self.np_random.uniform(-0.8, 0.8, 1).astype(np.float32)
        self.steps = 0
        return self.target.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(action), "actions must be clipped and have the dtype of the space"
        self.steps += 1
        return self.observe(), self.score(float(action.item())), self.steps == self.length, False, {}

    def observe(self) -> np.ndarray:
        return self.target.copy()

    def score(self, action: float) -> float:
        raise NotImplementedError


class ConstantReward(Probe):
    length = 0

    def score(self, action: float) -> float:
        return 1.0


class ValueFromObservation(Probe):
    def score(self, action: float) -> float:
        return float(self.target.item())


class DelayedReward(Probe):
    """Two steps: the second is rewarded with the first observation, which it no longer sees."""

    length = 2

    def observe(self) -> np.ndarray:
        return self.target + 2.0 * np.float32(self.steps)

    def score(self, action: float) -> float:
        return float(self.target.item()) if self.steps == 2 else 0.0


class ActionEqualsTarget(Probe):
    def score(self, action: float) -> float:
        return -abs(action - 0.4)


class ActionFromObservation(Probe):
    def score(self, action: float) -> float:
        return -abs(action - float(self.target.item()))


for probe in (ConstantReward, ValueFromObservation, DelayedReward, ActionEqualsTarget, ActionFromObservation):
    limit = 5 if probe is ConstantReward else None
    gym.register(f"{probe.__name__}-v0", entry_point=lambda probe=probe, **_: probe(), max_episode_steps=limit)


def trained(env_id: str, discount: float, num_iterations: int = 30, **settings: Any) -> Agent:
    config = PPOConfig(
        env_id,
        num_iterations=num_iterations,
        steps_per_iter=400,
        num_envs=4,
        discount=discount,
        num_epochs=8,
        **settings,
    )
    *_, last = ppo.train(config)
    return last.agent


def values(agent: Agent, *observations: float) -> torch.Tensor:
    with torch.no_grad():
        return agent.value(agent.normalizer(torch.tensor(observations)[:, None]))


def actions(agent: Agent, *observations: float) -> torch.Tensor:
    with torch.no_grad():
        return agent.policy.mean(agent.normalizer(torch.tensor(observations)[:, None]))[:, 0]


def test_constant_reward() -> None:
    """If this one fails, look at time limits: `true_next_observations`, and `next_values` in `compute_gae`.

    A reward of 1 per step, truncated by a time limit but never terminated, has the value 1 / (1 - discount) = 10.
    """
    agent = trained("ConstantReward-v0", discount=0.9, scale_rewards=False)
    assert values(agent, -0.5, 0.0, 0.5).tolist() == pytest.approx([10.0] * 3, rel=0.05)


def test_value_from_observation() -> None:
    """If this one fails, look at the critic: its loss, its optimizer, the pairing of observations and returns."""
    agent = trained("ValueFromObservation-v0", discount=0.9, scale_rewards=False)
    assert values(agent, -0.6, 0.0, 0.6).tolist() == pytest.approx([-0.6, 0.0, 0.6], abs=0.07)


def test_delayed_reward() -> None:
    """If this one fails, look at the discount, at the recursion of `compute_gae` and at terminal states."""
    agent = trained("DelayedReward-v0", discount=0.5, scale_rewards=False, normalize_observations=False)
    first, second = values(agent, -0.6, 0.6), values(agent, 1.4, 2.6)
    assert second.tolist() == pytest.approx([-0.6, 0.6], abs=0.1)
    assert first.tolist() == pytest.approx([-0.3, 0.3], abs=0.07)


def test_action_equals_target() -> None:
    """If this one fails, look at the sign of the loss, at the advantages, and at the log-probability's action."""
    agent = trained("ActionEqualsTarget-v0", discount=0.0)
    assert actions(agent, -0.5, 0.5).tolist() == pytest.approx([0.4, 0.4], abs=0.07)


def test_action_from_observation() -> None:
    """If this one fails, look at the policy's inputs: normalization, and the pairing of minibatch rows."""
    agent = trained("ActionFromObservation-v0", discount=0.0, num_iterations=40)
    observations = (-0.6, -0.3, 0.0, 0.3, 0.6)
    assert actions(agent, *observations).tolist() == pytest.approx(observations, abs=0.12)
