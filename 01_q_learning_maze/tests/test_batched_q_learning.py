"""Thousands of agents in a tensor: they equal the dictionary and exact planning, and are independent."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from pretended_device import pretended_gpu
from torch import Tensor

from batched_q_learning import BatchedQLearning, Episodes, random_numbers, train_batch
from lab.devices import pick_device
from lab.errors import UserError
from maze_drawing import q_array
from maze_env import RIGHT, UP, SimpleMaze
from maze_studies import (
    SWEEP_EPSILONS,
    SWEEP_LEARNING_RATES,
    greedy_episode_lengths,
    greedy_policies_are_optimal,
    quantile_band,
    sweep,
    train_many,
)
from maze_training import make_dynamics
from q_learning_agent import Episode, QLearningAgent, train
from transition_tables import TransitionTables
from value_iteration import as_arrays, value_iteration

SETTINGS: dict[str, Any] = {
    "learning_rate": 0.3,
    "discount": 0.9,
    "epsilon": 0.8,
    "epsilon_decay": 0.9,
    "epsilon_min": 0.1,
}
FROZEN_LAKE = "FrozenLake-v1"


def tables_of(maze: SimpleMaze, time_limit: int = 100, dtype: torch.dtype = torch.float64) -> TransitionTables:
    return TransitionTables(maze.outcomes(), maze.start, time_limit, dtype)


class RecordedAgentDraws:
    """A stand-in for an agent's generator: (explore_draw, tie_break_draw) of every step, from a list."""

    def __init__(self, draws: Sequence[tuple[float, float]]) -> None:
        self.draws: Iterator[tuple[float, float]] = iter(draws)
        self.tie_break_draw = 0.0

    def random(self) -> float:
        explore_draw, self.tie_break_draw = next(self.draws)
        return explore_draw

    def randrange(self, n: int) -> int:
        return int(self.tie_break_draw * n)

    def choice(self, seq: Any) -> Any:
        return seq[int(self.tie_break_draw * len(seq))]


class RecordedEnvDraws:
    """A stand-in for an environment's generator: numbers from a list."""

    def __init__(self, draws: Sequence[float]) -> None:
        self.draws = iter(draws)

    def random(self) -> float:
        return next(self.draws)


def dictionary_agent(env: Any, draws: Tensor, episodes: int) -> tuple[QLearningAgent, list[Episode]]:
    """Train the dictionary's agent with the random numbers `draws` (steps, 3); return it and its records."""
    agent = QLearningAgent(4, **SETTINGS)
    explore_draw, tie_break_draw, outcome_draw = draws.T.tolist()
    agent_draws = RecordedAgentDraws(list(zip(explore_draw, tie_break_draw, strict=True)))
    setattr(agent, "_random", agent_draws)  # noqa: B010
    env.reset(seed=0)
    # The first reset with a seed makes a new generator, and FrozenLake's resets draw their (only) start from it.
    env_draws = RecordedEnvDraws(outcome_draw)
    reset = env.unwrapped.reset

    def reset_with_recorded_draws(**arguments: Any) -> Any:
        result = reset(**{**arguments, "seed": 0})
        env.unwrapped.np_random = env_draws
        return result

    env.unwrapped.reset = reset_with_recorded_draws
    records = list(train(agent, env, episodes, seed=0))
    return agent, records


ENVIRONMENTS = {
    "default": lambda: gym.make("SimpleMaze-v0"),
    "short episodes": lambda: gym.make("SimpleMaze-v0", max_episode_steps=7),
    "slippery": lambda: gym.make("SimpleMaze-v0", slip=0.3),
    "two goals": lambda: gym.make("SimpleMaze-v0", layout=["G..S.X.G", "..X....."], slip=0.1),
    "lake": lambda: gym.make(FROZEN_LAKE),
}


@pytest.mark.parametrize("name", list(ENVIRONMENTS))
def test_with_the_same_random_choices_it_equals_the_dictionary_exactly(name: str) -> None:
    """Bit-exact in the dictionary's precision, also as one of five agents with different random choices."""
    env: Any = ENVIRONMENTS[name]()
    start = int(getattr(env.unwrapped, "start", 0))
    dynamics = TransitionTables(as_arrays(env.unwrapped.P), start, env.spec.max_episode_steps, torch.float64)
    draws = torch.rand(6000, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for columns in ([2], [0, 1, 2, 3, 4]):
        agents = BatchedQLearning(dynamics, len(columns), **SETTINGS)
        records: list[Episodes] = []
        for explore_draw, tie_break_draw, outcome_draw in draws[:, :, columns]:
            ended = agents.step(explore_draw, tie_break_draw, dynamics.outcome(outcome_draw))
            if ended is not None:
                agents.freeze(ended.agent[ended.number == 40])
                records.append(ended)
        for index, column in enumerate(columns):
            agent, expected = dictionary_agent(ENVIRONMENTS[name](), draws[:, :, column], episodes=40)
            table = np.nan_to_num(q_array(agent.q_table, dynamics.n_states))
            assert np.array_equal(agents.q[index].numpy(), table)
            assert agents.epsilon[index] == agent.epsilon
            assert rows_of(records, index) == expected


def rows_of(records: Sequence[Episodes], agent: int) -> list[Episode]:
    """Return the records of one agent in the form that the dictionary's loop yields."""
    rows = [(record, int((record.agent == agent).nonzero())) for record in records if (record.agent == agent).any()]
    names = ("number", "total_reward", "length", "epsilon", "reached_goal")
    return [Episode(*(getattr(record, name)[row].item() for name in names)) for record, row in rows]


def test_an_agent_does_not_depend_on_the_others() -> None:
    dynamics = tables_of(SimpleMaze(slip=0.2), time_limit=20)
    draws = torch.rand(500, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def tables(columns: list[int]) -> Tensor:
        rates = torch.tensor([0.1, 0.5, 1.0, 0.3, 0.7, 0.2])[columns]
        discounts = torch.tensor([0.0, 0.9, 1.0, 0.95, 0.5, 0.99])[columns]
        agents = BatchedQLearning(dynamics, len(columns), rates, discounts, epsilon=1 - rates / 2, epsilon_decay=rates)
        for explore_draw, tie_break_draw, outcome_draw in draws[:, :, columns]:
            agents.step(explore_draw, tie_break_draw, dynamics.outcome(outcome_draw))
        return agents.q

    all_six = tables([0, 1, 2, 3, 4, 5])
    assert torch.equal(tables([4, 1]), all_six[[4, 1]])
    assert torch.equal(tables([5]), all_six[[5]])
    assert not torch.equal(all_six[4], all_six[5])


# --- against exact planning -----------------------------------------------------------------------------------------


def test_convergence_to_the_optimum_in_the_default_maze() -> None:
    maze = SimpleMaze()
    agents = BatchedQLearning(tables_of(maze), 5, discount=0.9, epsilon_decay=1.0)
    train_many(agents, 600, seed=0)
    best = torch.from_numpy(value_iteration(maze.P, 0.9)).expand_as(agents.q)
    floor = ~maze.is_absorbing
    torch.testing.assert_close(agents.q[:, floor], best[:, floor], atol=1e-6, rtol=0)
    assert (agents.q[:, maze.is_absorbing] == 0).all()


def test_convergence_to_the_optimum_where_the_mouse_slips() -> None:
    """With a learning rate that falls; the mean of many agents has little noise left."""
    maze = SimpleMaze(slip=0.3)
    agents = BatchedQLearning(tables_of(maze), 200, discount=0.9, epsilon_decay=1.0)
    for step, numbers in enumerate(random_numbers(agents, seed=0)):
        agents.learning_rate.fill_(max(0.5 * 0.9997**step, 0.01))
        agents.step(*numbers)
        if step == 20_000:
            break
    learned, best = agents.q.mean(0), torch.from_numpy(value_iteration(maze.P, 0.9))
    floor = ~maze.is_absorbing
    torch.testing.assert_close(learned[floor], best[floor], atol=0.15, rtol=0)


# --- acting, episodes -----------------------------------------------------------------------------------------------


def test_ties_are_broken_at_random_and_only_among_the_best() -> None:
    agents = BatchedQLearning(tables_of(SimpleMaze()), 6000, epsilon=0.0, epsilon_min=0.0)
    generator = torch.Generator().manual_seed(0)
    for values, best in (([1.0, 2.0, -1.0, 2.0], {1, 3}), ([0.0] * 4, {0, 1, 2, 3}), ([3.0, 1.0, 3.0, 3.0], {0, 2, 3})):
        agents.q[:, 0] = torch.tensor(values, dtype=torch.float64)
        explore_draw, tie_break_draw = torch.rand(2, 6000, generator=generator)
        counts = torch.bincount(agents.act(explore_draw, tie_break_draw), minlength=4)
        assert {action for action in range(4) if counts[action]} == best
        frequencies = counts[list(best)] / 6000
        assert frequencies.tolist() == pytest.approx([1 / len(best)] * len(best), abs=0.03)  # four standard deviations


def test_the_largest_draw_chooses_the_last_action() -> None:
    largest = torch.full((1,), float(np.nextafter(np.float32(1), np.float32(0))))
    agents = BatchedQLearning(tables_of(SimpleMaze(), dtype=torch.float32), 1)
    assert agents.act(torch.zeros(1), largest).item() == 3
    assert agents.act(torch.zeros(1), torch.zeros(1)).item() == UP


def test_epsilon_is_the_probability_of_a_random_action_for_each_agent() -> None:
    epsilon = torch.tensor([0.0, 0.4, 1.0]).repeat_interleave(5000)
    agents = BatchedQLearning(tables_of(SimpleMaze()), 15_000, epsilon=epsilon, epsilon_min=0.0)
    agents.q[:, 0, 2] = 1
    explore_draw, tie_break_draw = torch.rand(2, 15_000, generator=torch.Generator().manual_seed(0))
    greedy = (agents.act(explore_draw, tie_break_draw) == 2).view(3, 5000).double().mean(1)
    assert greedy.tolist() == pytest.approx([1, 0.6 + 0.1, 0.25], abs=0.03)


def test_every_agent_has_its_own_smallest_epsilon() -> None:
    smallest = torch.tensor([0.1, 0.5, 0.9])
    agents = BatchedQLearning(tables_of(SimpleMaze(), time_limit=2), 3, epsilon_decay=0.7, epsilon_min=smallest)
    list(train_batch(agents, seed=0, episodes=20))
    assert agents.epsilon.tolist() == pytest.approx(smallest.tolist())


def one_step(q: float, time_limit: int, layout: list[str]) -> BatchedQLearning:
    """Let one agent take one step to the right from the start; all other entries of its table are `q`."""
    agents = BatchedQLearning(
        tables_of(SimpleMaze(layout), time_limit), 1, learning_rate=1.0, discount=0.5, epsilon=0.0, epsilon_min=0.0
    )
    agents.q.fill_(q)
    agents.q[0, 0] = torch.tensor([0.0, 100.0, 0.0, 0.0])
    ended = agents.step(torch.ones(1), torch.zeros(1), torch.zeros(1, dtype=torch.int32))
    assert ended is not None
    assert bool(ended.reached_goal[0]) == (layout == ["SG"])
    assert agents.state.item() == 0  # back at the start
    return agents


def test_random_numbers_are_uniform_and_independent() -> None:
    """Those that decide whether to explore, which action to take, and what happens; also from step to step."""
    agents = BatchedQLearning(tables_of(SimpleMaze(slip=0.5)), 500)
    steps = islice(random_numbers(agents, seed=0), 200)
    draws = torch.stack([torch.stack([each.double() for each in step]) for step in steps], dim=1)  # (3, steps, N)
    assert draws[:2].mean(dim=(1, 2)).tolist() == pytest.approx([0.5, 0.5], abs=0.005)
    now, later = draws[:, :-1].reshape(3, -1), draws[:, 1:].reshape(3, -1)  # (3, (steps - 1) * N)
    correlations = torch.corrcoef(torch.cat([now, later]))
    assert correlations.numpy() == pytest.approx(np.eye(6), abs=0.02)  # six standard deviations


def test_agents_that_rarely_explore_take_every_action_equally_often() -> None:
    agents = BatchedQLearning(tables_of(SimpleMaze()), 40_000, epsilon=0.1, epsilon_min=0.1)
    agents.q[:, 0, 2] = 1
    explore_draw, tie_break_draw, _ = next(random_numbers(agents, seed=0))
    counts = torch.bincount(agents.act(explore_draw, tie_break_draw), minlength=4)
    assert counts[[0, 1, 3]].tolist() == pytest.approx([1000] * 3, abs=150)  # almost five standard deviations


def test_no_bootstrapping_through_the_goal_and_bootstrapping_through_truncation() -> None:
    assert one_step(8.0, time_limit=1, layout=["SG"]).q[0, 0, RIGHT] == 10
    assert one_step(8.0, time_limit=1, layout=["S..G"]).q[0, 0, RIGHT] == -1 + 0.5 * 8


def test_time_limits_truncate_every_agent_separately() -> None:
    agents = BatchedQLearning(tables_of(SimpleMaze(), time_limit=9), 300, epsilon_decay=1.0)
    lengths, rewards, goals = [], [], []
    for ended in train_batch(agents, seed=0, episodes=20):
        lengths.append(ended.length)
        rewards.append(ended.total_reward)
        goals.append(ended.reached_goal)
    length, reward, reached = torch.cat(lengths), torch.cat(rewards), torch.cat(goals)
    assert len(length) == 300 * 20
    assert (length[~reached] == 9).all()
    assert (length >= 6).all()
    assert (length <= 9).all()
    assert torch.equal(reward, torch.where(reached, 11.0, 0.0).double() - length)
    assert 0 < int(reached.sum()) < len(reached)


def test_frozen_agents_do_not_learn() -> None:
    agents = BatchedQLearning(tables_of(SimpleMaze()), 50)
    finished: dict[int, Tensor] = {}
    for ended in train_batch(agents, seed=0, episodes=5):
        for agent in ended.agent[ended.number == 5].tolist():
            assert agent not in finished
            finished[agent] = agents.q[agent].clone()
    assert len(finished) == 50
    assert all(torch.equal(agents.q[agent], table) for agent, table in finished.items())


def episodes_of(agents: BatchedQLearning, episodes: int | None, most: int = 10_000) -> int:
    """Train on, and return how many episodes ended."""
    return sum(len(ended.agent) for ended in islice(train_batch(agents, 0, episodes), most))


def test_agents_that_have_finished_learn_again_in_a_later_call() -> None:
    rates = torch.tensor([0.1, 0.4, 0.9])
    agents = BatchedQLearning(tables_of(SimpleMaze(), time_limit=30), 3, learning_rate=rates)
    assert episodes_of(agents, 5) == 15
    before = agents.q.clone()
    ended = list(train_batch(agents, 1, 9))
    assert sorted(torch.cat([each.number for each in ended]).tolist()) == sorted([6, 7, 8, 9] * 3)
    assert (agents.q != before).flatten(1).any(dim=1).all()
    assert episodes_of(agents, None, most=5) > 0
    assert agents.active.all()
    torch.testing.assert_close(agents.learning_rate, rates.double())


def test_an_agent_that_was_frozen_begins_a_new_episode() -> None:
    agents = BatchedQLearning(tables_of(SimpleMaze()), 3, learning_rate=0.5)
    frozen, numbers = torch.tensor([1]), random_numbers(agents, seed=0)
    agents.freeze(frozen)
    for _ in range(4):
        agents.step(*next(numbers))
    agents.learning_rate[0] = 0.1
    lengths, rewards = agents.length.tolist(), agents.total_reward.tolist()
    agents.unfreeze(torch.tensor([0, 1]))  # agent 0 was not frozen: nothing changes
    assert agents.learning_rate.tolist() == [0.1, 0.5, 0.5]
    assert agents.length.tolist() == [lengths[0], 0, lengths[2]]
    assert agents.total_reward.tolist() == [rewards[0], 0, rewards[2]]
    assert agents.state[1] == agents.dynamics.start
    assert agents.active.all()


def test_training_counts_the_episodes_of_earlier_calls_and_ends() -> None:
    agents = BatchedQLearning(tables_of(SimpleMaze(), time_limit=9), 10)
    assert episodes_of(agents, 0) == 0
    agents = BatchedQLearning(tables_of(SimpleMaze(), time_limit=9), 10)
    before = episodes_of(agents, None, most=30)
    assert before + episodes_of(agents, 50) == 50 * 10
    assert episodes_of(agents, 50) == 0
    assert episodes_of(agents, 3) == 0
    with pytest.raises(UserError, match="episodes is -1; it must be 0 or more"):
        episodes_of(agents, -1)


@pytest.mark.parametrize("n_actions", [255, 256])
def test_many_actions_are_all_chosen_or_refused(n_actions: int) -> None:
    outcomes = np.zeros((4, 1, n_actions, 1))
    outcomes[0] = 1.0  # the probability of staying in the only state
    dynamics = TransitionTables(outcomes, start=0, time_limit=10)
    if n_actions == 256:
        with pytest.raises(UserError, match="dynamics is 256 actions; it must be 255 at most"):
            BatchedQLearning(dynamics, 1)
        return
    agents = BatchedQLearning(dynamics, 20_000)
    actions = agents.act(*torch.rand(2, 20_000, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(actions.unique(), torch.arange(255, dtype=torch.int32))


def test_equal_seeds_give_equal_tables_and_different_seeds_do_not() -> None:
    def table(seed: int) -> Tensor:
        agents = BatchedQLearning(tables_of(SimpleMaze(slip=0.2)), 7)
        train_many(agents, 10, seed)
        return agents.q

    assert torch.equal(table(1), table(1))
    assert not torch.equal(table(1), table(2))


# --- tables, settings -----------------------------------------------------------------------------------------------


def test_outcomes_are_as_frequent_as_the_dynamics_say() -> None:
    """Also if state-action pairs have different probabilities, or probabilities that do not quite add up to 1."""
    table = {
        0: {0: [(0.2, 0, -1.0, False), (0.8, 1, 5.0, True)], 1: [(0.0, 0, 9.0, True), (1.0, 1, -2.0, False)]},
        1: {0: [(0.5, 0, 1.0, False), (0.5, 1, 2.0, False)], 1: [(0.3, 0, 0.0, False), (0.6999999, 1, 3.0, True)]},
    }
    dynamics = TransitionTables(as_arrays(table), 0, 10, torch.float64)
    draws = torch.linspace(0, 1, 100_001, dtype=torch.float64)[:-1]
    for state, action in ((0, 0), (0, 1), (1, 0), (1, 1)):
        rows = (state * 2 + action) * dynamics.n_outcomes + dynamics.outcome(draws).long()
        for probability, next_state, reward, terminated in table[state][action]:
            same = dynamics.reward[rows] == reward
            assert same.double().mean().item() == pytest.approx(probability, abs=1e-4)
            assert (dynamics.next_state[rows][same] == next_state).all()
            assert (dynamics.nonterminal[rows][same] == (not terminated)).all()


OUT_OF_RANGE = {
    "n_agents": [0, -1],
    "learning_rate": [0.0, 1.5, float("nan"), torch.tensor([0.5, 0.0, 0.5]), torch.tensor([0.5, 0.5])],
    "discount": [-0.1, 1.01],
    "epsilon": [-0.1, 1.1],
    "epsilon_decay": [0.0, 1.1],
    "epsilon_min": [-0.1, torch.tensor([0.1, 1.2, 0.1])],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in OUT_OF_RANGE for value in OUT_OF_RANGE[name]])
def test_arguments_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^{name} is"):
        BatchedQLearning(tables_of(SimpleMaze()), **{"n_agents": 3, name: value})


def test_a_setting_is_checked_as_one_agent_checks_it() -> None:
    """In float32 1e-50 is 0, and 1 + 1e-12 is 1."""
    tables = make_dynamics(SimpleMaze(), torch.device("cpu"))
    agents = BatchedQLearning(tables, 2, learning_rate=1e-50, epsilon_decay=1e-50)
    assert agents.epsilon_decay.tolist() == [0, 0]
    for agent in (QLearningAgent, partial(BatchedQLearning, tables)):
        with pytest.raises(UserError, match="discount is"):
            agent(4, discount=1 + 1e-12)


def test_a_minimum_above_epsilon_too_many_agents_and_bad_tables_are_refused() -> None:
    maze = SimpleMaze()
    with pytest.raises(UserError, match="epsilon_min is"):
        BatchedQLearning(tables_of(maze), 2, epsilon=torch.tensor([0.5, 0.1]), epsilon_min=0.2)
    with pytest.raises(UserError, match="n_agents is 100000000; it must be at most"):
        BatchedQLearning(tables_of(maze), 100_000_000)
    with pytest.raises(UserError, match="start is 16"):
        TransitionTables(maze.outcomes(), 16, 100)
    with pytest.raises(UserError, match="time_limit is 0"):
        TransitionTables(maze.outcomes(), 0, 0)


# --- studies --------------------------------------------------------------------------------------------------------


def test_a_thousand_seeds_all_end_at_the_shortest_path() -> None:
    agents = BatchedQLearning(tables_of(SimpleMaze(), dtype=torch.float32), 1000)  # the settings of train.py
    rewards = train_many(agents, 300, seed=0)
    assert rewards.shape == (300, 1000)
    assert rewards.max() == 5
    assert rewards[:5].mean() < -20
    assert rewards[-50:].mean() > 4
    assert greedy_policies_are_optimal(agents, 6).all()


def test_the_sweep_shows_that_a_small_learning_rate_is_not_enough() -> None:
    maze = SimpleMaze()
    first = next(sweep(tables_of(maze, dtype=torch.float32), 0.95, maze.shortest_path_length, seed=0))
    assert first.success_rates.shape == (len(SWEEP_LEARNING_RATES), len(SWEEP_EPSILONS))
    assert (first.success_rates[0] < 0.2).all()
    assert (first.success_rates[-1] > 0.9).all()


def test_greedy_episode_lengths_with_slip_equal_those_of_the_policy() -> None:
    maze = SimpleMaze(slip=0.2)
    agents = BatchedQLearning(tables_of(maze), 300)
    agents.q[:] = torch.from_numpy(value_iteration(maze.P, 0.95))
    before = agents.q.clone()
    lengths = greedy_episode_lengths(agents, 20)
    assert torch.equal(agents.q, before)
    assert lengths.mean().item() == pytest.approx(expected_length(maze), rel=0.03)


def test_an_optimal_policy_is_told_from_a_worse_one_in_spite_of_slip() -> None:
    """One episode is chance; the mean of many is within 5% for nearly all agents."""
    maze = SimpleMaze(slip=0.2)
    agents = BatchedQLearning(tables_of(maze), 300)
    agents.q[:] = torch.from_numpy(value_iteration(maze.P, 0.95))
    assert greedy_policies_are_optimal(agents, expected_length(maze)).float().mean() > 0.9
    agents.q[:, :, RIGHT] = -100.0
    assert not greedy_policies_are_optimal(agents, expected_length(maze)).any()


def expected_length(maze: SimpleMaze) -> float:
    """Return the mean steps of the optimal policy, by linear algebra: h = 1 + P h."""
    transition = np.zeros((maze.cells.size, maze.cells.size))
    for state, action in enumerate(value_iteration(maze.P, 0.95).argmax(1).tolist()):
        for probability, next_state, _, terminated in maze.P[state][action]:
            transition[state, next_state] += probability * (not terminated)
    steps = np.linalg.solve(np.eye(maze.cells.size) - transition, np.ones(maze.cells.size))
    return float(steps[maze.start])


# --- devices ----------------------------------------------------------------------------------------------------------


def results_on(device: torch.device | str) -> dict[str, Tensor]:
    """Train agents with settings of their own in a slippery maze; return tables and studies, on the CPU."""
    maze = SimpleMaze(slip=0.2)
    tables = TransitionTables(maze.outcomes(), maze.start, 10, device=device)
    agents = BatchedQLearning(tables, 4, learning_rate=torch.tensor([0.1, 0.5, 1.0, 0.3]), epsilon_decay=0.9)
    rewards = train_many(agents, 5, seed=0)
    assert {each.device for each in (agents.q, agents.state, rewards)} == {torch.device(device)}
    return {
        "q": agents.q.cpu(),
        "rewards": rewards.cpu(),
        "lengths": greedy_episode_lengths(agents, 2).cpu(),
        "band": torch.from_numpy(quantile_band(BatchedQLearning(tables, 3), 3, 0, 6.0).low),
    }


def test_agents_on_a_gpu_equal_those_on_the_cpu() -> None:
    on_cpu = results_on("cpu")
    with pretended_gpu():
        on_gpu = results_on(pick_device("cuda"))
    assert all(torch.equal(on_gpu[name], expected) for name, expected in on_cpu.items())
    assert len(on_cpu["q"].unique()) > 20


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_agents_learn_on_a_gpu() -> None:
    """The random numbers are those of the device, so the tables differ from the CPU's."""
    tables = TransitionTables(SimpleMaze().outcomes(), SimpleMaze().start, 100, device="cuda")
    agents = BatchedQLearning(tables, 1000)
    train_many(agents, 300, seed=0)
    assert agents.q.device.type == "cuda"
    assert greedy_policies_are_optimal(agents, 6).all()
