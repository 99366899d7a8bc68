"""Studies with a thousand agents: how much of a result is luck, and which settings work."""

# N agents, E episodes each, R learning rates, P values of epsilon

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batched_q_learning import BatchedQLearning, train_batch
from transition_tables import TransitionTables

SWEEP_EPISODES = (20, 50, 200)
SWEEP_LEARNING_RATES = (0.01, 0.03, 0.1, 0.3, 0.5, 1.0)
SWEEP_EPSILONS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
SWEEP_SEEDS = 100  # agents per combination
TEST_SEED = 1_000_000
OPTIMALITY_FACTOR = 1.05  # a mean length of up to this many times the optimum counts as optimal


def train_many(agents: BatchedQLearning, episodes: int, seed: int) -> Tensor:
    """Train `agents` for `episodes` episodes; return the total reward of each episode, (E, N)."""
    rewards = torch.zeros(episodes, agents.n_agents, device=agents.dynamics.device)  # (E, N)
    for ended in train_batch(agents, seed, episodes):
        rewards[ended.number.long() - 1, ended.agent] = ended.total_reward.float()
    return rewards


def greedy_episode_lengths(agents: BatchedQLearning, episodes: int) -> Tensor:
    """Return the mean length, (N,), of `episodes` greedy episodes without learning."""
    evaluated = BatchedQLearning(agents.dynamics, agents.n_agents, epsilon=0.0, epsilon_min=0.0)
    evaluated.q.copy_(agents.q)
    evaluated.learning_rate.zero_()
    total = torch.zeros(agents.n_agents, device=agents.dynamics.device)  # (N,)
    for ended in train_batch(evaluated, TEST_SEED, episodes):
        total[ended.agent] += ended.length
    return total / episodes


def greedy_policies_are_optimal(agents: BatchedQLearning, best_length: float) -> Tensor:
    """Return True for each agent (N,) whose greedy path is a shortest one.

    In a maze with slip: whose mean length is at most 5% above `best_length`.
    """
    episodes = 1 if agents.dynamics.n_outcomes == 1 else 200
    return greedy_episode_lengths(agents, episodes) <= OPTIMALITY_FACTOR * best_length


@dataclass(frozen=True)
class RewardBand:
    """Rewards of many agents that differ only in their random numbers."""

    n_agents: int
    low: NDArray[np.float32]  # (E,), 10th percentile over the agents
    high: NDArray[np.float32]  # (E,), 90th percentile
    optimal_fraction: float  # agents whose greedy policy is optimal in the end
    mean_last_reward: float  # over the last 50 episodes


def quantile_band(
    agents: BatchedQLearning,
    episodes: int,
    seed: int,
    best_length: float,
) -> RewardBand:
    """Train `agents` and return the band that contains 80% of their rewards in each episode."""
    rewards = train_many(agents, episodes, seed).cpu().numpy()  # (E, N)
    low, high = np.quantile(rewards, [0.1, 0.9], axis=1)  # (E,) each
    is_optimal = greedy_policies_are_optimal(agents, best_length)  # (N,)
    return RewardBand(
        agents.n_agents,
        low,
        high,
        optimal_fraction=float(is_optimal.float().mean()),
        mean_last_reward=float(rewards[-50:].mean()),
    )


@dataclass(frozen=True)
class SweepResult:
    """The fraction of agents whose greedy policy is optimal after `episodes` episodes."""

    episodes: int
    success_rates: Tensor  # (R, P)


def sweep(
    dynamics: TransitionTables,
    discount: float,
    best_length: float,
    seed: int,
) -> Iterator[SweepResult]:
    """Train agents with every combination of learning rate and (constant) epsilon at once.

    Yields one result for each number of episodes in SWEEP_EPISODES.
    """
    combinations = torch.tensor(list(product(SWEEP_LEARNING_RATES, SWEEP_EPSILONS)))  # (R * P, 2)
    settings = combinations.repeat_interleave(SWEEP_SEEDS, dim=0)  # (N, 2)
    rates = settings[:, 0]  # (N,)
    epsilons = settings[:, 1]  # (N,)
    shape = (len(SWEEP_LEARNING_RATES), len(SWEEP_EPSILONS), SWEEP_SEEDS)
    for episodes in SWEEP_EPISODES:
        agents = BatchedQLearning(
            dynamics,
            n_agents=len(settings),
            learning_rate=rates,
            discount=discount,
            epsilon=epsilons,
            epsilon_decay=1.0,
            epsilon_min=epsilons,
        )
        train_many(agents, episodes, seed)
        is_optimal = greedy_policies_are_optimal(agents, best_length)  # (N,)
        success_rates = is_optimal.float().view(shape).mean(-1)  # (N,) -> (R, P, seeds) -> (R, P)
        yield SweepResult(episodes, success_rates.cpu())
