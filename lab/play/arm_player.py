"""One arm in real time: its target is moved, and its policy exchanged, while it moves.

It is none of the training's arms, and it takes no numbers from the global random number generators, so that a
training in the same process stays the same.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from controllers import Policy
from reacher_vec import MAX_EPISODE_STEPS, World

REACH = 0.2  # meters from the shoulder: the targets of the training are within it
NEAR = 0.02  # meters from a resting target: an attempt that ends within it has succeeded
LOST = 0.06  # meters from a moving target: an arm that follows stays within it
EPISODE_STEPS = 125  # after which a target that nobody has moved jumps: more than in the training, to be seen
STRAIGHT = np.zeros(2)  # radians: where the episodes of the training start


def resting(observations: NDArray) -> NDArray:
    """Return no torques: the policy while there is no other."""
    return np.zeros((len(observations), 2), dtype=np.float32)


class Player:
    """An arm that attempts to reach its target, and attempts it again.

    Until somebody moves the target, it jumps now and then, and the arm starts straight, as in the training. A policy
    has learned only from such episodes, of 50 steps; from elsewhere it may find no way. So the arm starts again if the
    fingertip is not near the target 50 steps after the target was moved, or has lost a moving target for 50 steps.
    With `starts_again` false it never does.
    """

    def __init__(self, seed: int = 0) -> None:
        self.policy: Policy = resting
        self.starts_again = True
        self.world = World(1)
        self.generator = np.random.default_rng(seed)
        self.wanders = True  # until the user moves the target
        self.attempt = 1  # since the target was moved
        self.attempt_steps = 0
        self.lost_steps = 0
        self.torques = np.zeros((1, 2), dtype=np.float32)
        self._start_episode()

    def step(self) -> None:
        """Let the policy act for one step of the environment."""
        if self.wanders and self.attempt_steps == EPISODE_STEPS:
            self._start_episode()
        elif not self.wanders and self.starts_again and self._has_failed():
            self._start_attempt(self.attempt + 1)
        self.torques = np.nan_to_num(self.policy(self.observations))  # (1, 2)
        self.world.step(self.torques)
        self.observations, self.distances = self.world.observe()  # (1, 10), (1,)
        self.attempt_steps += 1
        self.lost_steps = self.lost_steps + 1 if self.distance() > LOST else 0

    def move_target(self, x: float, y: float) -> None:
        """Put the target at (x, y) in meters, or at the nearest place within reach; it stays there."""
        self.wanders = False
        self._place_target(np.array([x, y]))

    def distance(self) -> float:
        """Return the distance from the fingertip to the target in meters."""
        return float(self.distances[0])

    def picture(self) -> dict[str, Any]:
        """Return what there is to see, in radians and meters."""
        bodies = self.world.bodies[0, :, :2]  # (4, 2): upper arm, forearm, fingertip, target
        return {
            "joints": self.world.qpos[0, :2].tolist(),
            "elbow": bodies[1].tolist(),
            "fingertip": bodies[2].tolist(),
            "target": self.world.qpos[0, 2:].tolist(),
            "distance": self.distance(),
            "torques": self.torques[0].tolist(),
            "attempt": self.attempt,
            "wanders": self.wanders,
        }

    def _has_failed(self) -> bool:
        """Return True if an attempt has ended elsewhere than at the target."""
        if self.lost_steps >= MAX_EPISODE_STEPS:
            return True
        is_over = self.attempt_steps > 0 and self.attempt_steps % MAX_EPISODE_STEPS == 0
        return is_over and self.distance() > NEAR

    def _start_episode(self) -> None:
        """Put the target at a random place, uniform over most of the area within reach; the arm starts straight."""
        angle = self.generator.uniform(-np.pi, np.pi)
        radius = REACH * np.sqrt(self.generator.uniform(0.1, 1.0))
        self._place_target(radius * np.array([np.cos(angle), np.sin(angle)]))
        self._start_attempt(1)

    def _start_attempt(self, number: int) -> None:
        self._place(STRAIGHT, self.world.qpos[0, 2:], np.zeros(4))
        self.attempt = number
        self.attempt_steps = self.lost_steps = 0

    def _place_target(self, target: NDArray[np.float64]) -> None:
        target = target * min(1.0, REACH / max(float(np.linalg.norm(target)), 1e-9))
        self._place(self.world.qpos[0, :2], target, self.world.qvel[0])
        self.attempt = 1
        self.attempt_steps = 0

    def _place(self, joints: NDArray[np.float64], target: NDArray[np.float64], velocities: NDArray[np.float64]) -> None:
        """Put the arm and the target somewhere; MuJoCo computes from it what a policy observes."""
        self.world.reset(0, np.concatenate([joints, target]), velocities.copy())
        self.observations, self.distances = self.world.observe()  # (1, 10), (1,)
