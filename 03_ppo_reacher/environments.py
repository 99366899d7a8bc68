"""Vector environments for PPO: many copies side by side, reset in the step in which they end.

# N environments, O observation_dim
"""

import os
import sys
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv

from lab.errors import UserError
from reacher_vec import ReacherVectorEnv


def make_envs(env_id: str, num_envs: int) -> VectorEnv:
    """`num_envs` copies of the environment; one that ends is reset in the same step (its last observation is in info).

    Reacher-v5 comes as `ReacherVectorEnv`: the same numbers, several times as fast.
    Raises UserError if there is no such environment or PPO's Gaussian policy does not fit its spaces.
    """
    if env_id == "Reacher-v5":
        return ReacherVectorEnv(num_envs)
    if ":" in env_id and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a module of the user's own is looked for where they are, too
    try:
        envs = gym.make_vec(
            env_id,
            num_envs=num_envs,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        )
    except (gym.error.Error, ImportError) as error:
        raise UserError(f"--env_id {env_id}: {str(error).splitlines()[0]}") from None
    check_spaces(env_id, envs.single_observation_space, envs.single_action_space)
    return envs


def spec_of(env_id: str) -> EnvSpec:
    """How the environment is registered; unlike `gym.spec`, for `module:Id` too."""
    spec = gym.make(env_id).spec
    assert spec is not None
    return spec


def check_spaces(env_id: str, observation_space: gym.Space, action_space: gym.Space) -> None:
    """Raise UserError, saying why, unless observations are a flat Box and actions a flat, bounded Box of floats."""
    box = gym.spaces.Box
    if not isinstance(observation_space, box) or len(observation_space.shape) != 1:
        raise UserError(f"--env_id {env_id}: observations are {observation_space}; a flat Box is needed")
    if not isinstance(action_space, box) or len(action_space.shape) != 1 or action_space.dtype.kind != "f":
        raise UserError(f"--env_id {env_id}: actions are {action_space}; a flat Box of floats is needed")
    if not action_space.is_bounded():
        raise UserError(f"--env_id {env_id}: actions are {action_space}; they must be bounded")


def true_next_observations(next_observations: np.ndarray, info: dict[str, Any]) -> np.ndarray:
    """What followed the action: where an episode ended, its final observation in place of the reset's (N, O)."""
    if "final_obs" not in info:
        return next_observations
    following = next_observations.copy()
    for index in np.flatnonzero(info["_final_obs"]):
        following[index] = info["final_obs"][index]
    return following
