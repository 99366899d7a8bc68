"""Baseline policies without learning: random actions, and a hand-written controller.

A policy is a function from observations (N, O) to actions (N, A), both NumPy arrays.
"""

from collections.abc import Callable

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

Policy = Callable[[NDArray], NDArray]

# Lengths in meters (Gymnasium's reacher.xml); the forearm ends at the middle of the fingertip.
UPPER_ARM = 0.1
FOREARM = 0.11


def random_policy(action_space: Box, seed: int) -> Policy:
    """Return a policy that samples actions uniformly from the box, whatever it observes."""
    generator = np.random.default_rng(seed)
    low = action_space.low
    high = action_space.high

    def act(observations: NDArray) -> NDArray:
        size = (len(observations), *low.shape)
        return generator.uniform(low, high, size).astype(low.dtype)  # (N, A)

    return act


def inverse_kinematics_controller(kp: float = 0.25, kd: float = 0.055) -> Policy:
    """Return a controller for Reacher: inverse kinematics gives the joint angles, a PD controller
    moves the arm there.

    Args:
        kp: torque, in units of the action, per radian of angle error.
        kd: torque per radian/s of joint velocity.
    """

    def act(observations: NDArray) -> NDArray:
        shoulder = np.arctan2(observations[:, 2], observations[:, 0])  # (N,) radians
        elbow = np.arctan2(observations[:, 3], observations[:, 1])  # (N,)
        angles = np.stack([shoulder, elbow], axis=-1)  # (N, 2)

        # Two solutions reach the target: with the elbow bent to either side.
        goals = target_angles(observations[:, 4:6])  # (2, N, 2)
        errors = wrap(goals - angles)  # (2, N, 2)
        errors[..., 1] = goals[..., 1] - elbow  # the elbow's stop prevents a full turn

        # Take the closer one.
        closer = np.abs(errors).max(-1).argmin(0)  # (2, N, 2) -> (N,)
        error = errors[closer, np.arange(len(observations))]  # (N, 2)
        torques = kp * error - kd * observations[:, 6:8]  # (N, 2)
        return np.clip(torques, -1.0, 1.0).astype(np.float32)

    return act


def target_angles(targets: NDArray) -> NDArray:
    """Return the joint angles (2, N, 2) in radians that put the fingertip on targets (N, 2).

    Targets are in meters; the first dimension of the result is the side that the elbow bends to.
    By the law of cosines. For a target out of reach, the arm is stretched or folded towards it.
    """
    distance = np.linalg.norm(targets, axis=-1)  # (N,)
    cosine = (distance**2 - UPPER_ARM**2 - FOREARM**2) / (2 * UPPER_ARM * FOREARM)  # (N,)
    bend = np.arccos(np.clip(cosine, -1.0, 1.0))  # (N,)
    elbows = np.stack([bend, -bend])  # (2, N)

    # The direction to the target, minus the angle between it and the upper arm.
    across = FOREARM * np.sin(elbows)  # (2, N)
    along = UPPER_ARM + FOREARM * np.cos(elbows)  # (2, N)
    shoulder_offset = np.arctan2(across, along)  # (2, N)
    shoulders = np.arctan2(targets[:, 1], targets[:, 0]) - shoulder_offset  # (2, N)
    return np.stack([shoulders, elbows], axis=-1)  # (2, N, 2)


def wrap(angles: NDArray) -> NDArray:
    """Return angles in radians wrapped to [-pi, pi)."""
    return (angles + np.pi) % (2 * np.pi) - np.pi
