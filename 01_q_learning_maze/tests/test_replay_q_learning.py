"""Many agents, one Q-table and experience replay: mazes that are too large for one agent."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import pytest
import torch

from lab.errors import UserError
from maze_env import SimpleMaze
from maze_layout import random_maze
from q_learning_agent import QLearningAgent, run_episode
from replay_q_learning import Iteration, ReplayQLearning, train_with_replay, visited_q_table
from transition_tables import TransitionTables
from value_iteration import as_arrays, value_iteration


def learn(
    layout: Sequence[str] | None, seed: int = 0, n_agents: int = 64
) -> tuple[SimpleMaze, ReplayQLearning, Iteration]:
    maze = SimpleMaze(layout)
    learner = ReplayQLearning(TransitionTables(maze.outcomes(), maze.start, 100), n_agents, seed)
    iterations = list(train_with_replay(learner, 3000))
    return maze, learner, iterations[-1]


def greedy_length(maze: SimpleMaze, learner: ReplayQLearning) -> int:
    """Return the steps of the greedy policy in the environment itself."""
    agent = QLearningAgent(4)
    agent.q_table = visited_q_table(learner)
    env = gym.make("SimpleMaze-v0", layout=maze.layout, max_episode_steps=10 * maze.cells.size)
    return run_episode(env, lambda state: agent.act(state, greedy=True)).length


def test_hundreds_of_random_mazes_end_with_the_shortest_path() -> None:
    for seed in range(150):
        maze, learner, last = learn(random_maze(2 + seed % 9, 2 + seed % 7, seed), seed)
        assert last.converged
        assert last.start_value == 11 - maze.shortest_path_length
        assert greedy_length(maze, learner) == maze.shortest_path_length


def test_a_maze_of_64_x_64_is_learned_in_seconds() -> None:
    maze, learner, last = learn(random_maze(64, 64, seed=1), n_agents=1024)
    assert last.converged
    assert greedy_length(maze, learner) == maze.shortest_path_length > 100


@pytest.mark.parametrize(
    "layout", [["SG"], ["S" + "." * 98 + "G"], ["G..S.G"], ["SX.", "..G"], ["SGG"], ["G", "S", "G"]]
)
def test_narrow_mazes_and_several_goals(layout: list[str]) -> None:
    maze, learner, last = learn(layout)
    assert last.converged
    assert greedy_length(maze, learner) == maze.shortest_path_length


def test_values_are_never_below_the_true_ones_and_equal_at_the_start_in_the_end() -> None:
    maze = SimpleMaze(random_maze(12, 12, seed=4))
    best = torch.from_numpy(value_iteration(maze.P, 1.0))
    learner = ReplayQLearning(TransitionTables(maze.outcomes(), maze.start, 100), n_agents=3)
    for _ in train_with_replay(learner, 3000):
        assert (learner.q >= best - 1e-9)[~maze.is_absorbing].all()
    assert learner.q[maze.start].max() == best[maze.start].max()


def test_without_optimism_the_longer_path_would_pass_for_optimal() -> None:
    """The cheese is three steps to the right and four to the left; low initial values accept either."""
    maze = SimpleMaze(["G...S..G"])
    learner = ReplayQLearning(TransitionTables(maze.outcomes(), maze.start, 100), n_agents=1)
    learner.q.fill_(-100.0)
    for state, next_state in ((4, 3), (3, 2), (2, 1), (1, 0)):
        learner.visited[state, 3] = True
        learner.next_state[state, 3] = next_state
        learner.reward[state, 3] = 10.0 if next_state == 0 else -1.0
        learner.nonterminal[state, 3] = float(next_state != 0)
    while learner.replay():
        pass
    assert learner.greedy_policy_is_optimal()
    assert learner.q[4].max() == 7  # the true optimum is 8
    learner.q[4, 1] = 10.0
    assert not learner.greedy_policy_is_optimal()  # the untried move to the right must be tried first


def test_replay_is_the_update_of_the_dictionary_for_every_remembered_step() -> None:
    maze = SimpleMaze()
    learner = ReplayQLearning(TransitionTables(maze.outcomes(), maze.start, 100), n_agents=2)
    for _ in range(8):
        learner.step()
    learner.q += torch.rand(learner.q.shape, generator=torch.Generator().manual_seed(0))
    agent = QLearningAgent(4, learning_rate=1.0, discount=1.0)
    old_q = {(state, action): float(learner.q[state, action]) for state in range(16) for action in range(4)}
    learner.replay()
    assert 1 < int(learner.visited.sum()) < 32
    for state, action in learner.visited.nonzero().tolist():
        agent.q_table = dict(old_q)
        ((_, next_state, reward, terminated),) = maze.P[state][action]
        agent.update(state, action, reward, next_state, terminated)
        assert float(learner.q[state, action]) == pytest.approx(agent.q_table[state, action], abs=1e-6)
    untouched = ~learner.visited
    expected = torch.tensor(list(old_q.values())).view(16, 4)
    assert torch.equal(learner.q[untouched], expected[untouched])


def test_slip_is_refused() -> None:
    maze = SimpleMaze(slip=0.1)
    with pytest.raises(UserError, match="n_outcomes is 3"):
        ReplayQLearning(TransitionTables(maze.outcomes(), maze.start, 100))


def test_an_environment_in_which_a_circle_costs_nothing_is_refused() -> None:
    """There the best values would be those that the table starts with."""
    lake: Any = gym.make("FrozenLake-v1", is_slippery=False).unwrapped
    with pytest.raises(UserError, match=r"the largest reward before the end is 0\.0; it must be below 0"):
        ReplayQLearning(TransitionTables(as_arrays(lake.P), 0, 100))


def test_outcomes_that_never_happen_do_not_count() -> None:
    lake: Any = gym.make("FrozenLake-v1", is_slippery=True, success_rate=1.0).unwrapped
    assert TransitionTables(as_arrays(lake.P), 0, 100).n_outcomes == 1


def test_tables_of_64_bits_give_the_same_values() -> None:
    learners = [
        ReplayQLearning(TransitionTables(SimpleMaze().outcomes(), 0, 100, dtype=dtype))
        for dtype in (torch.float32, torch.float64)
    ]
    for learner in learners:
        *_, last = train_with_replay(learner, 50)
        assert last.converged
    assert torch.equal(learners[0].q.double(), learners[1].q)


def test_training_stops_after_the_given_iterations() -> None:
    maze = SimpleMaze(random_maze(40, 40, seed=0))
    learner = ReplayQLearning(TransitionTables(maze.outcomes(), maze.start, 100), n_agents=4)
    iterations = list(train_with_replay(learner, 3))
    assert [iteration.number for iteration in iterations] == [1, 2, 3]
    assert not iterations[-1].converged
    assert iterations[-1].steps == 3 * 20 * 4


def test_each_iteration_replays_until_nothing_changes() -> None:
    """From values that start too high, those of a long corridor need more than one pass over the memory."""
    maze = SimpleMaze(["S" + "." * 8 + "G"])
    learner = ReplayQLearning(TransitionTables(maze.outcomes(), maze.start, 100), n_agents=4)
    for _ in train_with_replay(learner, 5):
        assert not learner.replay()


def test_equal_seeds_give_equal_tables() -> None:
    layout = random_maze(10, 10, seed=2)
    first, second = (learn(layout, seed=0)[1].q for _ in range(2))
    assert torch.equal(first, second)
