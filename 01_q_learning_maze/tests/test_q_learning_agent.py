"""Q-learning compared with exact dynamic programming and with autograd, and its known pitfalls."""

import enum
import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import UserError
from maze_drawing import q_array
from maze_env import RIGHT, SimpleMaze
from maze_layout import random_maze
from q_learning_agent import QLearningAgent, run_episode, train
from value_iteration import greedy_policy, value_iteration


def trained(episodes: int, layout: list[str] | None = None, **settings: Any) -> QLearningAgent:
    env = gym.make("SimpleMaze-v0", layout=layout)
    agent = QLearningAgent(4, **settings)
    for _ in train(agent, env, episodes, seed=settings.get("seed", 0)):
        pass
    return agent


def greedy_length(agent: QLearningAgent, layout: list[str] | None = None) -> int:
    env = gym.make("SimpleMaze-v0", layout=layout)
    return run_episode(env, lambda state: agent.act(state, greedy=True)).length


# --- exact planning -------------------------------------------------------------------------------------------------


@given(st.integers(1, 7), st.integers(2, 7), st.integers(0, 999), st.sampled_from([0.9, 0.99, 1.0]))
@settings(max_examples=40, deadline=None)
def test_optimal_policy_takes_a_shortest_path(rows: int, columns: int, seed: int, discount: float) -> None:
    maze = SimpleMaze(random_maze(rows, columns, seed))
    policy = greedy_policy(value_iteration(maze.P, discount)).tolist()
    trajectory = run_episode(gym.make("SimpleMaze-v0", layout=maze.layout), policy.__getitem__)
    assert trajectory.reached_goal
    assert trajectory.length == maze.shortest_path_length


def test_optimal_values_equal_the_formula_in_the_docstring() -> None:
    best_q = value_iteration(SimpleMaze().P, discount=0.9)
    steps = np.arange(5)
    assert best_q[0].max() == pytest.approx(-(0.9**steps).sum() + 10 * 0.9**5)
    assert best_q[14, RIGHT] == 10
    assert (best_q[[5, 10, 15]] == 0).all()  # walls and goal


def test_value_iteration_equals_the_solution_of_a_linear_system() -> None:
    maze, discount = SimpleMaze(slip=0.3), 0.9
    best_q = value_iteration(maze.P, discount)
    transition, reward = np.zeros((16, 16)), np.zeros(16)
    for state, action in enumerate(greedy_policy(best_q).tolist()):
        for probability, next_state, r, terminated in maze.P[state][action]:
            transition[state, next_state] += probability * (not terminated)
            reward[state] += probability * r
    values = np.linalg.solve(np.eye(16) - discount * transition, reward)  # v = r + γ P v
    assert best_q.max(axis=1) == pytest.approx(values, abs=1e-8)


def test_value_iteration_works_for_other_environments_of_gymnasium() -> None:
    cliff: Any = gym.make("CliffWalking-v1").unwrapped
    assert value_iteration(cliff.P, 1.0)[36].max() == -13  # the known optimum of example 6.6


# --- the update -----------------------------------------------------------------------------------------------------


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(-10, 10), st.floats(0.01, 1), st.floats(0, 1), st.booleans())
@settings(deadline=None)  # the first call loads the optimizer
def test_an_update_is_a_gradient_step_on_half_the_squared_error(
    old: float, future: float, reward: float, learning_rate: float, discount: float, terminated: bool
) -> None:
    agent = QLearningAgent(2, learning_rate=learning_rate, discount=discount)
    agent.q_table = {(0, 0): old, (1, 0): future, (1, 1): future - 1}
    agent.update(0, 0, reward, 1, terminated)

    table = torch.tensor([[old, 0.0], [future, future - 1]], dtype=torch.float64, requires_grad=True)
    target = reward + discount * table[1].max().detach() * (not terminated)  # the target is held fixed
    (0.5 * (target - table[0, 0]) ** 2).backward()
    torch.optim.SGD([table], lr=learning_rate).step()
    assert agent.q_table[0, 0] == pytest.approx(table[0, 0].item(), abs=1e-12)
    assert agent.q_table[1, 0] == table[1, 0].item()


def test_no_bootstrapping_through_the_goal() -> None:
    agent = QLearningAgent(4, learning_rate=1.0)
    agent.q_table[15, 0] = 1000.0  # whatever the table holds there must not count
    agent.update(14, RIGHT, 10.0, 15, terminated=True)
    assert agent.q_table[14, RIGHT] == 10.0


def test_bootstrapping_through_truncation() -> None:
    env = gym.make("SimpleMaze-v0", layout=["S..G"], max_episode_steps=1)
    agent = QLearningAgent(4, learning_rate=1.0, discount=0.5, epsilon=0.0, epsilon_min=0.0)
    agent.q_table = {(0, RIGHT): 1.0, (1, RIGHT): 8.0}
    (episode,) = train(agent, env, 1, seed=0)
    assert (episode.length, episode.reached_goal) == (1, False)
    assert agent.q_table[0, RIGHT] == -1 + 0.5 * 8


def test_convergence_to_the_optimum_in_the_default_maze() -> None:
    maze = SimpleMaze()
    agent = trained(1500, discount=0.9, epsilon=1.0, epsilon_decay=1.0)  # acts at random, learns the best policy
    learned, best = q_array(agent.q_table, 16), value_iteration(maze.P, 0.9)
    assert learned[~maze.is_absorbing] == pytest.approx(best[~maze.is_absorbing], abs=1e-6)


def test_convergence_to_the_optimum_where_the_mouse_slips() -> None:
    maze = SimpleMaze(slip=0.3)
    agent = QLearningAgent(4, discount=0.9)
    visits: Counter[tuple[int, int]] = Counter()
    generator = np.random.default_rng(0)
    maze.reset(seed=0)
    for state in generator.choice(np.flatnonzero(~maze.is_absorbing), size=60_000).tolist():
        action = int(generator.integers(4))
        visits[state, action] += 1
        agent.learning_rate = visits[state, action] ** -0.7  # decays as stochastic approximation requires
        maze.state = state
        next_state, reward, terminated, *_ = maze.step(action)
        agent.update(state, action, reward, next_state, terminated)
    learned, best = q_array(agent.q_table, 16), value_iteration(maze.P, 0.9)
    assert learned[~maze.is_absorbing] == pytest.approx(best[~maze.is_absorbing], abs=0.35)


# --- acting and exploring -------------------------------------------------------------------------------------------


def test_ties_are_broken_at_random_and_only_among_the_best() -> None:
    agent = QLearningAgent(4, epsilon=0.0, epsilon_min=0.0)
    agent.q_table = {(0, 0): 1.0, (0, 1): 2.0, (0, 2): -1.0, (0, 3): 2.0}
    counts = Counter(agent.act(0) for _ in range(2000))
    assert set(counts) == {1, 3}
    assert counts[1] == pytest.approx(1000, abs=100)  # more than four standard deviations
    assert set(Counter(agent.act(5) for _ in range(200))) == {0, 1, 2, 3}  # never seen: all tie at 0


def test_epsilon_is_the_probability_of_a_random_action_and_greedy_ignores_it() -> None:
    agent = QLearningAgent(4, epsilon=0.4)
    agent.q_table = {(0, 2): 1.0}
    best = sum(agent.act(0) == 2 for _ in range(5000)) / 5000
    assert best == pytest.approx(0.6 + 0.4 / 4, abs=0.03)
    assert all(agent.act(0, greedy=True) == 2 for _ in range(100))


def test_epsilon_decays_by_its_factor_to_its_minimum() -> None:
    agent = QLearningAgent(4, epsilon=0.8, epsilon_decay=0.5, epsilon_min=0.15)
    epsilons = [episode.epsilon for episode in train(agent, gym.make("SimpleMaze-v0"), 5, seed=0)]
    assert epsilons == pytest.approx([0.8, 0.4, 0.2, 0.15, 0.15])


OUT_OF_RANGE = {
    "n_actions": [0, -1, 2.5, np.float64(2), True],
    "learning_rate": [0.0, 1.5, float("nan")],
    "discount": [-0.1, 1.01, float("nan")],
    "epsilon": [-0.1, 1.1],
    "epsilon_decay": [0.0, 1.1],
    "epsilon_min": [-0.1],
    "seed": [-1],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in OUT_OF_RANGE for value in OUT_OF_RANGE[name]])
def test_arguments_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^{name} is {value}; it must be"):
        QLearningAgent(**{"n_actions": 4, name: value})  # pyright: ignore[reportArgumentType]


def test_the_number_of_actions_may_be_gymnasiums(tmp_path: Path) -> None:
    agent = QLearningAgent(gym.spaces.Discrete(4).n)  # pyright: ignore[reportArgumentType]
    agent.save(tmp_path / "table.json")
    assert QLearningAgent.load(tmp_path / "table.json").n_actions == 4


def test_a_minimum_above_epsilon_is_refused() -> None:
    with pytest.raises(UserError, match=r"epsilon_min is 0\.2; it must be in \[0, 0\.1\]"):
        QLearningAgent(4, epsilon=0.1, epsilon_min=0.2)


# --- training -------------------------------------------------------------------------------------------------------


def test_a_hundred_seeds_all_end_at_the_shortest_path() -> None:
    lengths = [greedy_length(trained(300, seed=seed)) for seed in range(100)]
    assert lengths == [6] * 100


def test_hundreds_of_random_mazes_end_with_the_shortest_path() -> None:
    """Learning rate 1 suits a deterministic maze, and a discount near 1 suits long paths."""
    failures = []
    for seed in range(200):
        maze = SimpleMaze(random_maze(1 + seed % 10, 2 + seed % 9, seed))
        agent = trained(200, list(maze.layout), learning_rate=1.0, discount=0.99, seed=seed)
        if greedy_length(agent, list(maze.layout)) != maze.shortest_path_length:
            failures.append(seed)
    assert failures == []


def test_equal_seeds_give_equal_tables_and_different_seeds_do_not() -> None:
    first, second, other = (trained(20, seed=seed).q_table for seed in (3, 3, 4))
    assert first == second
    assert first != other


def test_records_are_consistent() -> None:
    env = gym.make("SimpleMaze-v0", layout=["S.G"], max_episode_steps=50)
    for number, episode in enumerate(train(QLearningAgent(4), env, 30, seed=0), 1):
        assert episode.number == number
        assert episode.total_reward == (11 if episode.reached_goal else 0) - episode.length


def test_training_can_stop_after_any_episode() -> None:
    records = train(QLearningAgent(4), gym.make("SimpleMaze-v0"), 10**9, seed=0)
    assert [episode.number for episode in islice(records, 3)] == [1, 2, 3]


def test_only_the_first_episode_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same seed in every episode the mouse would slip in the same steps of each."""
    env = gym.make("SimpleMaze-v0", slip=0.5)
    seeds: list[int | None] = []
    reset = env.reset

    def recorded(*, seed: int | None = None, **options: Any) -> Any:
        seeds.append(seed)
        return reset(seed=seed, **options)

    monkeypatch.setattr(env, "reset", recorded)
    for _ in train(QLearningAgent(4), env, 3, seed=7):
        pass
    assert seeds == [7, None, None]


class OneStep(gym.Env[Any, Any]):
    """An environment with the given spaces whose episodes have one step."""

    def __init__(self, observation: object = 0, reward: float = 0.0, actions: gym.Space[Any] | None = None) -> None:
        self.observation, self.reward = observation, reward
        self.action_space = actions or gym.spaces.Discrete(4)

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        return self.observation, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation, self.reward, True, False, {}


UNSUITABLE: dict[str, tuple[OneStep, str]] = {
    "array": (OneStep(np.zeros(2)), "an observation is a ndarray; a table needs numbers"),
    "dictionary": (OneStep({"x": 1}), "an observation is a dict; a table needs numbers"),
    "NaN": (OneStep(reward=float("nan")), "the environment gave the reward nan; it must be a finite number"),
    "infinite": (OneStep(reward=float("inf")), "the environment gave the reward inf"),
    "fewer actions": (OneStep(actions=gym.spaces.Discrete(3)), r"must be Discrete\(4\), the actions of the agent"),
    "start": (OneStep(actions=gym.spaces.Discrete(4, start=1)), r"must be Discrete\(4\)"),
    "continuous": (OneStep(actions=gym.spaces.Box(-1, 1)), r"must be Discrete\(4\)"),
}


@pytest.mark.parametrize("name", list(UNSUITABLE))
def test_an_unsuitable_environment_is_refused_in_one_line(name: str) -> None:
    env, message = UNSUITABLE[name]
    with pytest.raises(UserError, match=message) as error:
        list(train(QLearningAgent(4), env, 1, seed=0))
    assert str(error.value).isprintable()


def test_texts_and_tuples_are_states() -> None:
    for state in ("left", (1, (2, "x"))):
        agent = QLearningAgent(4, learning_rate=1.0)
        list(train(agent, OneStep(state, reward=3.0), 1, seed=0))
        assert [*agent.q_table.values()] == [3.0]


TWO_PATHS = ["G...S..G"]  # cheese 3 steps to the right and 4 to the left


def pessimist(epsilon: float, seed: int) -> int:
    """Return the steps to the cheese of an agent whose initial values are the return of never arriving, -1 / 0.05."""
    agent = QLearningAgent(4, epsilon=epsilon, epsilon_min=epsilon / 20, seed=seed)
    agent.q_table = {(state, action): -20.0 for state in range(8) for action in range(4)}
    for _ in train(agent, gym.make("SimpleMaze-v0", layout=TWO_PATHS), 300, seed):
        pass
    return greedy_length(agent, TWO_PATHS)


def test_without_exploring_the_agent_keeps_the_first_path() -> None:
    assert {pessimist(epsilon=0.0, seed=seed) for seed in range(20)} == {3, 4}
    assert {pessimist(epsilon=1.0, seed=seed) for seed in range(20)} == {3}


def test_optimism_explores_by_itself() -> None:
    """Before the first goal, tried actions have negative values, so the untried ones with value 0 look best."""
    agents = [trained(300, epsilon=0.0, epsilon_min=0.0, seed=seed) for seed in range(20)]
    assert {greedy_length(agent) for agent in agents} == {6}


def test_with_a_small_discount_distant_cheese_has_no_effect() -> None:
    corridor = SimpleMaze(["S" + "." * 58 + "G"])
    value_range = {discount: np.ptp(value_iteration(corridor.P, discount)[0]) for discount in (0.3, 0.95)}
    assert value_range[0.95] > 0.05  # at the start the best action differs from the worst ...
    assert value_range[0.3] < 1e-9  # ... and with a small discount it does not
    assert max(greedy_length(trained(300, discount=0.0, seed=seed)) for seed in range(5)) > 6


# --- saving and loading ---------------------------------------------------------------------------------------------


def test_a_saved_agent_can_be_loaded(tmp_path: Path) -> None:
    agent = trained(30, learning_rate=0.3, discount=0.9, epsilon=0.7, epsilon_decay=0.9, epsilon_min=0.1)
    agent.save(tmp_path / "q.json")
    loaded = QLearningAgent.load(tmp_path / "q.json")
    assert loaded.q_table == agent.q_table
    for name in ("n_actions", "learning_rate", "discount", "epsilon", "epsilon_decay", "epsilon_min"):
        assert getattr(loaded, name) == getattr(agent, name)
    loaded.act(0)
    loaded.update(0, 0, -1.0, 1, False)


OLD_FILE = """{
  "kind": "tabular Q-learning agent",
  "n_actions": 4,
  "learning_rate": 0.5,
  "discount": 0.95,
  "epsilon": 0.05,
  "epsilon_decay": 0.98,
  "epsilon_min": 0.05,
  "q_table": {
    "0,2": 3.25,
    "14,1": 10.0
  }
}
"""


def test_the_file_format_stays(tmp_path: Path) -> None:
    file = tmp_path / "q.json"
    file.write_text(OLD_FILE)
    agent = QLearningAgent.load(file)
    assert agent.q_table == {(0, 2): 3.25, (14, 1): 10.0}
    assert (agent.epsilon, agent.epsilon_decay) == (0.05, 0.98)
    agent.save(file)
    assert file.read_text() == OLD_FILE


DAMAGED = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "foreign": lambda text: '{"hello": 1}',
    "list": lambda text: "[1, 2]",
    "no table": lambda text: text.replace("q_table", "table"),
    "action": lambda text: text.replace('"0,1"', '"0,9"'),
    "one action too many": lambda text: text.replace('"0,1"', '"0,4"'),
    "negative action": lambda text: text.replace('"0,1"', '"0,-1"'),
    "code": lambda text: text.replace('"0,1"', '"print(0),1"'),
    "list as state": lambda text: text.replace('"0,1"', '"[0],1"'),
    "deep": lambda text: text.replace('"0,1"', '"' + "(" * 9999 + ',1"'),
    "other spelling": lambda text: text.replace('"0,1"', '"0, 1"'),
    "number too large": lambda text: text.replace('"q_table": {', '"q_table": {"77,0": 1' + "0" * 400 + ","),
    "truth value": lambda text: text.replace('"q_table": {', '"q_table": {"77,0": true,'),
    "truth value as setting": lambda text: text.replace('"n_actions": 4', '"n_actions": true'),
    "key": lambda text: text.replace('"0,1"', '"zero"'),
    "value": lambda text: json.dumps({**json.loads(text), "q_table": {"0,1": "high"}}),
    "infinite": lambda text: json.dumps({**json.loads(text), "q_table": {"0,1": float("inf")}}),
    "table": lambda text: json.dumps({**json.loads(text), "q_table": 5}),
    "setting": lambda text: json.dumps({**json.loads(text), "epsilon": 7}),
}


@pytest.mark.parametrize("damage", list(DAMAGED))
def test_a_damaged_or_foreign_file_is_refused_and_named(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "q.json"
    trained(30).save(file)
    file.write_text(DAMAGED[damage](file.read_text()))
    with pytest.raises(UserError, match=r"q\.json: (damaged|not a table)"):
        QLearningAgent.load(file)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_changed_file_is_a_valid_table_or_is_refused_and_named(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "changed.json"
    content = bytearray(OLD_FILE.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        inserted = data.draw(st.sampled_from([b"", b"-", b"9", b"0", b"(", b",", b'"', b"e9", b"NaN", b"[]", b"\xff"]))
        content[at : at + data.draw(st.integers(0, 2))] = inserted
    file.write_bytes(content)
    try:
        agent = QLearningAgent.load(file)
    except UserError as error:
        message = str(error)
        assert (message.startswith(f"{file}: "), message.isprintable()) == (True, True)
        return
    agent.save(file)
    assert QLearningAgent.load(file).q_table == agent.q_table
    for (_, action), value in agent.q_table.items():
        assert 0 <= action < agent.n_actions
        assert np.isfinite(value)


STATES = st.recursive(
    st.integers() | st.text() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
    lambda states: st.tuples(states, states) | st.tuples(states),
)


@given(q_table=st.dictionaries(st.tuples(STATES, st.integers(0, 3)), st.floats(-9, 9), max_size=9))
@settings(deadline=None)
def test_every_kind_of_state_comes_back(
    q_table: dict[tuple[Any, int], float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "states.json"
    agent = QLearningAgent(4)
    agent.q_table = q_table
    agent.save(file)
    loaded = QLearningAgent.load(file).q_table
    assert loaded == q_table
    assert {repr(key) for key in loaded} == {repr(key) for key in q_table}


@pytest.mark.parametrize("name", ["Blackjack-v1", "Taxi-v4", "FrozenLake-v1"])
def test_agents_of_other_environments_can_be_saved(tmp_path: Path, name: str) -> None:
    env: Any = gym.make(name)
    agent = QLearningAgent(int(env.action_space.n))
    for _ in train(agent, env, 20, seed=0):
        pass
    agent.save(tmp_path / "q.json")
    assert QLearningAgent.load(tmp_path / "q.json").q_table == agent.q_table


class Place(enum.IntEnum):
    HALL = 3


class Word(enum.StrEnum):
    LEFT = "left"


def test_numbers_and_texts_of_other_classes_are_saved_as_plain_ones(tmp_path: Path) -> None:
    agent: Any = QLearningAgent(np.int64(2), learning_rate=np.float32(0.5))  # pyright: ignore[reportArgumentType]
    agent.q_table = {
        (Place.HALL, 0): np.float32(0.25),
        ((Word.LEFT, np.float64(0.5)), np.int64(1)): 1,
        (np.str_("up"), 0): -2.0,
    }
    agent.save(tmp_path / "q.json")
    loaded = QLearningAgent.load(tmp_path / "q.json")
    assert loaded.q_table == agent.q_table
    assert repr(loaded.q_table) == "{(3, 0): 0.25, ('up', 0): -2.0, (('left', 0.5), 1): 1.0}"
    assert loaded.learning_rate == 0.5


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_q_table_that_is_not_finite_is_not_saved(tmp_path: Path, value: float) -> None:
    agent: Any = trained(5)
    agent.q_table[7, 1] = value
    with pytest.raises(UserError, match=f"Q of state 7 and action 1 is {value}"):
        agent.save(tmp_path / "q.json")
    assert not any(tmp_path.iterdir())


def test_a_state_that_could_not_be_read_is_not_saved(tmp_path: Path) -> None:
    agent: Any = trained(5)
    agent.save(tmp_path / "q.json")
    before = (tmp_path / "q.json").read_bytes()
    for state in (frozenset([1]), float("nan"), (0, b"x")):
        agent.q_table = {(state, 0): 1.0}
        with pytest.raises(UserError, match="cannot be saved"):
            agent.save(tmp_path / "q.json")
    assert (tmp_path / "q.json").read_bytes() == before


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"missing\.json"):
        QLearningAgent.load(tmp_path / "missing.json")
