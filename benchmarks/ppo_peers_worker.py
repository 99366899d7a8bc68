"""One training of benchmarks/ppo_peers.py: prints one line of JSON, with its final return, its time and its curve.

python ppo_peers_worker.py SIDE SEED ITERATIONS EPISODES CURVE_EPISODES
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluate import HELD_OUT_SEED, SavedAgent, evaluate_policy
from lab.record import version
from ppo_config import PPOConfig

ENV_ID = "Reacher-v5"
OURS = PPOConfig()
POINTS = 20
CURVE_SEED = 2 * HELD_OUT_SEED
Policy = Callable[[NDArray], NDArray]


class Watch:
    """A clock that stands still while a policy is looked at, and the curve of what was seen."""

    def __init__(self, steps: int, episodes: int) -> None:
        self.every, self.episodes = max(steps // POINTS, 1), episodes
        self.curve: dict[str, list[float]] = {"steps": [], "seconds": [], "return": []}
        self.seconds, self.started = 0.0, time.perf_counter()

    def look(self, steps: int, policy: Policy) -> None:
        """Note how good the policy is after so many steps, if the next point of the curve has come."""
        if steps < self.every * (len(self.curve["steps"]) + 1):
            return
        self.seconds += time.perf_counter() - self.started
        self.curve["steps"].append(steps)
        self.curve["seconds"].append(round(self.seconds, 3))
        self.curve["return"].append(score(policy, self.episodes, CURVE_SEED))
        self.started = time.perf_counter()

    def stop(self) -> float:
        """The seconds of training."""
        return self.seconds + time.perf_counter() - self.started


def score(policy: Policy, episodes: int, seed: int) -> float:
    """Mean return of a deterministic policy."""
    return float(evaluate_policy(policy, ENV_ID, episodes, seed).returns.mean())


def ours(seed: int, iterations: int, episodes: int) -> tuple[Watch, float, Policy]:
    """A training with our own code and defaults."""
    from ppo import train

    settings = PPOConfig(seed=seed, num_iterations=iterations)
    watch = Watch(iterations * settings.steps_per_iter, episodes)
    agent = None
    for record in train(settings):
        agent = record.agent
        watch.look(record.steps, SavedAgent(agent, settings, -torch.ones(2), torch.ones(2)).policy())
    assert agent is not None
    return watch, watch.stop(), SavedAgent(agent, settings, -torch.ones(2), torch.ones(2)).policy()


def our_settings(relu: Any) -> dict[str, Any]:
    """Our defaults, as Stable-Baselines3 and SBX call them."""
    return {
        "n_steps": OURS.steps_per_iter // OURS.num_envs,
        "batch_size": OURS.steps_per_iter // OURS.num_minibatches,
        "n_epochs": OURS.num_epochs,
        "learning_rate": lambda left: OURS.learning_rate * left,
        "gamma": OURS.discount,
        "gae_lambda": OURS.gae_lambda,
        "clip_range": OURS.clip_ratio,
        "vf_coef": OURS.value_coefficient,
        "ent_coef": OURS.entropy_coefficient,
        "max_grad_norm": OURS.max_grad_norm,
        "policy_kwargs": {
            "net_arch": list(OURS.hidden_sizes),
            "activation_fn": relu,
            "log_std_init": OURS.initial_log_std,
        },
    }


ZOO = {  # rl-baselines3-zoo, hyperparams/ppo.yml, Reacher-v2; one environment, normalised
    "batch_size": 32,
    "n_steps": 512,
    "gamma": 0.9,
    "learning_rate": 0.000104019,
    "ent_coef": 7.52585e-08,
    "clip_range": 0.3,
    "n_epochs": 5,
    "gae_lambda": 1.0,
    "max_grad_norm": 0.9,
    "vf_coef": 0.950368,
}


def peer(
    algorithm: Any, settings: dict[str, Any], num_envs: int, normalized: bool, seed: int, steps: int, episodes: int
) -> tuple[Watch, float, Policy]:
    """A training with the PPO of Stable-Baselines3 or SBX."""
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    envs: Any = make_vec_env(ENV_ID, num_envs, seed=seed)
    if normalized:
        envs = VecNormalize(envs, gamma=settings.get("gamma", 0.99))
    model = algorithm("MlpPolicy", envs, seed=seed, **settings)

    def policy(observations: NDArray) -> NDArray:
        given = envs.normalize_obs(observations) if normalized else observations
        return np.asarray(model.predict(given, deterministic=True)[0])

    class Looking(BaseCallback):
        def _on_rollout_start(self) -> None:  # just after an update
            watch.look(self.num_timesteps, policy)

        def _on_step(self) -> bool:
            return True

    watch = Watch(steps, episodes)
    model.learn(steps, callback=Looking())
    seconds = watch.stop()
    watch.look(model.num_timesteps, policy)
    return watch, seconds, policy


def train(side: str, seed: int, iterations: int, episodes: int) -> tuple[Watch, float, Policy]:
    """Train the side of that name."""
    steps = iterations * OURS.steps_per_iter
    if side == "ours":
        return ours(seed, iterations, episodes)
    if side.startswith("SBX"):
        import flax.linen  # pyright: ignore[reportMissingImports]
        import sbx  # pyright: ignore[reportMissingImports]

        algorithm, relu = sbx.PPO, flax.linen.relu
    else:
        import stable_baselines3

        algorithm, relu = stable_baselines3.PPO, torch.nn.ReLU
    kinds = {"our settings": (our_settings(relu), OURS.num_envs, True), "the zoo's settings": (ZOO, 1, True)}
    settings, num_envs, normalized = kinds.get(side.split(", ")[1], ({}, 1, False))
    return peer(algorithm, settings, num_envs, normalized, seed, steps, episodes)


def main() -> None:
    """Train, evaluate, print."""
    torch.set_num_threads(1)
    side = sys.argv[1]
    seed, iterations, episodes, curve_episodes = map(int, sys.argv[2:])
    watch, seconds, policy = train(side, seed, iterations, curve_episodes)
    found = {"return": score(policy, episodes, HELD_OUT_SEED), "seconds": round(seconds, 2), "curve": watch.curve}
    names = ("torch", "gymnasium", "stable-baselines3", "sbx-rl", "jax")
    versions = {name: version(name) for name in names} if side != "ours" else {"torch": version("torch")}
    print(json.dumps({**found, "packages": versions}))


if __name__ == "__main__":
    main()
