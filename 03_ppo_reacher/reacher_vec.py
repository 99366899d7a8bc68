"""Many Reachers in one process: `gymnasium.make("Reacher-v5")` without the layers in between, equal to the bit.

MuJoCo takes 20 microseconds and more for a step of one arm, most of it to get started. So the arms of a thread lie in
one world, on top of one another where nothing touches anything, and MuJoCo steps them together: about 8 an arm.

# N environments, n arms of one world
"""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions are compiled, and its package names them nowhere that a type checker could read)

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

MODEL_FILE = str(Path(gym.__file__).parent / "envs/mujoco/assets/reacher.xml")
FRAME_SKIP, STEP_SECONDS = 2, 0.02  # physics steps an environment step, and the time that they take
MAX_EPISODE_STEPS = 50
ELBOW_STOP = 3.0  # radians, to either side
SPEED_UP = 0.06  # radians; full torque is 200 rad/s², which takes an elbow 0.04 further in a step than its speed does
ARM_STATE = mujoco.mjtState.mjSTATE_QPOS | mujoco.mjtState.mjSTATE_QVEL | mujoco.mjtState.mjSTATE_WARMSTART


def together(num_arms: int) -> mujoco.MjModel:
    """The model of `num_arms` arms at one place, without walls: Gymnasium's file lets nothing collide with anything."""
    arms = [mujoco.MjSpec.from_file(MODEL_FILE) for _ in range(num_arms)]
    for arm in arms:
        for wall in list(arm.worldbody.geoms):
            arm.delete(wall)
    for number, arm in enumerate(arms[1:], 1):
        arms[0].attach(arm, frame=arms[0].worldbody.add_frame(), prefix=f"{number}_")
    model = arms[0].compile()
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT  # spares the search for collisions
    return model


class World:
    """`num_arms` arms with their targets in one MuJoCo world, each moving to the bit as it would alone.

    What couples them is the solver of MuJoCo's constraints, and the one constraint that can become active is the stop
    of an elbow. An arm that may get there within a step is therefore stepped in a world of its own.
    """

    def __init__(self, num_arms: int) -> None:
        self.model, self.alone = together(num_arms), together(1)
        self.data, self.alone_data = mujoco.MjData(self.model), mujoco.MjData(self.alone)
        # views into MuJoCo's own memory, a row an arm; the columns are shoulder, elbow, target x, target y
        parts = (self.data.qpos, self.data.qvel, self.data.qacc_warmstart)
        self.qpos, self.qvel, self.warmstart = (part.reshape(num_arms, 4) for part in parts)  # (n, 4) each
        self.bodies = self.data.xpos[1:].reshape(num_arms, 4, 3)  # (n, 4, 3) upper arm, forearm, fingertip, target

    def step(self, torques: NDArray) -> None:
        """Apply torques (n, 2) for the length of an environment step."""
        reach = np.abs(self.qpos[:, 1]) + STEP_SECONDS * np.abs(self.qvel[:, 1])  # (n,)
        near_stop = np.flatnonzero(reach > ELBOW_STOP - SPEED_UP).tolist()
        before = self.state() if near_stop else self.qpos
        self.data.ctrl[:] = torques.ravel()
        mujoco.mj_step(self.model, self.data, FRAME_SKIP)
        for arm in near_stop:
            mujoco.mj_setState(self.alone, self.alone_data, before[arm], ARM_STATE)
            self.alone_data.ctrl[:] = torques[arm]
            mujoco.mj_step(self.alone, self.alone_data, FRAME_SKIP)
            self._take_over(arm)

    def reset(self, arm: int, qpos: NDArray, qvel: NDArray) -> None:
        """Put one arm and its target at qpos (4,), radians and metres, with velocities qvel (4,); the others stay."""
        mujoco.mj_resetData(self.alone, self.alone_data)
        self.alone_data.qpos[:], self.alone_data.qvel[:] = qpos, qvel
        mujoco.mj_forward(self.alone, self.alone_data)
        self._take_over(arm)

    def _take_over(self, arm: int) -> None:
        alone = self.alone_data
        self.qpos[arm], self.qvel[arm], self.warmstart[arm] = alone.qpos, alone.qvel, alone.qacc_warmstart
        self.bodies[arm] = alone.xpos[1:]

    def observe(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Observations (n, 10) and distances from fingertip to target (n,) in metres.

        As Gymnasium has it: positions are those that `mj_step` leaves, from the last stage of the RK4 integrator.
        """
        to_target = self.bodies[:, 2] - self.bodies[:, 3]  # (n, 3)
        angles = np.ascontiguousarray(self.qpos[:, :2])  # (n, 2)
        parts = (np.cos(angles), np.sin(angles), self.qpos[:, 2:], self.qvel[:, :2], to_target[:, :2])
        distances = np.sqrt(np.vecdot(to_target, to_target))  # one dot product a row, as np.linalg.norm takes it
        return np.concatenate(parts, axis=1), distances

    def state(self) -> NDArray[np.float64]:
        """All that decides how the arms go on (n, 12): qpos, qvel, and what the solver starts from."""
        return np.concatenate([self.qpos, self.qvel, self.warmstart], axis=1)

    def load_state(self, state: NDArray[np.float64]) -> None:
        """Go on from a `state` (n, 12)."""
        self.qpos[:], self.qvel[:], self.warmstart[:] = np.split(state, 3, axis=1)


class ReacherVectorEnv(VectorEnv):
    """`num_envs` independent Reacher-v5 environments, stepped side by side on MuJoCo itself.

    Observations (N, 10) float64, rewards (N,) float64, resets and `info["final_obs"]` are those of
    `gymnasium.make("Reacher-v5")` given the same seeds and actions, to the last bit: the same calls in the same order
    on the same numbers. An environment that ends is reset in the same step; its last observation is then in
    `info["final_obs"]` where `info["_final_obs"]` is true. Episodes are cut after 50 steps and never terminate.

    Args:
        num_envs: number of environments, N.
        num_threads: threads that step them, a world each, outside of Python's lock; two pay from about 100 on.

    Source: Gymnasium's `envs/mujoco/reacher_v5.py`, whose manual holds here too.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012 - as Gymnasium has it

    def __init__(self, num_envs: int, num_threads: int = 1) -> None:
        self.num_envs = num_envs
        self.spec = gym.spec("Reacher-v5")
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (10,), np.float64)
        self.single_action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.generators: list[np.random.Generator | None] = [None] * num_envs
        self.elapsed = np.zeros(num_envs, dtype=np.int64)  # (N,) steps since the reset
        self.shares = np.array_split(np.arange(num_envs), min(num_threads, num_envs))  # the environments of each world
        self.worlds = [World(len(share)) for share in self.shares]
        self.places = [
            (world, arm) for world, share in zip(self.worlds, self.shares, strict=True) for arm in range(len(share))
        ]
        self.initial_qpos = self.worlds[0].qpos[0].copy()
        self.pool = ThreadPoolExecutor(len(self.worlds) - 1) if len(self.worlds) > 1 else None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Start all episodes anew. An integer seeds environment i with seed + i, a list each with its own.

        Without a seed each goes on with its own random numbers. Returns observations (N, 10) and an empty info.
        """
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"{len(seed)} seeds for {self.num_envs} environments")
        for index, own in enumerate(seed):
            if own is not None or self.generators[index] is None:
                self.generators[index] = seeding.np_random(own)[0]
        return self._reset(range(self.num_envs)), {}

    def step(
        self, actions: NDArray
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Apply torques (N, 2): observations (N, 10), rewards (N,), terminated (N,) never, truncated (N,), info."""
        actions = np.asarray(actions)
        penalties = np.square(actions).sum(axis=1)  # (N,) in the dtype of the actions as given
        if np.isnan(penalties).any():  # there MuJoCo applies no torque at all, to none of the arms in a world
            actions = np.where(np.isnan(actions).any(axis=1, keepdims=True), 0.0, actions)
        observations, distances = self._advance(actions)
        self.elapsed += 1
        truncated = self.elapsed >= MAX_EPISODE_STEPS
        info: dict[str, Any] = {}
        if truncated.any():
            info = {"final_obs": np.full(self.num_envs, None, dtype=object), "_final_obs": truncated.copy()}
            for index in np.flatnonzero(truncated):
                info["final_obs"][index] = observations[index]
            observations = self._reset(np.flatnonzero(truncated))
        return observations, -distances - penalties, np.zeros(self.num_envs, dtype=bool), truncated, info

    def state_dict(self) -> dict[str, Any]:
        """Where all environments and their random numbers stand: another instance goes on from it to the same bits."""
        states = np.concatenate([world.state() for world in self.worlds])  # (N, 12)
        generators = [json.dumps(g.bit_generator.state) if g is not None else None for g in self.generators]
        return {"physics": torch.from_numpy(states), "elapsed": self.elapsed.tolist(), "generators": generators}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken; the observations there are the caller's to keep."""
        self.elapsed[:] = state["elapsed"]
        for world, share in zip(self.worlds, self.shares, strict=True):
            world.load_state(state["physics"].numpy()[share])
        for index, saved in enumerate(state["generators"]):
            generator = np.random.Generator(np.random.PCG64())
            generator.bit_generator.state = json.loads(saved)
            self.generators[index] = generator

    def close_extras(self, **kwargs: Any) -> None:
        """Let the threads go."""
        if self.pool is not None:
            self.pool.shutdown()

    def _advance(self, actions: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """All worlds one step further: observations (N, 10) and distances (N,). The first world is this thread's."""
        first, *others = zip(self.worlds, (actions[share] for share in self.shares), strict=True)
        helpers = [self.pool.submit(world.step, torques) for world, torques in others] if self.pool else []
        first[0].step(first[1])
        for helper in helpers:
            helper.result()
        return self._observe()

    def _observe(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        observations, distances = zip(*[world.observe() for world in self.worlds], strict=True)
        return np.concatenate(observations), np.concatenate(distances)

    def _reset(self, indices: Iterable[int]) -> NDArray[np.float64]:
        """Start new episodes in some environments; returns the observations of all (N, 10)."""
        for index in indices:
            generator = self.generators[index]
            assert generator is not None
            qpos = generator.uniform(-0.1, 0.1, 4) + self.initial_qpos
            while True:
                goal = generator.uniform(-0.2, 0.2, 2)
                if np.linalg.norm(goal) < 0.2:
                    break
            qvel = generator.uniform(-0.005, 0.005, 4)
            qpos[2:], qvel[2:] = goal, 0.0
            world, arm = self.places[index]
            world.reset(arm, qpos, qvel)
            self.elapsed[index] = 0
        return self._observe()[0]
