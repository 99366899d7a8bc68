"""Q-learning from a dictionary to a tensor: thousands of independent agents take their steps in the same operations.

The algorithm is that of `q_learning_agent.py`, line for line. There, one agent's table is a dictionary and a step
updates one entry; here all tables lie in one tensor, and a step updates one entry of each. The agents share nothing.
"""

# N agents, S states, A actions, K outcomes that chance can choose between, E episodes that end in the same step

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from q_learning_agent import require
from world_tables import World

BLOCK = 64  # steps for which random numbers are drawn at once: one large draw is cheaper than many small ones


@dataclass(frozen=True)
class Episodes:
    """The episodes that ended in the same step, a row an agent: `q_learning_agent.Episode` with tensors (E,)."""

    agent: Tensor  # 0 to N - 1
    number: Tensor  # counted from 1, for each agent by itself
    total_reward: Tensor  # undiscounted
    length: Tensor  # steps
    epsilon: Tensor  # the one it was played with
    reached_goal: Tensor


class BatchedQLearning:
    """`n_agents` independent agents, each in its own copy of `world`.

    Args:
        learning_rate, discount, epsilon, epsilon_decay, epsilon_min: as for `QLearningAgent`, one number for all
            agents or a tensor (N,) with one for each.

    Attributes:
        q: the tables, (N, S, A).

    Raises:
        UserError: an argument outside its range, or of the wrong shape.
    """

    def __init__(
        self,
        world: World,
        n_agents: int,
        learning_rate: float | Tensor = 0.5,
        discount: float | Tensor = 0.95,
        epsilon: float | Tensor = 1.0,
        epsilon_decay: float | Tensor = 0.98,
        epsilon_min: float | Tensor = 0.05,
    ) -> None:
        require("n_agents", n_agents, "1 or more", n_agents >= 1)
        most = (2**31 - 1) // (world.n_states * world.n_actions)  # entries are numbered in 32 bits
        require("n_agents", n_agents, f"at most {most} in a world of {world.n_states} states", n_agents <= most)
        self.world, self.n_agents = world, n_agents
        self.learning_rate = self._setting("learning_rate", learning_rate, lowest_allowed=False)
        self.discount = self._setting("discount", discount)
        self.epsilon = self._setting("epsilon", epsilon)
        self.epsilon_decay = self._setting("epsilon_decay", epsilon_decay, lowest_allowed=False)
        self.epsilon_min = self._setting("epsilon_min", epsilon_min)
        require("epsilon_min", epsilon_min, "no more than epsilon", bool((self.epsilon_min <= self.epsilon).all()))
        self.q = torch.zeros(n_agents, world.n_states, world.n_actions, dtype=world.reward.dtype)
        self._entries = self.q.view(-1)  # (N * S * A,)
        self._actions = torch.arange(world.n_actions, dtype=torch.int32)[:, None]  # (A, 1)
        self._tables = torch.arange(n_agents, dtype=torch.int32) * self.q[0].numel()  # (N,): where each one begins
        self._chosen = torch.empty(world.n_actions, n_agents, dtype=torch.int32)
        self._values = torch.empty(world.n_actions, n_agents, dtype=self.q.dtype)
        self.state = torch.full((n_agents,), world.start, dtype=torch.int32)
        self.total_reward = torch.zeros(n_agents, dtype=world.reward.dtype)
        self.length = torch.zeros(n_agents, dtype=torch.int32)
        self.number = torch.ones(n_agents, dtype=torch.int32)
        self.playing = torch.ones(n_agents, dtype=torch.bool)

    def _setting(self, name: str, value: float | Tensor, lowest_allowed: bool = True) -> Tensor:
        setting = torch.as_tensor(value, dtype=self.world.reward.dtype)  # () or (N,)
        require(name, value, f"one number or {self.n_agents}", setting.shape in ((), (self.n_agents,)))
        allowed = (setting >= 0 if lowest_allowed else setting > 0) & (setting <= 1)
        require(name, value, f"in {'[' if lowest_allowed else '('}0, 1]", bool(allowed.all()))
        return setting.expand(self.n_agents).clone()  # (N,)

    def values(self, state: Tensor) -> Tensor:
        """Q of every action, (A, N), with each agent in its `state` (N,); the next call overwrites it."""
        torch.add(self._tables.add(state, alpha=self.world.n_actions), self._actions, out=self._chosen)  # (A, N)
        torch.index_select(self._entries, 0, self._chosen.view(-1), out=self._values.view(-1))
        return self._values  # (A, N)

    def act(self, explore: Tensor, lot: Tensor) -> Tensor:
        """The action of each agent, (N,), decided by two random numbers (N,) in [0, 1).

        A random action is drawn by lot from all actions, a greedy one from the best.
        """
        values = self.values(self.state)  # (A, N)
        candidates = (values == values.amax(0)) | (explore < self.epsilon)  # (A, N)
        count = candidates.view(torch.uint8)  # (A, N): the same bytes as numbers, quicker to add up
        for action in range(1, len(count)):
            count[action] += count[action - 1]  # candidates so far
        winner = (lot * count[-1]).to(torch.uint8)  # (N,): 0 for the first candidate
        return (count <= winner).view(torch.uint8).sum(0, dtype=torch.uint8).int()  # (N,)

    def step(self, explore: Tensor, lot: Tensor, outcome: Tensor) -> Episodes | None:
        """Let every agent take a step and learn from it; returns the episodes that ended with it, if any.

        Args:
            explore, lot: (N,), random numbers in [0, 1) that choose the actions.
            outcome: (N,), which of the K outcomes happens.
        """
        world = self.world
        pair = self.act(explore, lot).add_(self.state, alpha=world.n_actions)  # (N,)
        happened = outcome.add(pair, alpha=world.n_outcomes)  # (N,)
        next_state = world.next_state.index_select(0, happened)
        reward = world.reward.index_select(0, happened)
        continues = world.continues.index_select(0, happened)

        future = self.values(next_state).amax(0).mul_(continues)  # (N,): nothing comes after the goal
        target = future.mul_(self.discount).add_(reward)  # in place: fresh memory costs more than the sums
        entry = pair.add_(self._tables)  # (N,)
        old = self._entries.index_select(0, entry)
        # Q(S,A) ← Q(S,A) + α [R + γ max_a Q(S',a) − Q(S,A)]                        Sutton & Barto (2018), eq. 6.8
        new = target.sub_(old).mul_(self.learning_rate).add_(old)
        self._entries.scatter_(0, entry.long(), new)

        self.state = next_state
        self.total_reward += reward
        self.length += 1
        ended = (self.length >= world.time_limit) | (continues == 0)
        agent = (ended & self.playing).nonzero().view(-1)  # (E,)
        return self._end_episodes(agent, continues[agent] == 0) if len(agent) else None

    def _end_episodes(self, agent: Tensor, reached_goal: Tensor) -> Episodes:
        """Put each `agent` (E,) back at the start, to explore a little less from now on."""
        number, total_reward, length = self.number[agent], self.total_reward[agent], self.length[agent]
        epsilon = self.epsilon[agent]
        self.epsilon[agent] = torch.maximum(self.epsilon_min[agent], epsilon * self.epsilon_decay[agent])
        self.state[agent] = self.world.start
        self.total_reward[agent] = 0
        self.length[agent] = 0
        self.number[agent] += 1
        return Episodes(agent, number, total_reward, length, epsilon, reached_goal)

    def retire(self, agent: Tensor) -> None:
        """Let each `agent` (E,) learn no more, and report no more episodes."""
        self.learning_rate[agent] = 0
        self.playing[agent] = False


def train_batch(agents: BatchedQLearning, seed: int, episodes: int | None = None) -> Iterator[Episodes]:
    """Let `agents` learn for `episodes` episodes each, and yield a record of those that end in the same step.

    An agent that has played its episodes learns no more while it waits for the others. Without `episodes` this goes on
    until nobody asks for more.
    """
    for explore, lot, outcome in random_numbers(agents, seed):
        ended = agents.step(explore, lot, outcome)
        if ended is None:
            continue
        if episodes is not None:
            agents.retire(ended.agent[ended.number == episodes])
        yield ended
        if not agents.playing.any():
            return


def random_numbers(agents: BatchedQLearning, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """What chance decides, step by step without end: the three arguments of `BatchedQLearning.step`, (N,) each."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        draws = torch.rand(BLOCK, 3, agents.n_agents, generator=generator, dtype=agents.q.dtype)  # (BLOCK, 3, N)
        outcomes = agents.world.outcome(draws[:, 2])  # (BLOCK, N)
        for (explore, lot, _), outcome in zip(draws, outcomes, strict=True):
            yield explore, lot, outcome
