"""Two policies that nobody had to train: what learning is measured against.

A policy is a callable from observations (N, O) to actions (N, A), both NumPy.
"""

from collections.abc import Callable

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

Policy = Callable[[NDArray], NDArray]

UPPER_ARM, FOREARM = 0.1, 0.11  # metres, the second one up to the middle of the fingertip (Gymnasium's reacher.xml)


def random_policy(action_space: Box, seed: int) -> Policy:
    """Actions drawn uniformly from the box, whatever is observed."""
    generator = np.random.default_rng(seed)
    low, high = action_space.low, action_space.high
    return lambda observations: generator.uniform(low, high, (len(observations), *low.shape)).astype(low.dtype)


def inverse_kinematics_controller(kp: float = 0.25, kd: float = 0.055) -> Policy:
    """Reacher solved by hand: the joint angles that put the fingertip on the target, and a PD controller to get there.

    Args:
        kp: torque (in units of the action) a radian of angle error.
        kd: torque a radian per second of joint velocity.
    """

    def act(observations: NDArray) -> NDArray:
        shoulder = np.arctan2(observations[:, 2], observations[:, 0])  # (N,) radians
        elbow = np.arctan2(observations[:, 3], observations[:, 1])
        goals = target_angles(observations[:, 4:6])  # (2, N, 2): the elbow bent to either side
        errors = wrap(goals - np.stack([shoulder, elbow], axis=-1))
        errors[..., 1] = goals[..., 1] - elbow  # the elbow stops short of a full turn: no way round the back
        nearer = np.abs(errors).max(-1).argmin(0)  # (N,)
        error = errors[nearer, np.arange(len(observations))]  # (N, 2)
        return np.clip(kp * error - kd * observations[:, 6:8], -1.0, 1.0).astype(np.float32)

    return act


def target_angles(targets: NDArray) -> NDArray:
    """Joint angles (2, N, 2) in radians, for both bends of the elbow, with the fingertip on targets (N, 2) in metres.

    By the law of cosines; a target out of reach gets the stretched or folded arm that points at it.
    """
    distance = np.linalg.norm(targets, axis=-1)
    cosine = (distance**2 - UPPER_ARM**2 - FOREARM**2) / (2 * UPPER_ARM * FOREARM)
    bend = np.arccos(np.clip(cosine, -1.0, 1.0))  # (N,)
    elbows = np.stack([bend, -bend])  # (2, N)
    lean = np.arctan2(FOREARM * np.sin(elbows), UPPER_ARM + FOREARM * np.cos(elbows))
    shoulders = np.arctan2(targets[:, 1], targets[:, 0]) - lean
    return np.stack([shoulders, elbows], axis=-1)


def wrap(angles: NDArray) -> NDArray:
    """Angles in radians brought into [-pi, pi)."""
    return (angles + np.pi) % (2 * np.pi) - np.pi
