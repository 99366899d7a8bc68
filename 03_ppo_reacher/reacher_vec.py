"""Many Reachers in one process: `gymnasium.make("Reacher-v5")` without the layers in between, equal to the bit.

# N environments
"""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions are compiled, and its package names them nowhere that a type checker could read)

import json
from collections.abc import Sequence
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

MODEL_FILE = Path(gym.__file__).parent / "envs/mujoco/assets/reacher.xml"
FRAME_SKIP = 2  # physics steps of 0.01 s an environment step
MAX_EPISODE_STEPS = 50


class ReacherVectorEnv(VectorEnv):
    """`num_envs` independent Reacher-v5 environments, stepped side by side on MuJoCo itself.

    Observations (N, 10) float64, rewards (N,) float64, resets and `info["final_obs"]` are those of
    `gymnasium.make("Reacher-v5")` given the same seeds and actions, to the last bit: the same calls in the same order
    on the same numbers. An environment that ends is reset in the same step; its last observation is then in
    `info["final_obs"]` where `info["_final_obs"]` is true. Episodes are cut after 50 steps and never terminate.

    Args:
        num_envs: number of environments, N.
        num_threads: threads that step them; MuJoCo runs outside of Python's lock.

    Source: Gymnasium's `envs/mujoco/reacher_v5.py`, whose manual holds here too.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012 - as Gymnasium has it

    def __init__(self, num_envs: int, num_threads: int = 2) -> None:
        self.num_envs = num_envs
        self.spec = gym.spec("Reacher-v5")
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (10,), np.float64)
        self.single_action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.model = mujoco.MjModel.from_xml_path(str(MODEL_FILE))
        self.data = [mujoco.MjData(self.model) for _ in range(num_envs)]
        self.initial_qpos, self.initial_qvel = self.data[0].qpos.copy(), self.data[0].qvel.copy()
        self.generators: list[np.random.Generator | None] = [None] * num_envs
        self.elapsed = np.zeros(num_envs, dtype=np.int64)  # (N,) steps since the reset
        fingertip, target = self.model.body("fingertip").id, self.model.body("target").id
        # views into MuJoCo's own memory: what a step changes is read without asking again
        self.views = [(d.ctrl, d.qpos, d.qvel, d.xpos[fingertip], d.xpos[target]) for d in self.data]
        self.qpos, self.qvel = np.zeros((num_envs, 4)), np.zeros((num_envs, 2))
        self.to_target = np.zeros((num_envs, 3))  # (N, 3) fingertip minus target
        self.shares = [range(start, num_envs, num_threads) for start in range(min(num_threads, num_envs))]
        self.pool = ThreadPoolExecutor(len(self.shares) - 1) if len(self.shares) > 1 else None

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
            self._reset_one(index)
        return self._observations(), {}

    def step(
        self, actions: NDArray
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Apply torques (N, 2): observations (N, 10), rewards (N,), terminated (N,) never, truncated (N,), info."""
        actions = np.asarray(actions)
        helpers = [self.pool.submit(self._advance, share, actions) for share in self.shares[1:]] if self.pool else []
        self._advance(self.shares[0], actions)
        for helper in helpers:
            helper.result()
        self.elapsed += 1
        # one dot product a row, as np.linalg.norm takes it, and the penalty in the dtype of the actions as given
        rewards = -np.sqrt(np.vecdot(self.to_target, self.to_target)) - np.square(actions).sum(axis=1)
        observations = self._observations()
        truncated = self.elapsed >= MAX_EPISODE_STEPS
        info: dict[str, Any] = {}
        if truncated.any():
            info = {"final_obs": np.full(self.num_envs, None, dtype=object), "_final_obs": truncated.copy()}
            for index in np.flatnonzero(truncated):
                info["final_obs"][index] = observations[index]
                self._reset_one(int(index))
            observations = self._observations()
        return observations, rewards, np.zeros(self.num_envs, dtype=bool), truncated, info

    def state_dict(self) -> dict[str, Any]:
        """Where all environments and their random numbers stand: another instance goes on from it to the same bits."""
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        states = np.zeros((self.num_envs, mujoco.mj_stateSize(self.model, kind)))
        for row, data in zip(states, self.data, strict=True):
            mujoco.mj_getState(self.model, data, row, kind)
        generators = [json.dumps(g.bit_generator.state) if g is not None else None for g in self.generators]
        return {"physics": torch.from_numpy(states), "elapsed": self.elapsed.tolist(), "generators": generators}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken; the observations there are the caller's to keep."""
        self.elapsed[:] = state["elapsed"]
        for index, (row, saved) in enumerate(zip(state["physics"].numpy(), state["generators"], strict=True)):
            mujoco.mj_setState(self.model, self.data[index], row, mujoco.mjtState.mjSTATE_INTEGRATION)
            generator = np.random.Generator(np.random.PCG64())
            generator.bit_generator.state = json.loads(saved)
            self.generators[index] = generator

    def close_extras(self, **kwargs: Any) -> None:
        """Let the threads go."""
        if self.pool is not None:
            self.pool.shutdown()

    def _advance(self, indices: range, actions: NDArray) -> None:
        for index in indices:
            self.views[index][0][:] = actions[index]
            mujoco.mj_step(self.model, self.data[index], FRAME_SKIP)
            self._read(index)

    def _read(self, index: int) -> None:
        # xpos as mj_step leaves it, from the last stage of the RK4 integrator, not that of the new qpos: so Gymnasium
        _, qpos, qvel, fingertip, target = self.views[index]
        self.qpos[index], self.qvel[index] = qpos, qvel[:2]
        self.to_target[index] = fingertip - target

    def _reset_one(self, index: int) -> None:
        data, generator = self.data[index], self.generators[index]
        assert generator is not None
        mujoco.mj_resetData(self.model, data)
        qpos = generator.uniform(-0.1, 0.1, 4) + self.initial_qpos
        while True:
            goal = generator.uniform(-0.2, 0.2, 2)
            if np.linalg.norm(goal) < 0.2:
                break
        qpos[2:] = goal
        qvel = self.initial_qvel + generator.uniform(-0.005, 0.005, 4)
        qvel[2:] = 0.0
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(self.model, data)
        self.elapsed[index] = 0
        self._read(index)

    def _observations(self) -> NDArray[np.float64]:
        angles = np.ascontiguousarray(self.qpos[:, :2])  # (N, 2)
        parts = (np.cos(angles), np.sin(angles), self.qpos[:, 2:], self.qvel, self.to_target[:, :2])
        return np.concatenate(parts, axis=1)  # (N, 10)
