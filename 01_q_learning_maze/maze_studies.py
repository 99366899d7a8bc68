"""What a thousand agents tell that one cannot: how much is luck, and which settings work."""

# N agents, E episodes each, R learning rates, P values of epsilon

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from batched_q_learning import BatchedQLearning, train_batch
from world_tables import World

SWEEP_EPISODES = (20, 50, 200)
SWEEP_RATES = (0.01, 0.03, 0.1, 0.3, 0.5, 1.0)
SWEEP_EPSILONS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
SWEEP_SEEDS = 100  # agents a cell
TEST_SEED = 1_000_000
NEAR = 1.05  # a mean length that is larger than the optimum by no more than this factor counts as the shortest


def train_many(agents: BatchedQLearning, episodes: int, seed: int) -> Tensor:
    """Train `agents` for `episodes` episodes; the total reward of each one, (E, N)."""
    rewards = torch.zeros(episodes, agents.n_agents)  # (E, N)
    for ended in train_batch(agents, seed, episodes):
        rewards[ended.number.long() - 1, ended.agent] = ended.total_reward.float()
    return rewards


def greedy_lengths(agents: BatchedQLearning, episodes: int) -> Tensor:
    """Mean length, (N,), of `episodes` episodes in which `agents` neither explore nor learn."""
    players = BatchedQLearning(agents.world, agents.n_agents, epsilon=0.0, epsilon_min=0.0)
    players.q.copy_(agents.q)
    players.learning_rate.zero_()
    total = torch.zeros(agents.n_agents)  # (N,)
    for ended in train_batch(players, TEST_SEED, episodes):
        total[ended.agent] += ended.length
    return total / episodes


def optimal_share(agents: BatchedQLearning, best_length: float) -> Tensor:
    """1 for each agent (N,) whose greedy way is a shortest one (where chance plays a part: nearly so), else 0."""
    episodes = 1 if agents.world.n_outcomes == 1 else 200
    return (greedy_lengths(agents, episodes) <= NEAR * best_length).float()


@dataclass(frozen=True)
class Panel:
    """One heat-map: the share of agents that know a shortest way after `episodes`, (R, P)."""

    episodes: int
    shares: Tensor


def sweep(world: World, discount: float, best_length: float, seed: int) -> Iterator[Panel]:
    """Train agents with every combination of learning rate and (constant) epsilon at once; a heat-map a duration."""
    grid = torch.tensor(list(product(SWEEP_RATES, SWEEP_EPSILONS)))  # (R * P, 2)
    rates, epsilons = grid.repeat_interleave(SWEEP_SEEDS, dim=0).T  # (N,) each
    for episodes in SWEEP_EPISODES:
        agents = BatchedQLearning(world, len(rates), rates, discount, epsilons, 1.0, epsilons)
        train_many(agents, episodes, seed)
        shares = optimal_share(agents, best_length).view(len(SWEEP_RATES), len(SWEEP_EPSILONS), -1).mean(-1)  # (R, P)
        yield Panel(episodes, shares)
