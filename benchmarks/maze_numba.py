"""Q-learning in Numba for benchmarks/maze.py: the algorithm of `batched_q_learning.py` as a loop, compiled.

As a script it is the worker process of the benchmark, in an environment with Numba: it answers every request on
standard input, `agents` and `threads` with `seconds` or `steps`, with the steps per second and the mean Q-table.
Without Numba the function below is plain Python, which the tests compare with the tensor.

Shapes: N agents, S states, A actions, K outcomes of an action.
"""

import json
import sys
import time
from typing import Any

import gymnasium as gym
import numpy as np

from transition_tables import TransitionTables
from value_iteration import as_arrays

try:
    import numba  # pyright: ignore[reportMissingImports]

    prange = numba.prange
except ModuleNotFoundError:
    numba, prange = None, range

BLOCK = 64  # steps of every agent between two looks at the clock


def learn(
    q: np.ndarray,
    state: np.ndarray,
    length: np.ndarray,
    epsilon: np.ndarray,
    tables: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    settings: np.ndarray,
    start: int,
    time_limit: int,
    n_steps: int,
) -> None:
    """Let every agent take and learn from `n_steps` steps; everything is float32 and is updated in place.

    Args:
        q: Q-tables (N, S, A).
        state, length, epsilon: of the current episode of every agent, (N,) each.
        tables: next_state, reward, nonterminal and thresholds of `TransitionTables`.
        settings: learning_rate, discount, epsilon_decay and epsilon_min.
    """
    next_states, rewards, nonterminal, thresholds = tables
    learning_rate, discount, epsilon_decay, epsilon_min = settings
    n_actions = q.shape[2]
    for agent in prange(len(state)):
        for _ in range(n_steps):
            values = q[agent, state[agent]]  # (A,)
            # choose an action: any one to explore, else one of the best, at random among ties
            explores = np.random.random() < epsilon[agent]  # noqa: NPY002 - Numba's own, one per thread
            best = values.max()
            n_candidates = 0
            for action in range(n_actions):
                if explores or values[action] == best:
                    n_candidates += 1
            chosen = int(np.random.random() * n_candidates)  # noqa: NPY002
            action = 0
            for candidate in range(n_actions):
                if explores or values[candidate] == best:
                    if chosen == 0:
                        action = candidate
                        break
                    chosen -= 1
            # take it
            draw = np.random.random()  # noqa: NPY002
            outcome = 0
            while outcome < len(thresholds) and draw >= thresholds[outcome]:
                outcome += 1
            index = (state[agent] * n_actions + action) * (len(thresholds) + 1) + outcome
            next_state = next_states[index]
            # learn from it
            target = q[agent, next_state].max() * nonterminal[index] * discount + rewards[index]
            values[action] += (target - values[action]) * learning_rate
            # move on to the next state; episodes end at the goal or at the time limit
            state[agent] = next_state
            length[agent] += 1
            if nonterminal[index] == 0 or length[agent] >= time_limit:
                state[agent] = start
                length[agent] = 0
                epsilon[agent] = max(epsilon_min, epsilon[agent] * epsilon_decay)


class Agents:
    """N agents on FrozenLake-v1, which learn by `function`: `learn` or its compiled form."""

    def __init__(self, function: Any, tables: TransitionTables, n_agents: int, settings: dict[str, float]) -> None:
        self.function = function
        self.q = np.zeros((n_agents, tables.n_states, tables.n_actions), dtype=np.float32)
        self.state = np.full(n_agents, tables.start, dtype=np.int32)
        self.length = np.zeros(n_agents, dtype=np.int32)
        self.epsilon = np.full(n_agents, settings["epsilon"], dtype=np.float32)
        flat = (tables.next_state.numpy(), tables.reward.numpy(), tables.nonterminal.numpy())
        self.tables = (*flat, np.array(tables.cumulative_thresholds, dtype=np.float32))
        names = ("learning_rate", "discount", "epsilon_decay", "epsilon_min")
        self.settings = np.array([settings[name] for name in names], dtype=np.float32)
        self.start, self.time_limit = tables.start, tables.time_limit

    def steps(self, count: int) -> None:
        """Take `count` steps with every agent."""
        episodes = (self.q, self.state, self.length, self.epsilon)
        self.function(*episodes, self.tables, self.settings, self.start, self.time_limit, count)


def answer(request: dict[str, Any], function: Any, settings: dict[str, float], time_limit: int) -> dict[str, Any]:
    """Return steps per second and the mean Q-table (S, A) of new agents, after a time or a number of steps."""
    env: Any = gym.make("FrozenLake-v1")
    tables = TransitionTables(as_arrays(env.unwrapped.P), start=0, time_limit=time_limit)
    numba.set_num_threads(request["threads"])  # pyright: ignore[reportOptionalMemberAccess]
    agents = Agents(function, tables, request["agents"], settings)
    done, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < request["seconds"] if "seconds" in request else done < request["steps"]:
        agents.steps(BLOCK)
        done += BLOCK
    rate = done * request["agents"] / (time.perf_counter() - begin)
    start_value = float(agents.q[:, tables.start].max(axis=1).mean())
    return {"steps_per_second": rate, "start_value": start_value, "mean_q": agents.q.mean(axis=0).tolist()}


def main() -> None:
    """Answer every line of standard input: python maze_numba.py SETTINGS TIME_LIMIT."""
    settings, time_limit = json.loads(sys.argv[1]), int(sys.argv[2])
    function = numba and numba.njit(parallel=True)(learn)
    for line in sys.stdin:
        if numba is None:
            result: dict[str, Any] = {"failed": "numba is not installed (make bench-setup)"}
        else:
            result = answer(json.loads(line), function, settings, time_limit) | {"version": numba.__version__}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
