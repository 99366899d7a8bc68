"""Q-learning with a tensor instead of a dictionary: thousands of agents step in the same operations.

The algorithm is that of `q_learning_agent.py`, line for line. There, one agent's Q-table is a
dictionary and a step updates one entry; here all Q-tables are in one tensor, and a step updates one
entry of each. The agents are independent: they share nothing.
"""

# N agents, S states, A actions, K outcomes of an action, E episodes that end in the same step

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from argument_checks import require, require_positive
from transition_tables import TransitionTables

BLOCK = 64  # steps whose random numbers are drawn at once: one large draw is cheaper than many
MAX_ACTIONS = 255  # they are counted in bytes
MAX_ENTRIES = 2**31 - 1  # of all Q-tables together: they are indexed in 32 bits


@dataclass(frozen=True)
class Episodes:
    """The episodes that ended in the same step: `q_learning_agent.Episode` with tensors (E,)."""

    agent: Tensor  # 0 to N - 1
    number: Tensor  # counted from 1, separately for each agent
    total_reward: Tensor  # undiscounted
    length: Tensor  # steps
    epsilon: Tensor  # the probability of a random action in this episode
    reached_goal: Tensor


class BatchedQLearning:
    """`n_agents` independent agents, each in its own environment with the same `dynamics`.

    All tensors are on the device of `dynamics`, where the random numbers are drawn too.

    Args:
        learning_rate, discount, epsilon, epsilon_decay, epsilon_min: as for `QLearningAgent`, one
            number for all agents or a tensor (N,) with one for each.

    Attributes:
        q: the Q-tables, (N, S, A).
        state, total_reward, length, number: of the current episode of each agent, (N,) each.
        active: (N,), False for agents that `freeze` has stopped.

    Raises:
        UserError: an argument outside its range, or of the wrong shape.
    """

    def __init__(
        self,
        dynamics: TransitionTables,
        n_agents: int,
        learning_rate: float | Tensor = 0.5,
        discount: float | Tensor = 0.95,
        epsilon: float | Tensor = 1.0,
        epsilon_decay: float | Tensor = 0.98,
        epsilon_min: float | Tensor = 0.05,
    ) -> None:
        n_states, n_actions = dynamics.n_states, dynamics.n_actions
        require_positive("n_agents", n_agents)
        few_enough = n_actions <= MAX_ACTIONS
        require("dynamics", f"{n_actions} actions", f"{MAX_ACTIONS} at most", few_enough)
        most = MAX_ENTRIES // (n_states * n_actions)
        require("n_agents", n_agents, f"at most {most} with {n_states} states", n_agents <= most)
        self.dynamics = dynamics
        self.n_agents = int(n_agents)
        self.learning_rate = self._setting("learning_rate", learning_rate, include_zero=False)
        self.discount = self._setting("discount", discount)
        self.epsilon = self._setting("epsilon", epsilon)
        self.epsilon_decay = self._setting("epsilon_decay", epsilon_decay, include_zero=False)
        self.epsilon_min = self._setting("epsilon_min", epsilon_min)
        below_epsilon = bool((self.epsilon_min <= self.epsilon).all())
        require("epsilon_min", epsilon_min, "no more than epsilon", below_epsilon)

        dtype = dynamics.reward.dtype
        device = dynamics.device
        self.q = torch.zeros(n_agents, n_states, n_actions, dtype=dtype, device=device)
        self.state = torch.full((n_agents,), dynamics.start, dtype=torch.int32, device=device)
        self.total_reward = torch.zeros(n_agents, dtype=dtype, device=device)
        self.length = torch.zeros(n_agents, dtype=torch.int32, device=device)
        self.number = torch.ones(n_agents, dtype=torch.int32, device=device)
        self.active = torch.ones(n_agents, dtype=torch.bool, device=device)
        self._rate_before = self.learning_rate.clone()  # (N,): of frozen agents, for `unfreeze`

        self._flat_q = self.q.view(-1)  # (N, S, A) -> (N * S * A,)
        self._actions = torch.arange(n_actions, dtype=torch.int32, device=device)[:, None]  # (A, 1)
        # where the Q-table of each agent begins in _flat_q
        agents = torch.arange(n_agents, dtype=torch.int32, device=device)  # (N,)
        self._offsets = agents * (n_states * n_actions)  # (N,)
        # memory that every step uses again: allocating it costs more than the arithmetic
        self._index_buffer = torch.empty(n_actions, n_agents, dtype=torch.int32, device=device)
        self._value_buffer = torch.empty(n_actions, n_agents, dtype=dtype, device=device)

    def _setting(self, name: str, value: float | Tensor, include_zero: bool = True) -> Tensor:
        # checked before it is rounded to the type of the tables, in which 1e-50 is 0
        setting = torch.as_tensor(value, dtype=torch.float64, device="cpu")  # () or (N,)
        fits = setting.shape in ((), (self.n_agents,))
        require(name, value, f"one number or {self.n_agents}", fits)
        large_enough = setting >= 0 if include_zero else setting > 0
        in_range = bool((large_enough & (setting <= 1)).all())
        require(name, value, "in [0, 1]" if include_zero else "in (0, 1]", in_range)
        setting = setting.to(self.dynamics.reward.dtype).to(self.dynamics.device)
        return setting.expand(self.n_agents).clone()  # (N,)

    def q_values(self, state: Tensor) -> Tensor:
        """Return Q of every action, (A, N), with each agent in its `state` (N,).

        The result is a buffer that the next call overwrites.
        """
        first_entry = self._offsets.add(state, alpha=self.dynamics.n_actions)  # (N,)
        torch.add(first_entry, self._actions, out=self._index_buffer)  # (N,) + (A, 1) -> (A, N)
        index = self._index_buffer.view(-1)  # (A, N) -> (A * N,)
        torch.index_select(self._flat_q, 0, index, out=self._value_buffer.view(-1))
        return self._value_buffer  # (A, N)

    def act(self, explore_draw: Tensor, tie_break_draw: Tensor) -> Tensor:
        """Return the epsilon-greedy action of each agent, (N,).

        Args:
            explore_draw: (N,), random numbers in [0, 1); one below epsilon means to explore.
            tie_break_draw: (N,), random numbers in [0, 1) that choose among the candidates: all
                actions of an agent that explores, its best ones otherwise.
        """
        values = self.q_values(self.state)  # (A, N)
        is_best = values == values.amax(0)  # (A, N)
        explores = explore_draw < self.epsilon  # (N,)
        is_candidate = is_best | explores  # (A, N)
        # number the candidates from 1: a running sum over the actions, in bytes for speed
        candidate_number = is_candidate.view(torch.uint8)  # (A, N)
        for action in range(1, len(candidate_number)):
            candidate_number[action] += candidate_number[action - 1]
        n_candidates = candidate_number[-1]  # (N,)
        # choose one of them; it comes after all actions whose number is at most `chosen`
        chosen = (tie_break_draw * n_candidates).to(torch.uint8)  # (N,), 0 for the first candidate
        comes_before = candidate_number <= chosen  # (A, N)
        return comes_before.view(torch.uint8).sum(0, dtype=torch.uint8).int()  # (A, N) -> (N,)

    def step(
        self,
        explore_draw: Tensor,
        tie_break_draw: Tensor,
        outcome: Tensor,
    ) -> Episodes | None:
        """Let every agent take a step and learn from it. Return the episodes that ended, if any.

        Args:
            explore_draw, tie_break_draw: (N,), random numbers in [0, 1) that choose the actions.
            outcome: (N,), which of the K outcomes of its action happens to each agent.
        """
        dynamics = self.dynamics
        # choose an action
        action = self.act(explore_draw, tie_break_draw)  # (N,)
        # take it: look up the reward and the next state
        pair = action.add_(self.state, alpha=dynamics.n_actions)  # (N,): state * A + action
        outcome_index = outcome.add(pair, alpha=dynamics.n_outcomes)  # (N,): pair * K + outcome
        next_state = dynamics.next_state.index_select(0, outcome_index)  # (N,)
        reward = dynamics.reward.index_select(0, outcome_index)  # (N,)
        nonterminal = dynamics.nonterminal.index_select(0, outcome_index)  # (N,)

        # learn from this one step; in place, since fresh memory costs more than the arithmetic
        next_value = self.q_values(next_state).amax(0)  # (A, N) -> (N,)
        next_value.mul_(nonterminal)  # the value of a terminal state is 0
        target = next_value.mul_(self.discount).add_(reward)  # (N,)
        entry = pair.add_(self._offsets)  # (N,)
        old_value = self._flat_q.index_select(0, entry)  # (N,)
        td_error = target.sub_(old_value)  # (N,)
        # Q(S,A) ← Q(S,A) + α [R + γ max_a Q(S',a) − Q(S,A)]        Sutton & Barto (2018), eq. 6.8
        new_value = td_error.mul_(self.learning_rate).add_(old_value)  # (N,)
        self._flat_q.scatter_(0, entry.long(), new_value)

        # move on to the next state; episodes end at the goal or at the time limit
        self.state = next_state
        self.total_reward += reward
        self.length += 1
        terminated = nonterminal == 0  # (N,)
        truncated = self.length >= dynamics.time_limit  # (N,)
        ended = (terminated | truncated) & self.active  # (N,)
        agent = ended.nonzero().view(-1)  # (N,) -> (E,)
        if len(agent) == 0:
            return None
        return self._end_episodes(agent, terminated[agent])

    def _end_episodes(self, agent: Tensor, reached_goal: Tensor) -> Episodes:
        """Return the records of the episodes of each `agent` (E,), and start their next ones."""
        epsilon = self.epsilon[agent]
        episodes = Episodes(
            agent,
            self.number[agent],
            self.total_reward[agent],
            self.length[agent],
            epsilon,
            reached_goal,
        )
        # decay ε: explore a little less from the next episode on
        decayed = epsilon * self.epsilon_decay[agent]
        self.epsilon[agent] = torch.maximum(self.epsilon_min[agent], decayed)
        self._start_episode(agent)
        self.number[agent] += 1
        return episodes

    def freeze(self, agent: Tensor) -> None:
        """Freeze each `agent` (E,): it stops learning, and its episodes are no longer recorded."""
        agent = agent[self.active[agent]]
        self._rate_before[agent] = self.learning_rate[agent]
        self.learning_rate[agent] = 0
        self.active[agent] = False

    def unfreeze(self, agent: Tensor) -> None:
        """Let each `agent` (E,) that is frozen learn again, from the start of a new episode."""
        agent = agent[~self.active[agent]]
        self.learning_rate[agent] = self._rate_before[agent]
        self.active[agent] = True
        self._start_episode(agent)

    def _start_episode(self, agent: Tensor) -> None:
        """Put each `agent` (E,) back to the start."""
        self.state[agent] = self.dynamics.start
        self.total_reward[agent] = 0
        self.length[agent] = 0


def train_batch(
    agents: BatchedQLearning,
    seed: int,
    episodes: int | None = None,
) -> Iterator[Episodes]:
    """Train `agents` until each has finished `episodes` episodes, earlier ones included.

    Yields the records of the episodes that end together. An agent that has finished its episodes is
    frozen while it waits for the others. Frozen agents that have not finished learn again, also
    those of an earlier call with fewer episodes. With `episodes` None training continues without
    end.
    """
    finished = torch.zeros_like(agents.active)  # (N,)
    if episodes is not None:
        require("episodes", episodes, "0 or more", episodes >= 0)
        finished = agents.number > episodes
    agents.unfreeze((~finished & ~agents.active).nonzero().view(-1))
    agents.freeze(finished.nonzero().view(-1))
    if not agents.active.any():
        return
    for explore_draw, tie_break_draw, outcome in random_numbers(agents, seed):
        ended = agents.step(explore_draw, tie_break_draw, outcome)
        if ended is None:
            continue
        if episodes is not None:
            agents.freeze(ended.agent[ended.number >= episodes])
        yield ended
        if not agents.active.any():
            return


def random_numbers(
    agents: BatchedQLearning,
    seed: int,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the arguments of `BatchedQLearning.step`, (N,) each, for one step after another."""
    device = agents.dynamics.device
    generator = torch.Generator(device).manual_seed(seed)
    shape = (BLOCK, 3, agents.n_agents)
    dtype = agents.q.dtype
    while True:
        draws = torch.rand(shape, generator=generator, dtype=dtype, device=device)  # (BLOCK, 3, N)
        outcomes = agents.dynamics.outcome(draws[:, 2])  # (BLOCK, N)
        for step in range(BLOCK):
            yield draws[step, 0], draws[step, 1], outcomes[step]
