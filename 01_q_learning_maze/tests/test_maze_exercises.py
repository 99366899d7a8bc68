"""The right answers of lesson 1's exercises are the lab's own code: both give the same results on random input."""

import functools
import inspect
import random
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import value_iteration as dynamic_programming
from batched_q_learning import BatchedQLearning
from lab.exercises.catalog import exercises, find
from lab.exercises.child import examine_file
from lab.exercises.diagnosis import Examiner
from lab.exercises.grading import load_grading, load_right_answers
from lab.exercises.verdicts import Verdict
from maze_env import SimpleMaze
from maze_exercises import acting_solutions, batched_solutions, planning_solutions, tabular_solutions
from maze_layout import random_maze
from q_learning_agent import QLearningAgent, run_episode, train
from transition_tables import TransitionTables

few_values = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=6)


def agent_with(values: list[float], **settings: Any) -> QLearningAgent:
    agent = QLearningAgent(len(values), **settings)
    agent.q_table = {(0, action): value for action, value in enumerate(values)}
    return agent


@given(few_values, st.integers(0, 999))
def test_greedy_is_the_greedy_action_of_the_agent(values: list[float], seed: int) -> None:
    agent, rng = agent_with(values, seed=seed), random.Random(seed)
    assert [agent.act(0, greedy=True) for _ in range(20)] == [acting_solutions.greedy(values, rng) for _ in range(20)]


@given(few_values, st.floats(0, 1), st.integers(0, 999))
def test_epsilon_greedy_is_the_action_of_the_agent(values: list[float], epsilon: float, seed: int) -> None:
    agent, rng = agent_with(values, seed=seed, epsilon=epsilon, epsilon_min=0.0), random.Random(seed)
    actions = [acting_solutions.epsilon_greedy(values, epsilon, rng) for _ in range(20)]
    assert [agent.act(0) for _ in range(20)] == actions


@pytest.mark.parametrize("seed", range(5))
def test_discounted_return_is_the_value_of_following_the_best_policy(seed: int) -> None:
    maze = SimpleMaze(random_maze(5, 6, seed))
    q = dynamic_programming.value_iteration(maze.P, 0.9)
    policy = dynamic_programming.greedy_policy(q).tolist()
    trajectory = run_episode(gym.make("SimpleMaze-v0", layout=maze.layout), policy.__getitem__)
    found = acting_solutions.discounted_return(trajectory.rewards, 0.9)
    assert found == pytest.approx(q[trajectory.states[0]].max())


@given(
    st.lists(st.floats(-9, 9), min_size=6, max_size=6),
    st.floats(-5, 5),
    st.booleans(),
    st.floats(0, 1),
    st.floats(0.1, 1),
)
def test_target_and_update_are_those_of_the_agent(
    values: list[float], reward: float, terminated: bool, discount: float, rate: float
) -> None:
    agent = QLearningAgent(3, learning_rate=rate, discount=discount)
    agent.q_table = {(index // 3, index % 3): value for index, value in enumerate(values) if index % 4}
    table = dict(agent.q_table)
    target = tabular_solutions.td_target(reward, agent.q_values(1), terminated, False, discount)
    tabular_solutions.q_update(table, 0, 2, target, rate)
    agent.update(0, 2, reward, 1, terminated)
    assert table == agent.q_table


@given(st.floats(0, 1), st.floats(0.01, 1), st.floats(0, 1))
def test_epsilon_decays_as_that_of_the_agent(epsilon: float, decay: float, minimum: float) -> None:
    agent = QLearningAgent(2, epsilon=max(epsilon, minimum), epsilon_decay=decay, epsilon_min=minimum)
    expected = tabular_solutions.decayed_epsilon(agent.epsilon, decay, minimum)
    agent.end_episode()
    assert agent.epsilon == expected


@pytest.mark.parametrize("slip", [0.0, 0.25])
@pytest.mark.parametrize("discount", [0.5, 0.95])
def test_value_iteration_equals_the_one_with_arrays(slip: float, discount: float) -> None:
    maze = SimpleMaze(random_maze(4, 5, seed=1), slip=slip)
    dynamics = {state: maze.P[state] for state in range(len(maze.P))}
    expected = dynamic_programming.value_iteration(dynamics, discount)
    found = planning_solutions.value_iteration(dynamics, discount, 1e-10)
    assert found == [pytest.approx(row, abs=1e-9) for row in expected.tolist()]
    values = expected.max(axis=1).tolist()
    for state, row in enumerate(expected.tolist()):
        backed_up = [planning_solutions.backup(dynamics[state][action], values, discount) for action in range(4)]
        assert backed_up == pytest.approx(row, abs=1e-8)


def test_playing_an_episode_is_what_train_does() -> None:
    env, again = (gym.make("SimpleMaze-v0", slip=0.2) for _ in range(2))
    agent, other = QLearningAgent(4, seed=3), QLearningAgent(4, seed=3)
    rewards = [episode.total_reward for episode in train(agent, env, 20, seed=5)]
    seeds = [5] + [None] * 19
    found = [planning_solutions.play_and_learn(SeededEnv(again, seed), other) for seed in seeds]
    assert found == rewards
    assert other.q_table == agent.q_table
    assert other.epsilon == agent.epsilon


class SeededEnv:
    """An environment whose reset uses a seed, as `train` does in its first episode."""

    def __init__(self, env: gym.Env[int, Any], seed: int | None) -> None:
        self.seed = seed
        self.env = env
        self.step = env.step

    def reset(self) -> tuple[int, dict[str, Any]]:
        return self.env.reset(seed=self.seed)


def random_agents(n_agents: int, seed: int) -> tuple[BatchedQLearning, torch.Generator]:
    """Return agents with random tables (whole numbers, so that values tie), states and settings, and a generator."""
    generator = torch.Generator().manual_seed(seed)
    maze = SimpleMaze()
    tables = TransitionTables(maze.outcomes(), maze.start, 100, torch.float64)
    epsilon = torch.rand(n_agents, generator=generator, dtype=torch.float64)
    agents = BatchedQLearning(tables, n_agents, epsilon=epsilon, epsilon_min=0.0, learning_rate=0.25, discount=0.75)
    agents.q.copy_(torch.randint(-2, 3, agents.q.shape, generator=generator))
    agents.state = torch.randint(0, 16, (n_agents,), generator=generator, dtype=torch.int32)
    return agents, generator


@pytest.mark.parametrize("seed", range(5))
def test_acting_and_updating_are_those_of_the_batched_agents(seed: int) -> None:
    agents, generator = random_agents(200, seed)
    explore, ties = torch.rand(2, 200, generator=generator, dtype=torch.float64)
    values = agents.q_values(agents.state).clone()  # (A, N)
    action = batched_solutions.batched_act(values, agents.epsilon, explore, ties)
    assert torch.equal(action, agents.act(explore, ties).long())
    q, state = agents.q.clone(), agents.state.long()
    pair = state * 4 + action
    nonterminal, reward, next_state = (
        table[pair] for table in (agents.dynamics.nonterminal, agents.dynamics.reward, agents.dynamics.next_state)
    )
    assert agents.dynamics.n_outcomes == 1
    batched_solutions.batched_update(q, state, action, reward, next_state.long(), nonterminal, 0.25, 0.75)
    agents.step(explore, ties, torch.zeros(200, dtype=torch.int32))
    assert torch.equal(q, agents.q)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_loss_has_the_gradient_of_the_update(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(8, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randn(8, generator=generator, dtype=torch.float64)
    batched_solutions.td_loss(values, targets).backward()
    table = {(0, action): value for action, value in enumerate(values.tolist())}
    for action, target in enumerate(targets.tolist()):
        tabular_solutions.q_update(table, 0, action, target, 0.25)
    assert values.grad is not None
    assert (values - 0.25 * values.grad).tolist() == pytest.approx(list(table.values()))


def test_all_exercises_of_the_lesson_are_there() -> None:
    numbers = [exercise.number for exercise in exercises().values() if exercise.number.startswith("1.")]
    assert numbers == [f"1.{number}" for number in range(1, 13)]


# --- verdicts ---------------------------------------------------------------------------------------------------------


@functools.cache
def examiner(name: str) -> Examiner:
    return Examiner(find(name), load_grading(find(name)))


def check(name: str, code: str, folder: Path) -> Verdict:
    """Check a file in this process."""
    path = folder / "answer.py"
    path.write_text(f"import torch\n{code}", encoding="utf-8")
    return examine_file(find(name), examiner(name), path)


@pytest.mark.parametrize("steps", [20, 100, 1000])
def test_a_fixed_number_of_steps_is_a_known_mistake(steps: int, tmp_path: Path) -> None:
    code = f"""
def play_and_learn(env, agent):
    state, _ = env.reset()
    total = 0.0
    for _ in range({steps}):
        action = agent.act(state)
        next_state, reward, terminated, truncated, _ = env.step(action)
        agent.update(state, action, reward, next_state, terminated)
        state = next_state
        total += reward
        if terminated or truncated:
            break
    agent.end_episode()
    return total
"""
    assert check("play_and_learn", code, tmp_path).mistake == "fixed_steps"


@pytest.mark.parametrize("change", ["requires_grad_(False)", "detach_()"])
def test_a_target_that_loses_its_gradient_is_a_changed_argument(change: str, tmp_path: Path) -> None:
    code = f"""
def td_loss(values, targets):
    targets.{change}
    return 0.5 * (targets - values).square().sum()
"""
    verdict = check("td_loss", code, tmp_path)
    assert (verdict.mistake, verdict.message) == ("family:in place", "you changed `targets` in place; work on a copy")


def loop(name: str) -> str:
    """Return the code of the right answer that goes through the agents in a loop."""
    exercise = find(name)
    function = load_right_answers(exercise, load_grading(exercise))["loop"][name]
    code = inspect.getsource(function).replace(function.__name__, name, 1)
    return f"from torch import Tensor\n\n\n{code}"


LOOPS = {
    "batched_act": loop("batched_act"),
    "batched_act, with lists": """
def batched_act(*tensors):
    values, *others = (tensor.tolist() for tensor in tensors)
    actions = []
    for column, epsilon, explore_draw, tie_break_draw in zip(zip(*values), *others):
        explores = explore_draw < epsilon
        candidates = [action for action in range(len(column)) if explores or column[action] == max(column)]
        actions.append(candidates[int(tie_break_draw * len(candidates))])
    return torch.tensor(actions)
""",
    "batched_update": loop("batched_update"),
}


@pytest.mark.parametrize("label", LOOPS)
def test_a_loop_over_agents_passes_with_a_remark(label: str, tmp_path: Path) -> None:
    verdict = check(label.partition(",")[0], LOOPS[label], tmp_path)
    assert (verdict.status, verdict.mistake) == ("passed", None)
    assert "one by one" in verdict.message


def test_a_mistake_in_a_loop_is_named(tmp_path: Path) -> None:
    code = LOOPS["batched_act"].replace(">= epsilon", "< epsilon")
    assert check("batched_act", code, tmp_path).mistake == "reversed"


SWEEPS = """
def value_iteration(dynamics, gamma, tolerance):
    q = [[0.0] * len(dynamics[state]) for state in range(len(dynamics))]
    while True:
        change = 0.0
        for state in range(len(dynamics)):
            for action in range(len(dynamics[state])):
                outcomes = dynamics[state][action]
                new = sum(p * (r + gamma * (0.0 if ended else max(q[s]))) for p, s, r, ended in outcomes)
                change = max(change, abs(new - q[state][action]))
                q[state][action] = new
        if change <= tolerance:
            return q
"""


def test_mistakes_of_sweeps_in_place_are_named(tmp_path: Path) -> None:
    """In place, the first sweep goes as far as with the old Q and the new one as one list: the hint names both."""
    assert check("value_iteration", SWEEPS, tmp_path).status == "passed"
    signed = SWEEPS.replace("abs(new - q[state][action])", "new - q[state][action]")
    assert check("value_iteration", signed, tmp_path).mistake == "signed_change"
    verdict = check("value_iteration", SWEEPS.replace("if change <= tolerance:", "if True:"), tmp_path)
    assert verdict.message.startswith("You stop after one sweep. Either nothing repeats it, or the old and the new Q")


HINTS = {
    "greedy": (
        """
def greedy(values, rng):
    return rng.choice(values)
""",
        "You return a value, not its index: what an action is worth, not which one it is.",
    ),
    "q_update": (
        """
def q_update(table, state, action, target, alpha):
    old_value = table.get((state, action), 0.0)
    return {**table, (state, action): old_value + alpha * (target - old_value)}
""",
        "The table still holds the old value: store the new one in it. "
        "The function should return nothing: it changes the table in place, and that is all.",
    ),
    "batched_update": (
        """
def batched_update(q, state, action, reward, next_state, nonterminal, alpha, gamma):
    q = q.clone()
    agent = torch.arange(len(q))
    target = reward + gamma * nonterminal * q[agent, next_state].amax(1)
    q[agent, state, action] += alpha * (target - q[agent, state, action])
    return q
""",
        "The function should return nothing: it changes `q` in place, and that is all. "
        "The tables still hold the old values: write the new ones into `q` itself, not into a copy.",
    ),
}


@pytest.mark.parametrize("name", HINTS)
def test_hints_are_true_of_all_answers_that_get_them(name: str, tmp_path: Path) -> None:
    code, hint = HINTS[name]
    assert check(name, code, tmp_path).message == hint
