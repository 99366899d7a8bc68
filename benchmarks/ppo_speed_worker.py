"""One side of benchmarks/ppo_speed.py: wait for a line on standard input, run a chunk, print its seconds.

    python ppo_speed_worker.py SIDE CHUNKS ITERATIONS

The first chunk is a warm-up: as long as the others for the other libraries, one separate iteration for ours.
"""

import itertools
import sys
import time
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from ppo_config import PPOConfig

ENV_ID = "Reacher-v5"
OURS = PPOConfig()


def one_environment(steps: int) -> Iterator[None]:
    """Take random steps in one Gymnasium environment, resets included."""
    env = gym.make(ENV_ID)
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 2)).astype(np.float32)
    while True:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        yield


def ours(chunks: int, iterations: int) -> Iterator[None]:
    """Train our PPO with its defaults."""
    from ppo import train

    list(train(PPOConfig(num_iterations=1)))
    yield
    run = train(PPOConfig(num_iterations=chunks * iterations))
    while True:
        for _ in itertools.islice(run, iterations):
            pass
        yield


def stable_baselines(algorithm: Any, relu: Any, defaults: bool, steps: int) -> Iterator[None]:
    """Train the PPO of Stable-Baselines3 or SBX, with its defaults or with our settings."""
    from stable_baselines3.common.env_util import make_vec_env

    settings: dict[str, Any] = (
        {}
        if defaults
        else {
            "n_steps": OURS.steps_per_iter // OURS.num_envs,
            "batch_size": OURS.steps_per_iter // OURS.num_minibatches,
            "n_epochs": OURS.num_epochs,
            "learning_rate": OURS.learning_rate,
            "gamma": OURS.discount,
            "gae_lambda": OURS.gae_lambda,
            "policy_kwargs": {"net_arch": list(OURS.hidden_sizes), "activation_fn": relu},
        }
    )
    model = algorithm("MlpPolicy", make_vec_env(ENV_ID, 1 if defaults else OURS.num_envs, seed=0), **settings)
    while True:
        model.learn(steps, reset_num_timesteps=False)
        yield


def side(name: str, chunks: int, iterations: int) -> Iterator[None]:
    """Return the named side; each step of the iterator runs one chunk."""
    steps = iterations * OURS.steps_per_iter
    if name == "ours":
        return ours(chunks, iterations)
    if name == "one environment":
        return one_environment(steps)
    if name.startswith("SBX"):
        import flax.linen  # pyright: ignore[reportMissingImports]
        import sbx  # pyright: ignore[reportMissingImports]

        return stable_baselines(sbx.PPO, flax.linen.relu, "defaults" in name, steps)
    import stable_baselines3

    return stable_baselines(stable_baselines3.PPO, torch.nn.ReLU, "defaults" in name, steps)


if __name__ == "__main__":
    torch.set_num_threads(1)
    work = side(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    for _ in sys.stdin:
        started = time.perf_counter()
        next(work)
        print(time.perf_counter() - started, flush=True)
