"""Q-learning for mazes too large for one agent: many agents, one Q-table, and experience replay.

The update is that of `q_learning_agent.py`. Three things make it fast in a deterministic maze. The
agents share one table. Every step is remembered, and the update is applied to all remembered steps
again and again (Dyna-Q, Sutton & Barto, section 8.2; experience replay, Lin 1992), so that values
propagate without anybody walking. And Q-values start at the largest possible return (optimistic
initial values, section 2.6), so that the agents are drawn to what they have not tried.
"""

# N agents, S states, A actions

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from argument_checks import require
from transition_tables import TransitionTables

N_AGENTS = 1024
STEPS_PER_ITERATION = 20  # of every agent
REPLAYS_PER_ITERATION = 20  # of the whole memory, at most


@dataclass(frozen=True)
class Iteration:
    """The record of one iteration of steps and replays."""

    number: int  # counted from 1
    steps: int  # of all agents so far
    visited: int  # state-action pairs tried so far
    goals_reached: int  # by all agents so far
    start_value: float  # value of the start: the best Q there
    converged: bool  # the greedy policy is proven optimal


class ReplayQLearning:
    """One Q-table for `n_agents` agents, with learning rate 1 and discount 1.

    Both are right in a deterministic environment. A target is exact once the values behind it are,
    so there is no noise to average out. And γ^600 is less than the precision of a float, so a
    discounted reward would vanish on a long path; undiscounted whole rewards give whole values,
    without rounding.

    Attributes:
        q: the Q-table, (S, A); `best_reward` where a pair was not yet tried.
        visited: (S, A), True for the pairs that were tried.
        next_state, reward, nonterminal: the memory, (S, A) each, valid where `visited`.

    Raises:
        UserError: an action has more than one outcome, or a step that does not end the episode has
            a reward that is not negative, so that going in circles may cost nothing.
    """

    def __init__(
        self,
        dynamics: TransitionTables,
        n_agents: int = N_AGENTS,
        seed: int = 0,
    ) -> None:
        n_outcomes = dynamics.n_outcomes
        deterministic = "1: replay needs a deterministic environment"
        require("n_outcomes", n_outcomes, deterministic, n_outcomes == 1)
        require("n_agents", n_agents, "1 or more", n_agents >= 1)
        costs = dynamics.reward[dynamics.nonterminal > 0]  # of all steps before the last one
        largest = float(costs.max()) if len(costs) else -1.0
        require("the largest reward before the end", largest, "below 0", largest < 0)
        self.dynamics = dynamics
        device, dtype = dynamics.device, dynamics.reward.dtype
        self.generator = torch.Generator(device).manual_seed(seed)
        shape = (dynamics.n_states, dynamics.n_actions)
        # all steps before the last one cost something, so no return can be larger than this
        self.best_reward = float(dynamics.reward.max())
        self.q = torch.full(shape, self.best_reward, dtype=dtype, device=device)  # (S, A)
        self.visited = torch.zeros(shape, dtype=torch.bool, device=device)  # (S, A)
        self.next_state = torch.zeros(shape, dtype=torch.int64, device=device)  # (S, A)
        self.reward = torch.zeros(shape, dtype=dtype, device=device)  # (S, A)
        self.nonterminal = torch.zeros(shape, dtype=dtype, device=device)  # (S, A)
        self.state = torch.full((n_agents,), dynamics.start, device=device)  # (N,)
        self.goals_reached = 0

    def step(self) -> None:
        """Let every agent take a greedy action, and remember what happened."""
        # choose an action: one of the best, at random if several tie
        values = self.q[self.state]  # (N, A)
        is_best = values == values.amax(1, keepdim=True)  # (N, A)
        draws = torch.rand(values.shape, generator=self.generator, device=values.device)  # (N, A)
        priority = 1 + draws  # (N, A)
        action = torch.where(is_best, priority, 0).argmax(1)  # (N, A) -> (N,)

        # take it: look up the reward and the next state
        index = self.state * self.dynamics.n_actions + action  # (N,)
        next_state = self.dynamics.next_state[index].long()  # (N,)
        reward = self.dynamics.reward[index]  # (N,)
        nonterminal = self.dynamics.nonterminal[index]  # (N,)

        # remember it
        self.visited[self.state, action] = True
        self.next_state[self.state, action] = next_state
        self.reward[self.state, action] = reward
        self.nonterminal[self.state, action] = nonterminal

        # move on to the next state, or from the goal back to the start
        at_goal = nonterminal == 0  # (N,)
        self.state = torch.where(at_goal, self.dynamics.start, next_state)  # (N,)
        self.goals_reached += int(at_goal.sum())

    def _targets(self) -> Tensor:
        """Return R + max_a Q(S',a) of every remembered step, (S, A)."""
        state_values = self.q.amax(1)  # (S,)
        next_values = self.nonterminal * state_values[self.next_state]  # (S, A)
        return self.reward + next_values

    def replay(self) -> bool:
        """Update every visited entry from memory. Return False if that changed nothing."""
        # Q(S,A) ← Q(S,A) + α [R + γ max_a Q(S',a) − Q(S,A)] with α = γ = 1         S&B eq. 6.8
        new_q = torch.where(self.visited, self._targets(), self.q)  # (S, A)
        changed = not torch.equal(new_q, self.q)
        self.q = new_q
        return changed

    def greedy_policy_is_optimal(self) -> bool:
        """Return True if every greedy path from the start is known and earns the value there.

        Why that proves the policy optimal: Q-values start at the largest possible return, and a
        target is never too low if the values behind it are not, so no Q-value is ever below the
        true one. A path that earns as much as such a value is a best one.
        """
        is_greedy = self.q == self.q.amax(1, keepdim=True)  # (S, A)
        is_exact = self.visited & (self.q == self._targets())  # (S, A)
        # follow all greedy actions at once, breadth first; the value rises with every step of a
        # path that is exact, so it cannot lead in circles
        reached = self.q.new_zeros(len(self.q), dtype=torch.bool)  # (S,)
        frontier = torch.tensor([self.dynamics.start], device=self.q.device)  # (F,)
        while len(frontier):
            reached[frontier] = True
            if (is_greedy & ~is_exact)[frontier].any():
                return False
            continues = is_greedy[frontier] & (self.nonterminal[frontier] > 0)  # (F, A)
            successors = self.next_state[frontier][continues].unique()
            frontier = successors[~reached[successors]]
        return True


def train_with_replay(learner: ReplayQLearning, max_iterations: int) -> Iterator[Iteration]:
    """Train `learner` and yield a record of each iteration.

    Stops when the greedy policy is optimal, or after `max_iterations`.
    """
    steps = 0
    for number in range(1, max_iterations + 1):
        # gather experience: all agents walk through the maze
        for _ in range(STEPS_PER_ITERATION):
            learner.step()
        steps += STEPS_PER_ITERATION * len(learner.state)
        # replay it until nothing changes any more, or long enough
        for _ in range(REPLAYS_PER_ITERATION):
            if not learner.replay():
                break
        # check whether the policy is optimal, and report
        start_value = float(learner.q[learner.dynamics.start].max())
        visited = int(learner.visited.sum())
        converged = learner.greedy_policy_is_optimal()
        yield Iteration(
            number,
            steps,
            visited,
            learner.goals_reached,
            start_value,
            converged,
        )
        if converged:
            return


def visited_q_table(learner: ReplayQLearning) -> dict[tuple[int, int], float]:
    """Return the visited entries as `QLearningAgent.q_table` holds them: (state, action) to Q."""
    pairs = learner.visited.nonzero().tolist()  # P pairs of [state, action]
    values = learner.q[learner.visited].tolist()  # (P,)
    return {(state, action): value for (state, action), value in zip(pairs, values, strict=True)}
