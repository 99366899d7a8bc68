"""Environments for PPO: made from their id, checked, and stepped several at a time.

# N environments, O observation_dim, A action_dim
"""

import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from lab.errors import UserError
from reacher_vec import ReacherVectorEnv

HELD_OUT_SEEDS = range(1_000_000, 2_000_000)  # of the episodes for evaluation; training uses others
LARGEST = float(np.finfo(np.float32).max)  # the networks compute in float32
RESET = "reset(seed=..., options=...) must return (observation, info)"
STEP = "step(action) must return (observation, reward, terminated, truncated, info)"


def training_seed(seed: int, num_envs: int) -> int:
    """Return the seed of the first of `num_envs` training environments; number i is seeded with the result + i.

    It is --seed itself or, if a held-out seed would be among them, --seed shifted beyond those.
    """
    if seed + num_envs <= HELD_OUT_SEEDS.start:
        return seed
    return seed + len(HELD_OUT_SEEDS) + num_envs


def restart_seed(seed: int, iteration: int, num_envs: int) -> int:
    """Return the seed of the first environment where a resumed run starts new episodes: others than those before."""
    first = HELD_OUT_SEEDS.stop
    draw = np.random.SeedSequence([seed, iteration]).generate_state(1)[0]
    return first + int(draw) % (2**31 - first - num_envs)  # some environments accept only 32 bits


class CheckedEnv(gym.Wrapper):
    """An environment whose observations are copied, and whose faults are errors of one line.

    An environment may reuse the array of its observations, or return a list; a copy of the declared
    type is kept instead. The info, which nothing here needs, is dropped. Raises UserError, naming
    the environment and the step, for exceptions in `reset` and `step`, for results of a wrong form,
    and for numbers that are not finite.
    """

    def __init__(self, env: gym.Env, env_id: str) -> None:
        super().__init__(env)
        self.env_id = env_id
        self.steps = 0  # since the last reset

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray, dict[str, Any]]:
        """Start an episode; return the observation (O,)."""
        self.steps = 0
        with faults_of(self.env_id, "reset", RESET):
            observation, _ = self.env.reset(seed=seed, options=options)
            return self._checked(observation), {}

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool, dict[str, Any]]:
        """Apply an action (A,); return observation (O,), reward, terminated and truncated."""
        self.steps += 1
        with faults_of(self.env_id, f"step {self.steps} of an episode", STEP):
            observation, reward, terminated, truncated, _ = self.env.step(action)
            number = float(np.asarray(reward).item())
            if not abs(number) <= LARGEST:
                raise UserError(f"the reward is {number}; it must be finite")
            return self._checked(observation), number, bool(terminated), bool(truncated), {}

    def close(self) -> None:
        """Close the environment."""
        with faults_of(self.env_id, "close"):
            self.env.close()

    def _checked(self, observation: Any) -> NDArray:
        """Return a copy of an observation as an array of the declared shape and type."""
        space: Any = self.observation_space
        array = np.asarray(observation)
        if array.shape != space.shape:
            raise UserError(f"the observation has shape {array.shape}; its space has {space.shape}")
        if not np.can_cast(array.dtype, space.dtype, "same_kind"):
            raise UserError(f"the observation is of type {array.dtype}; its space of {space.dtype}")
        with np.errstate(over="ignore"):
            converted = array.astype(space.dtype, copy=True)
        not_finite = np.flatnonzero(~(np.abs(converted.astype(np.float64)) <= LARGEST))
        if len(not_finite):
            first = not_finite[0]
            raise UserError(f"number {first} of the observation is {array[first]}; it must be finite in float32")
        if converted.dtype.kind in "iu" and (converted != array).any():
            first = np.flatnonzero(converted != array)[0]
            raise UserError(f"number {first} of the observation is {array[first]}; its space is of {space.dtype}")
        return converted


@contextmanager
def faults_of(env_id: str, place: str, rule: str = "") -> Iterator[None]:
    """Turn any exception of an environment into a UserError that says where it was raised."""
    try:
        yield
    except UserError as error:
        raise UserError(f"--env_id {env_id}: {place}: {error}") from error
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(line.filename).name}, line {line.lineno}"
        rule = f"; {rule}" if rule and isinstance(error, (TypeError, ValueError)) else ""
        raise UserError(f"--env_id {env_id}: {place}: {reason_of(error)} ({where}){rule}") from error


def reason_of(error: Exception) -> str:
    """Return the kind and the message of an exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def make_env(env_id: str, **settings: Any) -> CheckedEnv:
    """Return one environment. Raises UserError if there is none of this id or it cannot be made."""
    if ":" in env_id and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # the user's own module may be in the current folder
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*environment creator metadata")  # only for rendering, checked there
            return CheckedEnv(gym.make(env_id, disable_env_checker=True, **settings), env_id)
    except (gym.error.Error, ImportError) as error:  # no such id, or a package is missing
        raise UserError(f"--env_id {env_id}: {' '.join(str(error).split()) or reason_of(error)}") from error
    except Exception as error:  # whatever the user's own constructor raises
        rule = "it must accept render_mode" if settings else "it must need nothing but its id"
        raise UserError(f"--env_id {env_id}: cannot be made ({reason_of(error)}); {rule}") from error


def make_envs(env_id: str, num_envs: int) -> VectorEnv:
    """Return `num_envs` copies of the environment, with same-step autoreset.

    The final observation of an episode is in the step's info. Reacher-v5 is a `ReacherVectorEnv`,
    which gives the same results several times faster. Raises UserError if there is no such
    environment, PPO's Gaussian policy does not fit its spaces, or its first steps fail.
    """
    if env_id == "Reacher-v5":
        return ReacherVectorEnv(num_envs)
    try_environment(env_id)
    return SyncVectorEnv([partial(make_env, env_id)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def try_environment(env_id: str) -> None:
    """Reset the environment and take a few steps. Raises UserError if something is wrong with it."""
    env = make_env(env_id)
    with faults_of(env_id, "spaces"):
        check_spaces(env.observation_space, env.action_space)
    space: Any = env.action_space
    ended = True
    for seed in range(3):
        if ended:
            env.reset(seed=seed)
        middle = space.low / 2 + space.high / 2  # (A,)
        _, _, terminated, truncated, _ = env.step(middle.astype(space.dtype))
        ended = terminated or truncated
    env.reset()  # as at the end of an episode, without a seed
    env.close()


def spec_of(env_id: str) -> EnvSpec:
    """Return the registered specification; unlike `gym.spec`, this works for `module:Id` too."""
    spec = make_env(env_id).spec
    assert spec is not None
    return spec


def is_reacher(env_id: str) -> bool:
    """Return True for Gymnasium's Reacher, whose observations the lab can draw."""
    return re.fullmatch(r"Reacher-v\d+", env_id) is not None


def check_spaces(observation_space: gym.Space, action_space: gym.Space) -> None:
    """Raise UserError unless observations are a flat Box and actions a flat, bounded float Box."""
    if not is_flat_box(observation_space):
        raise UserError(f"observations are {describe(observation_space)}; PPO needs a flat Box")
    box: Any = action_space
    if not is_flat_box(box) or box.dtype.kind != "f":
        raise UserError(f"actions are {describe(box)}; PPO needs a flat Box of floats")
    for name, space in (("observations", observation_space), ("actions", box)):
        if not has_torch_type(space):
            raise UserError(f"{name} are {describe(space)}; PyTorch has no numbers of this type")
    if not box.is_bounded():
        raise UserError(f"actions are {describe(box)}, without bounds; PPO needs finite bounds")


def is_flat_box(space: gym.Space) -> bool:
    """Return True for a Box of vectors with at least one number."""
    return isinstance(space, gym.spaces.Box) and len(space.shape) == 1 and space.shape[0] > 0


def has_torch_type(space: gym.Space) -> bool:
    """Return True if PyTorch can hold the space's numbers: not, for example, those of the other byte order."""
    try:
        torch.as_tensor(np.zeros(1, space.dtype))
    except (TypeError, ValueError):
        return False
    return True


def describe(space: gym.Space) -> str:
    """Return the kind of a space, for a Box with its shape and type."""
    if isinstance(space, gym.spaces.Box):
        return f"a Box of shape {space.shape}, {space.dtype}"
    return f"a {type(space).__name__} of the package {type(space).__module__.partition('.')[0]}"


def true_next_observations(next_observations: np.ndarray, info: dict[str, Any]) -> np.ndarray:
    """Return the observations (N, O) that each action led to.

    Where an episode ended, that is its final observation, and not the one after the reset.
    """
    if "final_obs" not in info:
        return next_observations
    true_next = next_observations.copy()
    for index in np.flatnonzero(info["_final_obs"]):
        true_next[index] = info["final_obs"][index]
    return true_next
