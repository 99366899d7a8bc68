"""The right answers of the exercises that are not the lab's own functions equal the lab's, on random inputs."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor
from torch.distributions import Normal

import normalization
import ppo
from agent import make_agent
from environments import make_envs
from networks import PolicyNetwork
from normalization import ObservationNormalizer
from ppo_config import PPOConfig
from ppo_exercises import (
    epochs_solutions,
    losses_solutions,
    normalizers_solutions,
    rollouts_solutions,
    updates_solutions,
)
from rollout import RolloutCollector

seeds = pytest.mark.parametrize("seed", range(3))


def drawn(*shape: int, seed: int) -> Tensor:
    """Normal numbers (float64)."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def policy_network(seed: int) -> PolicyNetwork:
    torch.manual_seed(seed)
    policy = PolicyNetwork(5, 3).double()
    with torch.no_grad():
        policy.log_std.copy_(drawn(3, seed=seed))
    return policy


@seeds
def test_log_prob_equals_that_of_the_policy_network(seed: int) -> None:
    policy = policy_network(seed)
    observations, actions = drawn(7, 5, seed=seed), drawn(7, 3, seed=seed + 10)
    found = rollouts_solutions.log_prob(policy.mean(observations), policy.log_std, actions)
    torch.testing.assert_close(found, policy.log_prob(observations, actions))


@seeds
def test_sampled_actions_equal_those_of_a_rollout(seed: int) -> None:
    """The rollout stores the actions that the exercise's function draws with the same noise."""
    policy = PolicyNetwork(10, 2, initial_log_std=1.0)
    envs = make_envs("Reacher-v5", 3)
    received: list[np.ndarray] = []
    original: Any = envs.step
    space: Any = envs.single_action_space
    low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
    envs.step = lambda actions: (received.append(np.array(actions)), original(actions))[1]
    collector, normalizer = RolloutCollector(envs, seed), ObservationNormalizer(10)
    torch.manual_seed(seed)
    rollout = collector.collect(policy, normalizer, 4)
    torch.manual_seed(seed)
    noise = torch.randn(4, 3, 2)  # (T, N, A)
    with torch.no_grad():
        for t in range(4):
            mean = policy.mean(normalizer(rollout.observations[t]))
            action, clipped, log_prob = rollouts_solutions.sample_action(mean, policy.log_std, noise[t], low, high)
            torch.testing.assert_close(action, rollout.actions[t])
            torch.testing.assert_close(clipped, torch.from_numpy(received[t]))
            expected = Normal(mean, policy.log_std.exp()).log_prob(rollout.actions[t]).sum(-1)
            torch.testing.assert_close(log_prob, expected)
    envs.close()
    assert (rollout.actions.abs() > 1).any()


@seeds
def test_advantages_from_td_errors_equal_compute_gae(seed: int) -> None:
    rewards, values, next_values = (drawn(20, 3, seed=seed + offset) for offset in (0, 10, 20))
    terminated, truncated = (drawn(20, 3, seed=seed + offset) > 1 for offset in (30, 40))
    deltas = updates_solutions.td_errors(rewards, values, next_values, terminated, truncated, 0.9)
    advantages, returns = ppo.compute_gae(rewards, values, next_values, terminated, truncated, 0.9, 0.0)
    torch.testing.assert_close(deltas, advantages)
    advantages, returns = ppo.compute_gae(rewards, values, next_values, terminated, truncated, 0.9, 0.95)
    torch.testing.assert_close(updates_solutions.value_targets(advantages, values), returns)


@seeds
def test_normalized_advantages_equal_those_of_the_update(seed: int) -> None:
    """They differ by the divisor of the deviation: B here, B - 1 there."""
    advantages = 3 * drawn(50, seed=seed) + 2
    found = losses_solutions.normalize_advantages(advantages)
    torch.testing.assert_close(found, ppo.normalize(advantages) * (50 / 49) ** 0.5)
    assert torch.equal(losses_solutions.normalize_advantages(torch.tensor([3.0])), torch.zeros(1))


@seeds
def test_value_loss_equals_that_of_the_update(seed: int) -> None:
    values, returns = drawn(6, seed=seed), drawn(6, seed=seed + 10)
    torch.testing.assert_close(losses_solutions.value_loss(values, returns), ppo.value_loss(values, returns))
    column = losses_solutions.value_loss(values[:, None], returns)
    torch.testing.assert_close(column, ppo.value_loss(values, returns))


@seeds
def test_running_statistics_equal_those_of_the_lab(seed: int) -> None:
    found, expected = normalizers_solutions.RunningMeanStd(4), normalization.RunningMeanStd(4)
    for number, size in enumerate((1, 6, 3)):
        batch = 5 * drawn(size, 4, seed=seed + 10 * number) + 7
        found.update(batch)
        expected.update(batch)
        torch.testing.assert_close(found.mean, expected.mean)
        torch.testing.assert_close(found.std, expected.std)


@seeds
def test_scaled_rewards_equal_those_of_the_lab(seed: int) -> None:
    found, expected = normalizers_solutions.RewardScaler(3, 0.9), normalization.RewardScaler(3, 0.9)
    for number in range(3):
        rewards, ended = drawn(10, 3, seed=seed + 10 * number), drawn(10, 3, seed=seed + 5 + 10 * number) > 1
        found.update(rewards, ended)
        expected.update(rewards, ended)
        torch.testing.assert_close(found(rewards).float(), expected(rewards))


@pytest.mark.parametrize("num_minibatches", [1, 3])
def test_epochs_equal_the_update_without_critic_and_entropy(num_minibatches: int) -> None:
    config = PPOConfig(
        num_epochs=2,
        num_minibatches=num_minibatches,
        value_coefficient=0.0,
        entropy_coefficient=0.0,
        normalize_advantages=False,
        clip_gradients=False,
    )
    weights = []
    for side in ("exercise", "lab"):
        torch.manual_seed(0)
        agent = make_agent(config, 5, 3)
        optimizer = torch.optim.SGD(agent.parameters(), lr=0.1)
        observations, actions, advantages = (drawn(*size, seed=7).float() for size in ((10, 5), (10, 3), (10,)))
        torch.manual_seed(1)
        if side == "lab":
            ppo.update(agent, optimizer, observations, actions, advantages, torch.zeros(10), config)
        else:
            orders = [torch.randperm(10) for _ in range(2)]
            old = agent.policy.log_prob(observations, actions).detach()
            epochs_solutions.ppo_epochs(
                agent.policy, optimizer, observations, actions, old, advantages, orders, num_minibatches,
                config.clip_ratio,
            )  # fmt: skip
        weights.append([parameter.detach().clone() for parameter in agent.policy.parameters()])
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other)


def test_info_of_gymnasium_is_as_the_exercise_says() -> None:
    """With autoreset in the same step, `final_obs` has a row for each environment, None where no episode ended."""
    envs = SyncVectorEnv(
        [partial(gymnasium.make, "CartPole-v1", max_episode_steps=steps) for steps in (3, 5)],
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    envs.reset(seed=0)
    infos = [envs.step(np.array([0, 1]))[4] for _ in range(5)]
    envs.close()
    assert all(("final_obs" in info) == ("_final_obs" in info) for info in infos)
    assert any("final_obs" not in info for info in infos)
    for info in infos:
        for ended, row in zip(info.get("_final_obs", []), info.get("final_obs", []), strict=True):
            assert (row is not None) == ended
