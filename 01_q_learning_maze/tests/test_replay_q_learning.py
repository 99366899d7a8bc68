"""Many mice, one table and a memory: mazes that are too large for one mouse."""

from collections.abc import Sequence

import gymnasium as gym
import pytest
import torch

from lab.errors import UserError
from maze_env import SimpleMaze
from maze_layout import random_maze
from q_learning_agent import QLearningAgent, play
from replay_q_learning import ReplayQLearning, Round, train_with_replay, tried_values
from value_iteration import value_iteration
from world_tables import World


def learn(layout: Sequence[str] | None, seed: int = 0, n_mice: int = 64) -> tuple[SimpleMaze, ReplayQLearning, Round]:
    maze = SimpleMaze(layout)
    learner = ReplayQLearning(World(maze.outcomes(), maze.start, 100), n_mice, seed)
    rounds = list(train_with_replay(learner, 3000))
    return maze, learner, rounds[-1]


def greedy_length(maze: SimpleMaze, learner: ReplayQLearning) -> int:
    """Steps of the greedy way, walked in the environment itself."""
    agent = QLearningAgent(4)
    agent.q_table = tried_values(learner)
    env = gym.make("SimpleMaze-v0", layout=maze.layout, max_episode_steps=10 * maze.cells.size)
    return play(env, lambda state: agent.act(state, greedy=True)).length


def test_hundreds_of_random_mazes_end_with_the_shortest_path() -> None:
    for seed in range(150):
        maze, learner, last = learn(random_maze(2 + seed % 9, 2 + seed % 7, seed), seed)
        assert last.learned
        assert last.start_value == 11 - maze.shortest_path_length
        assert greedy_length(maze, learner) == maze.shortest_path_length


def test_a_maze_of_64_x_64_is_learned_in_seconds() -> None:
    maze, learner, last = learn(random_maze(64, 64, seed=1), n_mice=1024)
    assert last.learned
    assert greedy_length(maze, learner) == maze.shortest_path_length > 100


@pytest.mark.parametrize(
    "layout", [["SG"], ["S" + "." * 98 + "G"], ["G..S.G"], ["SX.", "..G"], ["SGG"], ["G", "S", "G"]]
)
def test_narrow_mazes_and_several_goals(layout: list[str]) -> None:
    maze, learner, last = learn(layout)
    assert last.learned
    assert greedy_length(maze, learner) == maze.shortest_path_length


def test_values_are_never_below_the_truth_and_in_the_end_equal_it_along_the_way() -> None:
    maze = SimpleMaze(random_maze(12, 12, seed=4))
    best = torch.from_numpy(value_iteration(maze.P, 1.0))
    learner = ReplayQLearning(World(maze.outcomes(), maze.start, 100), n_mice=3)
    for _ in train_with_replay(learner, 3000):
        assert (learner.q >= best - 1e-9)[~maze.is_absorbing].all()
    assert learner.q[maze.start].max() == best[maze.start].max()


def test_without_optimism_the_promise_would_be_kept_by_a_longer_way() -> None:
    """Three steps to the right and four to the left: who expects nothing of the untried is content with either."""
    maze = SimpleMaze(["G...S..G"])
    learner = ReplayQLearning(World(maze.outcomes(), maze.start, 100), n_mice=1)
    learner.q.fill_(-100.0)
    for state, next_state in ((4, 3), (3, 2), (2, 1), (1, 0)):
        learner.tried[state, 3] = True
        learner.next_state[state, 3] = next_state
        learner.reward[state, 3] = 10.0 if next_state == 0 else -1.0
        learner.continues[state, 3] = float(next_state != 0)
    while learner.replay():
        pass
    assert learner.keeps_its_promise()
    assert learner.q[4].max() == 7  # and 8 is to be had
    learner.q[4, 1] = 10.0
    assert not learner.keeps_its_promise()  # the untried way to the right has to be looked at first


def test_replay_is_the_update_of_the_dictionary_for_every_remembered_step() -> None:
    maze = SimpleMaze()
    learner = ReplayQLearning(World(maze.outcomes(), maze.start, 100), n_mice=2)
    for _ in range(8):
        learner.step()
    learner.q += torch.rand(learner.q.shape, generator=torch.Generator().manual_seed(0))
    agent = QLearningAgent(4, learning_rate=1.0, discount=1.0)
    before = {(state, action): float(learner.q[state, action]) for state in range(16) for action in range(4)}
    learner.replay()
    assert 1 < int(learner.tried.sum()) < 32
    for state, action in learner.tried.nonzero().tolist():
        agent.q_table = dict(before)
        ((_, next_state, reward, terminated),) = maze.P[state][action]
        agent.update(state, action, reward, next_state, terminated)
        assert float(learner.q[state, action]) == pytest.approx(agent.q_table[state, action], abs=1e-6)
    untouched = ~learner.tried
    expected = torch.tensor(list(before.values())).view(16, 4)
    assert torch.equal(learner.q[untouched], expected[untouched])


def test_chance_is_refused() -> None:
    maze = SimpleMaze(slip=0.1)
    with pytest.raises(UserError, match="n_outcomes is 3"):
        ReplayQLearning(World(maze.outcomes(), maze.start, 100))


def test_learning_stops_after_the_given_rounds() -> None:
    maze = SimpleMaze(random_maze(40, 40, seed=0))
    learner = ReplayQLearning(World(maze.outcomes(), maze.start, 100), n_mice=4)
    rounds = list(train_with_replay(learner, 3))
    assert [now.number for now in rounds] == [1, 2, 3]
    assert not rounds[-1].learned
    assert rounds[-1].steps == 3 * 20 * 4


def test_equal_seeds_give_equal_tables() -> None:
    layout = random_maze(10, 10, seed=2)
    first, second = (learn(layout, seed=0)[1].q for _ in range(2))
    assert torch.equal(first, second)
