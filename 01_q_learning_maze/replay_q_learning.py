"""Q-learning for mazes too large for one mouse: many mice, one table, and a memory that is replayed.

The update is that of `q_learning_agent.py`. Three things make it fast where nothing is left to chance. The mice share
what they learn. Every step is remembered, and the update is applied to all remembered steps again and again (Dyna-Q,
Sutton & Barto, section 8.2; experience replay, Lin 1992), so that news travels without anybody walking. And untried
actions are expected to be as good as can be, so that the mice are drawn to what they do not know.
"""

# N mice, S states, A actions

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from q_learning_agent import require
from world_tables import World

N_MICE = 1024
STEPS, REPLAYS = 20, 20  # of every mouse, and of the whole memory, in one round


@dataclass(frozen=True)
class Round:
    """Where learning stands after one round of steps and replays."""

    number: int  # counted from 1
    steps: int  # taken by all mice so far
    tried: int  # pairs of state and action, so far
    arrivals: int  # mice that came to a goal, so far
    start_value: float  # the return that the table promises at the start
    learned: bool  # the way that the table shows keeps that promise


class ReplayQLearning:
    """One table for `n_mice`, with learning rate 1 and discount 1: in a world without chance both are right.

    A target is exact once the values behind it are, so there is nothing to average; and a discount would fade a far
    cheese out, γ^600 being less than the precision of a float. Whole rewards then give whole values, without rounding.

    Attributes:
        q: the table, (S, A); `best_reward` where untried.
        tried: (S, A).

    Raises:
        UserError: the world has an action with more than one outcome.
    """

    def __init__(self, world: World, n_mice: int = N_MICE, seed: int = 0) -> None:
        require("n_outcomes", world.n_outcomes, "1: what is remembered must come true again", world.n_outcomes == 1)
        require("n_mice", n_mice, "1 or more", n_mice >= 1)
        self.world = world
        self.generator = torch.Generator().manual_seed(seed)
        shape = (world.n_states, world.n_actions)
        self.best_reward = float(world.reward.max())  # the steps before it cost: no return can be larger
        self.q = torch.full(shape, self.best_reward)
        self.tried = torch.zeros(shape, dtype=torch.bool)
        self.next_state = torch.zeros(shape, dtype=torch.int64)  # this and the two below: as remembered, where tried
        self.reward = torch.zeros(shape)
        self.continues = torch.zeros(shape)
        self.state = torch.full((n_mice,), world.start)
        self.arrivals = 0

    def step(self) -> None:
        """Let every mouse take one of the best actions, by lot if several tie, and remember what came of it."""
        values = self.q[self.state]  # (N, A)
        lot = 1 + torch.rand(values.shape, generator=self.generator)  # (N, A)
        action = torch.where(values == values.amax(1, keepdim=True), lot, 0).argmax(1)  # (N,)

        happened = self.state * self.world.n_actions + action  # (N,)
        next_state = self.world.next_state[happened].long()
        continues = self.world.continues[happened]
        step = (self.state, action)
        self.tried[step] = True
        self.next_state[step] = next_state
        self.reward[step] = self.world.reward[happened]
        self.continues[step] = continues

        arrived = continues == 0  # (N,)
        self.state = torch.where(arrived, self.world.start, next_state)
        self.arrivals += int(arrived.sum())

    def replay(self) -> bool:
        """Update every entry that was ever tried, from memory; False if that changes nothing any more."""
        best = self.q.amax(1)  # (S,)
        # Q(S,A) ← Q(S,A) + α [R + γ max_a Q(S',a) − Q(S,A)] with α = γ = 1         Sutton & Barto (2018), eq. 6.8
        target = self.reward + self.continues * best[self.next_state]  # (S, A)
        q = torch.where(self.tried, target, self.q)
        changed = not torch.equal(q, self.q)
        self.q = q
        return changed

    def keeps_its_promise(self) -> bool:
        """Whether every greedy way from the start is known, leads to a goal, and earns what the table promises.

        Untried actions were expected to be as good as can be, and a target is never lower than the truth if the values
        behind it are not: all values are at least the true ones. A way that earns as much is therefore a best one.
        """
        best = self.q.amax(1)  # (S,)
        target = self.reward + self.continues * best[self.next_state]  # (S, A)
        is_best = self.q == best[:, None]  # (S, A)
        known = self.tried & (self.q == target)  # (S, A)
        reached = torch.zeros(len(best), dtype=torch.bool)  # (S,)
        front = torch.tensor([self.world.start])
        while len(front):  # steps cost, so values rise along a known way: it cannot go round in circles
            reached[front] = True
            if (is_best & ~known)[front].any():
                return False
            onward = is_best[front] & (self.continues[front] > 0)  # (front, A)
            front = self.next_state[front][onward].unique()
            front = front[~reached[front]]
        return True


def train_with_replay(learner: ReplayQLearning, most_rounds: int) -> Iterator[Round]:
    """Let `learner` learn, and yield a record a round, until its way keeps its promise or after `most_rounds`."""
    steps = 0
    for number in range(1, most_rounds + 1):
        for _ in range(STEPS):
            learner.step()
        steps += STEPS * len(learner.state)
        for _ in range(REPLAYS):
            if not learner.replay():
                break
        start_value = float(learner.q[learner.world.start].max())
        learned = learner.keeps_its_promise()
        yield Round(number, steps, int(learner.tried.sum()), learner.arrivals, start_value, learned)
        if learned:
            return


def tried_values(learner: ReplayQLearning) -> dict[tuple[int, int], float]:
    """The table as `QLearningAgent.q_table` holds it: (state, action) to Q, of what was tried."""
    pairs: Tensor = learner.tried.nonzero()  # (pairs, 2)
    return {
        (state, action): value
        for (state, action), value in zip(pairs.tolist(), learner.q[learner.tried].tolist(), strict=True)
    }
