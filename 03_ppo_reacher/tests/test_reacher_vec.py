"""ReacherVectorEnv compared bit by bit with Gymnasium's Reacher-v5."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from reacher_vec import ELBOW_STOP, ReacherVectorEnv


def gymnasium_envs(num_envs: int) -> VectorEnv:
    mode = {"autoreset_mode": AutoresetMode.SAME_STEP}
    return gym.make_vec("Reacher-v5", num_envs=num_envs, vectorization_mode="sync", vector_kwargs=mode)


def assert_equal_run(
    ours: VectorEnv, theirs: VectorEnv, steps: int, dtype: type, generator: np.random.Generator
) -> int:
    """Step both with the same actions and return the number of episodes that ended.

    Actions lie within and outside the bounds; some push in one direction for long, so that elbows reach their stops.
    """
    ended, push = 0, np.zeros((ours.num_envs, 2))
    for step in range(steps):
        if step % 50 == 0:
            push = generator.uniform(-1.5, 1.5, (ours.num_envs, 2)) * generator.integers(0, 2, (ours.num_envs, 1))
        actions = (push + generator.uniform(-1.6, 1.6, (ours.num_envs, 2))).astype(dtype)
        result, expected = ours.step(actions), theirs.step(actions)
        for ours_part, theirs_part in zip(result[:4], expected[:4], strict=True):
            np.testing.assert_array_equal(ours_part, theirs_part)
        observations, _, _, truncated, info = result
        assert observations.dtype == expected[0].dtype == np.float64
        ended += int(truncated.sum())
        assert ("final_obs" in info) == truncated.any()
        for index in np.flatnonzero(truncated):
            np.testing.assert_array_equal(info["final_obs"][index], expected[4]["final_obs"][index])
            assert not np.array_equal(info["final_obs"][index], observations[index])
    return ended


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, [7, 3, 3, 100_000, 12]], ids=["integer", "list"])
def test_bit_exact_with_gymnasium(seed: int | list[int], threads: int) -> None:
    ours, theirs = ReacherVectorEnv(5, num_threads=threads), gymnasium_envs(5)
    result, expected = ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0]  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(result, expected)
    generator = np.random.default_rng(1)
    assert assert_equal_run(ours, theirs, 120, np.float32, generator) == 10
    assert_equal_run(ours, theirs, 20, np.float64, generator)
    # a reset within an episode and without a seed continues with each environment's random number generator
    np.testing.assert_array_equal(ours.reset()[0], theirs.reset()[0])
    assert_equal_run(ours, theirs, 60, np.float32, generator)


def test_equal_to_gymnasium_over_a_thousand_episodes() -> None:
    ours, theirs = ReacherVectorEnv(20), gymnasium_envs(20)
    np.testing.assert_array_equal(ours.reset(seed=1)[0], theirs.reset(seed=1)[0])
    assert assert_equal_run(ours, theirs, 50 * 50, np.float32, np.random.default_rng(2)) == 1000


def test_elbows_reach_their_stops_in_these_tests() -> None:
    env = ReacherVectorEnv(20)
    env.reset(seed=1)
    generator = np.random.default_rng(2)
    at_stop = 0
    push = generator.uniform(-1.5, 1.5, (20, 2))
    for _ in range(49):
        env.step(push)
        at_stop += sum(int((np.abs(world.qpos[:, 1]) > ELBOW_STOP).sum()) for world in env.worlds)
    assert at_stop > 50


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2e10])
def test_an_invalid_torque_affects_only_its_own_arm(bad: float) -> None:
    ours, theirs = ReacherVectorEnv(5), gymnasium_envs(5)
    ours.reset(seed=1)
    theirs.reset(seed=1)
    actions = np.random.default_rng(2).uniform(-1, 1, (10, 5, 2))
    actions[3, 1, 0] = bad
    for action in actions:
        for result, expected in zip(ours.step(action)[:2], theirs.step(action)[:2], strict=True):
            np.testing.assert_array_equal(result, expected)


def test_reset_without_a_seed_is_random() -> None:
    first, second = (ReacherVectorEnv(2).reset()[0] for _ in range(2))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first[0], first[1])


def test_has_the_interface_of_a_vector_environment() -> None:
    ours, theirs = ReacherVectorEnv(3), gymnasium_envs(3)
    assert isinstance(theirs, SyncVectorEnv)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.single_action_space == theirs.single_action_space
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert ours.spec is not None
    assert ours.spec.id == "Reacher-v5"
    with pytest.raises(gym.error.ResetNeeded):
        ReacherVectorEnv(3).step(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="2 seeds for 3"):
        ours.reset(seed=[1, 2])
    ours.close()
    ours.close()
