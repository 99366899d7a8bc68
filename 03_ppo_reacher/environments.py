"""Vector environments for PPO: several copies, each reset in the step in which its episode ends.

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
    """Return `num_envs` copies of the environment, with same-step autoreset.

    The final observation of an episode is in the step's info. Reacher-v5 is a `ReacherVectorEnv`,
    which gives the same results several times faster. Raises UserError if there is no such
    environment or PPO's Gaussian policy does not fit its spaces.
    """
    if env_id == "Reacher-v5":
        return ReacherVectorEnv(num_envs)
    if ":" in env_id and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # the user's own module may be in the current folder
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
    """Return the registered specification; unlike `gym.spec`, this works for `module:Id` too."""
    spec = gym.make(env_id).spec
    assert spec is not None
    return spec


def check_spaces(env_id: str, observation_space: gym.Space, action_space: gym.Space) -> None:
    """Raise UserError unless observations are a flat Box and actions a flat, bounded float Box."""
    observations = f"--env_id {env_id}: observations are {observation_space}"
    actions = f"--env_id {env_id}: actions are {action_space}"
    box = gym.spaces.Box
    if not isinstance(observation_space, box) or len(observation_space.shape) != 1:
        raise UserError(f"{observations}; PPO needs a flat Box")
    if not isinstance(action_space, box) or len(action_space.shape) != 1:
        raise UserError(f"{actions}; PPO needs a flat Box of floats")
    if action_space.dtype.kind != "f":
        raise UserError(f"{actions}; PPO needs a flat Box of floats")
    if not action_space.is_bounded():
        raise UserError(f"{actions}; PPO needs finite bounds")


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
