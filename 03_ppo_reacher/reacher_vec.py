"""Many Reacher-v5 environments in one process, bit-exact with Gymnasium's and several times faster.

MuJoCo needs at least 20 microseconds to step one arm, most of it fixed overhead. Therefore all arms
of a thread are in one MuJoCo world, in the same place, where nothing collides, and one call steps
them together: about 8 microseconds per arm.

# N environments, n arms of one world
"""

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from lab.rendering import import_mujoco

mujoco = import_mujoco()

MODEL_FILE = str(Path(gym.__file__).parent / "envs/mujoco/assets/reacher.xml")
FRAME_SKIP = 2  # physics steps per environment step
STEP_SECONDS = 0.02  # simulated time per environment step
MAX_EPISODE_STEPS = 50
ELBOW_STOP = 3.0  # radians, on both sides
# Radians: an elbow at its present velocity is within this of its stop, so that a step may reach it.
# Full torque accelerates it by 200 radians/s^2, which adds 0.04 radians to a step.
STOP_MARGIN = 0.06
STATE = mujoco.mjtState
ARM_STATE = STATE.mjSTATE_QPOS | STATE.mjSTATE_QVEL | STATE.mjSTATE_WARMSTART


def build_model(num_arms: int) -> Any:
    """Return a model of `num_arms` arms in the same place, without walls.

    Nothing collides with anything in Gymnasium's file, either.
    """
    arms = [mujoco.MjSpec.from_file(MODEL_FILE) for _ in range(num_arms)]
    for arm in arms:
        for wall in list(arm.worldbody.geoms):
            arm.delete(wall)
    for number, arm in enumerate(arms[1:], 1):
        frame = arms[0].worldbody.add_frame()
        arms[0].attach(arm, frame=frame, prefix=f"{number}_")
    model = arms[0].compile()
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT  # no search for collisions
    return model


class World:
    """`num_arms` arms with their targets in one MuJoCo world, each bit-exact with a world of one.

    Only MuJoCo's constraint solver couples the arms, and the only constraint that can become active
    is the stop of an elbow. An arm whose elbow may reach its stop in a step is therefore stepped in
    a separate world with a single arm.
    """

    def __init__(self, num_arms: int) -> None:
        self.model = build_model(num_arms)
        self.data = mujoco.MjData(self.model)
        self.single_arm = build_model(1)
        self.single_data = mujoco.MjData(self.single_arm)

        # Views of MuJoCo's memory, one row per arm: shoulder, elbow, target x, target y.
        self.qpos = self.data.qpos.reshape(num_arms, 4)  # (n * 4,) -> (n, 4)
        self.qvel = self.data.qvel.reshape(num_arms, 4)  # (n * 4,) -> (n, 4)
        self.warmstart = self.data.qacc_warmstart.reshape(num_arms, 4)  # (n * 4,) -> (n, 4)
        # Body positions: upper arm, forearm, fingertip, target. Body 0 is the world itself.
        self.bodies = self.data.xpos[1:].reshape(num_arms, 4, 3)  # (n * 4, 3) -> (n, 4, 3)

    def step(self, torques: NDArray) -> None:
        """Apply torques (n, 2) for one environment step."""
        # Which elbows may reach their stop within this step?
        reach = np.abs(self.qpos[:, 1]) + STEP_SECONDS * np.abs(self.qvel[:, 1])  # (n,)
        near_stop = np.flatnonzero(reach > ELBOW_STOP - STOP_MARGIN).tolist()
        state_before = self.state() if near_stop else self.qpos

        # Step all arms together.
        self.data.ctrl[:] = torques.ravel()  # (n, 2) -> (n * 2,)
        mujoco.mj_step(self.model, self.data, FRAME_SKIP)

        # Repeat the step of the arms near a stop, one by one.
        for arm in near_stop:
            mujoco.mj_setState(self.single_arm, self.single_data, state_before[arm], ARM_STATE)
            self.single_data.ctrl[:] = torques[arm]
            mujoco.mj_step(self.single_arm, self.single_data, FRAME_SKIP)
            self._copy_arm(arm)

    def reset(self, arm: int, qpos: NDArray, qvel: NDArray) -> None:
        """Set one arm and its target to qpos (4,), radians and meters, and velocities qvel (4,)."""
        mujoco.mj_resetData(self.single_arm, self.single_data)
        self.single_data.qpos[:] = qpos
        self.single_data.qvel[:] = qvel
        mujoco.mj_forward(self.single_arm, self.single_data)
        self._copy_arm(arm)

    def _copy_arm(self, arm: int) -> None:
        """Copy the state of the single arm to an arm of this world."""
        self.qpos[arm] = self.single_data.qpos
        self.qvel[arm] = self.single_data.qvel
        self.warmstart[arm] = self.single_data.qacc_warmstart
        self.bodies[arm] = self.single_data.xpos[1:]

    def observe(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return observations (n, 10) and distances from fingertip to target (n,) in meters.

        Like Gymnasium, it uses the positions that `mj_step` leaves: those of the last stage of the
        RK4 integrator.
        """
        fingertips = self.bodies[:, 2]  # (n, 3)
        targets = self.bodies[:, 3]  # (n, 3)
        to_target = fingertips - targets  # (n, 3)
        angles = np.ascontiguousarray(self.qpos[:, :2])  # (n, 2)
        observations = np.concatenate(
            [
                np.cos(angles),
                np.sin(angles),
                self.qpos[:, 2:],
                self.qvel[:, :2],
                to_target[:, :2],
            ],
            axis=1,
        )  # (n, 10)
        distances = np.sqrt(np.vecdot(to_target, to_target))  # (n,) rounded as np.linalg.norm does
        return observations, distances

    def state(self) -> NDArray[np.float64]:
        """Return the physics state (n, 12): qpos, qvel, and the solver's initial guess."""
        return np.concatenate([self.qpos, self.qvel, self.warmstart], axis=1)

    def load_state(self, state: NDArray[np.float64]) -> None:
        """Restore a `state` (n, 12)."""
        self.qpos[:], self.qvel[:], self.warmstart[:] = np.split(state, 3, axis=1)  # (n, 4) each


class ReacherVectorEnv(VectorEnv):
    """`num_envs` independent Reacher-v5 environments, stepped together by MuJoCo.

    Observations (N, 10) float64, rewards (N,) float64, resets and `info["final_obs"]` are bit-exact
    with those of `gymnasium.make("Reacher-v5")` for the same seeds and actions: the same calls in
    the same order on the same numbers. An environment whose episode ends is reset in the same step;
    its final observation is in `info["final_obs"]` where `info["_final_obs"]` is true. Episodes are
    truncated after 50 steps and never terminate.

    Args:
        num_envs: number of environments, N.
        num_threads: threads that step them in parallel, one world per thread; two are faster than
            one from about 100 environments on.

    Source: Gymnasium's `envs/mujoco/reacher_v5.py`, whose documentation applies here too.
    """

    metadata = {  # noqa: RUF012 - as in Gymnasium
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": [],
    }

    def __init__(self, num_envs: int, num_threads: int = 1) -> None:
        self.num_envs = num_envs
        self.spec = gym.spec("Reacher-v5")
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (10,), np.float64)
        self.single_action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.generators: list[np.random.Generator | None] = [None] * num_envs
        self.elapsed = np.zeros(num_envs, dtype=np.int64)  # (N,) steps since the reset

        # Divide the environments among the threads, one world each.
        num_worlds = min(num_threads, num_envs)
        self.env_slices = np.array_split(np.arange(num_envs), num_worlds)  # (n,) each
        self.worlds = [World(len(indices)) for indices in self.env_slices]
        self.arm_of_env = [(world, arm) for world in self.worlds for arm in range(len(world.qpos))]
        self.initial_qpos = self.worlds[0].qpos[0].copy()  # (4,)
        self.pool = ThreadPoolExecutor(num_worlds - 1) if num_worlds > 1 else None

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Reset all environments; return their observations (N, 10) and an empty info.

        An integer seeds environment i with seed + i, a list gives each its seed. Environments
        without a seed continue with their random number generators.
        """
        if isinstance(seed, int):
            seed = [seed + i for i in range(self.num_envs)]
        if seed is None:
            seed = [None] * self.num_envs
        if len(seed) != self.num_envs:
            raise ValueError(f"{len(seed)} seeds for {self.num_envs} environments")
        for index, env_seed in enumerate(seed):
            if env_seed is not None or self.generators[index] is None:
                self.generators[index] = seeding.np_random(env_seed)[0]
        return self._reset(range(self.num_envs)), {}

    def step(
        self,
        actions: NDArray,
    ) -> tuple[
        NDArray[np.float64],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Apply torques (N, 2) for one step.

        Returns observations (N, 10), rewards (N,), terminated (N,), which is never true, truncated
        (N,), and info.
        """
        if None in self.generators:
            raise gym.error.ResetNeeded("call reset before step")
        actions = np.asarray(actions)
        penalties = np.square(actions).sum(axis=1)  # (N, 2) -> (N,) in the dtype of the actions
        if np.isnan(penalties).any():
            # MuJoCo would apply no torque to any arm of the world: zero those of this arm alone.
            is_nan = np.isnan(actions).any(axis=1, keepdims=True)  # (N, 1)
            actions = np.where(is_nan, 0.0, actions)  # (N, 2)
        self._step_worlds(actions)
        observations, distances = self._observe()  # (N, 10), (N,)
        rewards = -distances - penalties  # (N,)

        # Reset the environments that have reached the time limit.
        self.elapsed += 1
        terminated = np.zeros(self.num_envs, dtype=bool)
        truncated = self.elapsed >= MAX_EPISODE_STEPS  # (N,)
        info: dict[str, Any] = {}
        if truncated.any():
            final_observations = np.full(self.num_envs, None, dtype=object)
            for index in np.flatnonzero(truncated):
                final_observations[index] = observations[index]
            info = {"final_obs": final_observations, "_final_obs": truncated.copy()}
            observations = self._reset(np.flatnonzero(truncated))
        return observations, rewards, terminated, truncated, info

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all environments and their random number generators."""
        states = np.concatenate([world.state() for world in self.worlds])  # (N, 12)
        generators = []
        for generator in self.generators:
            has_state = generator is not None
            generators.append(json.dumps(generator.bit_generator.state) if has_state else None)
        return {
            "physics": torch.from_numpy(states),
            "elapsed": self.elapsed.tolist(),
            "generators": generators,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`; it does not contain the last observations."""
        self.elapsed[:] = state["elapsed"]
        physics = state["physics"].numpy()  # (N, 12)
        for world, indices in zip(self.worlds, self.env_slices, strict=True):
            world.load_state(physics[indices])  # (n, 12)
        for index, generator_state in enumerate(state["generators"]):
            generator = np.random.Generator(np.random.PCG64())
            generator.bit_generator.state = json.loads(generator_state)
            self.generators[index] = generator

    def close_extras(self, **kwargs: Any) -> None:
        """Shut down the threads."""
        if self.pool is not None:
            self.pool.shutdown()

    def _step_worlds(self, actions: NDArray) -> None:
        """Step all worlds in parallel, the first one in this thread."""
        futures = []
        if self.pool is not None:
            for world, indices in zip(self.worlds[1:], self.env_slices[1:], strict=True):
                futures.append(self.pool.submit(world.step, actions[indices]))
        self.worlds[0].step(actions[self.env_slices[0]])
        for future in futures:
            future.result()

    def _observe(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the observations (N, 10) and distances (N,) of all environments."""
        observations = []
        distances = []
        for world in self.worlds:
            world_observations, world_distances = world.observe()  # (n, 10), (n,)
            observations.append(world_observations)
            distances.append(world_distances)
        return np.concatenate(observations), np.concatenate(distances)

    def _reset(self, indices: Iterable[int]) -> NDArray[np.float64]:
        """Start new episodes in some environments; return the observations of all (N, 10)."""
        for index in indices:
            generator = self.generators[index]
            assert generator is not None
            # The same draws in the same order as Gymnasium's `reset_model`.
            qpos = generator.uniform(-0.1, 0.1, 4) + self.initial_qpos  # (4,)
            while True:
                target = generator.uniform(-0.2, 0.2, 2)  # (2,) meters
                if np.linalg.norm(target) < 0.2:
                    break
            qvel = generator.uniform(-0.005, 0.005, 4)  # (4,)
            qpos[2:] = target
            qvel[2:] = 0.0  # the target does not move
            world, arm = self.arm_of_env[index]
            world.reset(arm, qpos, qvel)
            self.elapsed[index] = 0
        return self._observe()[0]
