"""One training run of benchmarks/ppo_peers.py: prints its final return, time and learning curve as one JSON line.

python ppo_peers_worker.py SIDE SEED ITERATIONS EPISODES CURVE_EPISODES
"""
# The other libraries have their own virtual environment:
# pyright: reportMissingImports=false

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agent import TrainedAgent
from evaluation import HELD_OUT_SEED, evaluate_policy
from lab.record import version
from ppo_config import PPOConfig

ENV_ID = "Reacher-v5"
OURS = PPOConfig()
POINTS = 20
CURVE_SEED = 2 * HELD_OUT_SEED
Policy = Callable[[NDArray], NDArray]


class CurveRecorder:
    """A learning curve, and a clock that is paused during evaluations."""

    def __init__(self, steps: int, episodes: int) -> None:
        self.interval = max(steps // POINTS, 1)
        self.episodes = episodes
        self.curve: dict[str, list[float]] = {"curve_steps": [], "curve_seconds": [], "curve_return": []}
        self.seconds = 0.0
        self.started = time.perf_counter()

    def update(self, steps: int, policy: Policy) -> None:
        """Evaluate the policy after `steps` steps if the next point of the curve is due."""
        if steps < self.interval * (len(self.curve["curve_steps"]) + 1):
            return
        self.seconds += time.perf_counter() - self.started
        self.curve["curve_steps"].append(steps)
        self.curve["curve_seconds"].append(round(self.seconds, 3))
        self.curve["curve_return"].append(score(policy, self.episodes, CURVE_SEED))
        self.started = time.perf_counter()

    def stop(self) -> float:
        """Return the seconds of training."""
        return self.seconds + time.perf_counter() - self.started


def score(policy: Policy, episodes: int, seed: int) -> float:
    """Return the mean return of a deterministic policy."""
    return float(evaluate_policy(policy, ENV_ID, episodes, seed).returns.mean())


def ours(seed: int, iterations: int, episodes: int) -> tuple[CurveRecorder, float, Policy]:
    """Train our PPO with its defaults."""
    from ppo import train

    settings = PPOConfig(seed=seed, num_iterations=iterations)
    recorder = CurveRecorder(iterations * settings.steps_per_iter, episodes)
    agent = None
    for record in train(settings):
        agent = record.agent
        recorder.update(record.steps, TrainedAgent(agent, settings, -torch.ones(2), torch.ones(2)).policy())
    assert agent is not None
    return recorder, recorder.stop(), TrainedAgent(agent, settings, -torch.ones(2), torch.ones(2)).policy()


def our_settings(relu: Any) -> dict[str, Any]:
    """Return our defaults under the names that Stable-Baselines3 and SBX use."""
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


ZOO = {  # rl-baselines3-zoo, hyperparams/ppo.yml, Reacher-v2; one environment, normalized
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
) -> tuple[CurveRecorder, float, Policy]:
    """Train the PPO of Stable-Baselines3 or SBX."""
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    envs: Any = make_vec_env(ENV_ID, num_envs, seed=seed)
    if normalized:
        envs = VecNormalize(envs, gamma=settings.get("gamma", 0.99))
    model = algorithm("MlpPolicy", envs, seed=seed, **settings)

    def policy(observations: NDArray) -> NDArray:
        inputs = envs.normalize_obs(observations) if normalized else observations
        return np.asarray(model.predict(inputs, deterministic=True)[0])

    class EvaluationCallback(BaseCallback):
        def _on_rollout_start(self) -> None:  # just after an update
            recorder.update(self.num_timesteps, policy)

        def _on_step(self) -> bool:
            return True

    recorder = CurveRecorder(steps, episodes)
    model.learn(steps, callback=EvaluationCallback())
    seconds = recorder.stop()
    recorder.update(model.num_timesteps, policy)
    return recorder, seconds, policy


def skrl(seed: int, steps: int, episodes: int) -> tuple[CurveRecorder, float, Policy]:
    """Train skrl's PPO with our settings and its own normalization of observations and returns."""
    import gymnasium as gym
    import skrl.utils
    from skrl.agents.torch.ppo import PPO, PPO_CFG
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.memories.torch import RandomMemory
    from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
    from skrl.resources.preprocessors.torch import RunningStandardScaler
    from skrl.trainers.torch import SequentialTrainer

    skrl.utils.set_seed(seed)
    envs: Any = wrap_env(gym.make_vec(ENV_ID, OURS.num_envs, vectorization_mode="sync"), verbose=False)
    spaces = {"observation_space": envs.observation_space, "action_space": envs.action_space, "device": "cpu"}

    class Actor(GaussianMixin, Model):
        def __init__(self) -> None:
            Model.__init__(self, **spaces)
            GaussianMixin.__init__(self)
            self.net = perceptron(self.num_observations, self.num_actions)
            self.log_std = torch.nn.Parameter(torch.full((self.num_actions,), OURS.initial_log_std))

        def compute(self, inputs: Any, role: str = "") -> Any:
            return self.net(inputs["observations"]), {"log_std": self.log_std}

    class Critic(DeterministicMixin, Model):
        def __init__(self) -> None:
            Model.__init__(self, **spaces)
            DeterministicMixin.__init__(self)
            self.net = perceptron(self.num_observations, 1)

        def compute(self, inputs: Any, role: str = "") -> Any:
            return self.net(inputs["observations"]), {}

    class EvaluatedPPO(PPO):
        def update(self, *, timestep: int, timesteps: int) -> None:
            super().update(timestep=timestep, timesteps=timesteps)
            recorder.update((timestep + 1) * OURS.num_envs, policy)

    rollouts = OURS.steps_per_iter // OURS.num_envs
    config = PPO_CFG(
        rollouts=rollouts,
        learning_epochs=OURS.num_epochs,
        mini_batches=OURS.num_minibatches,
        discount_factor=OURS.discount,
        gae_lambda=OURS.gae_lambda,
        learning_rate=OURS.learning_rate,
        learning_rate_scheduler=torch.optim.lr_scheduler.LinearLR,  # steps once per epoch
        learning_rate_scheduler_kwargs={
            "start_factor": 1.0,
            "end_factor": 0.0,
            "total_iters": steps // OURS.steps_per_iter * OURS.num_epochs,
        },
        observation_preprocessor=RunningStandardScaler,
        observation_preprocessor_kwargs={"size": envs.observation_space, "device": "cpu"},
        value_preprocessor=RunningStandardScaler,
        value_preprocessor_kwargs={"size": 1, "device": "cpu"},
        grad_norm_clip=OURS.max_grad_norm,
        ratio_clip=OURS.clip_ratio,
        value_clip=0.0,
        entropy_loss_scale=OURS.entropy_coefficient,
        value_loss_scale=OURS.value_coefficient,
        time_limit_bootstrap=True,
    )
    config.experiment.write_interval = config.experiment.checkpoint_interval = 0
    memory = RandomMemory(memory_size=rollouts, num_envs=OURS.num_envs, device="cpu")
    agent: Any = EvaluatedPPO(models={"policy": Actor(), "value": Critic()}, memory=memory, cfg=config, **spaces)
    trainer_config = {"timesteps": steps // OURS.num_envs, "disable_progressbar": True, "headless": True}
    trainer = SequentialTrainer(env=envs, agents=agent, cfg=trainer_config)

    @torch.no_grad()
    def policy(observations: NDArray) -> NDArray:
        with torch.random.fork_rng():  # act() uses random numbers even for the mean
            inputs = torch.as_tensor(observations, dtype=torch.float32)
            return agent.act(inputs, None, timestep=0, timesteps=0)[1]["mean_actions"].numpy()

    recorder = CurveRecorder(steps, episodes)
    trainer.train()
    return recorder, recorder.stop(), policy


def tianshou(seed: int, steps: int, episodes: int) -> tuple[CurveRecorder, float, Policy]:
    """Train Tianshou's PPO with our settings and its own normalization of observations and returns."""
    import gymnasium as gym
    from tianshou.algorithm import PPO
    from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
    from tianshou.algorithm.optim import AdamOptimizerFactory, LRSchedulerFactoryLinear
    from tianshou.data import Batch, Collector, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv, VectorEnvNormObs
    from tianshou.trainer import OnPolicyTrainerParams
    from tianshou.utils.net.common import Net
    from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
    from torch.distributions import Independent, Normal

    np.random.seed(seed)  # noqa: NPY002 - the library draws from the global generator
    torch.manual_seed(seed)
    envs: Any = VectorEnvNormObs(DummyVectorEnv([lambda: gym.make(ENV_ID) for _ in range(OURS.num_envs)]))
    envs.seed(seed)
    one: Any = gym.make(ENV_ID)
    shapes = {"state_shape": one.observation_space.shape, "hidden_sizes": OURS.hidden_sizes}
    actor = ContinuousActorProbabilistic(
        preprocess_net=Net(**shapes), action_shape=one.action_space.shape, unbounded=True
    )
    torch.nn.init.constant_(actor.sigma_param, OURS.initial_log_std)
    epochs = steps // OURS.steps_per_iter
    optimizer = AdamOptimizerFactory(lr=OURS.learning_rate).with_lr_scheduler_factory(
        LRSchedulerFactoryLinear(epochs, OURS.steps_per_iter, OURS.steps_per_iter)
    )
    algorithm = PPO(
        policy=ProbabilisticActorPolicy(
            actor=actor,
            dist_fn=lambda parameters: Independent(Normal(*parameters), 1),
            action_space=one.action_space,
            observation_space=one.observation_space,
        ),
        critic=ContinuousCritic(preprocess_net=Net(**shapes)),
        optim=optimizer,
        eps_clip=OURS.clip_ratio,
        vf_coef=OURS.value_coefficient,
        ent_coef=OURS.entropy_coefficient,
        max_grad_norm=OURS.max_grad_norm,
        gae_lambda=OURS.gae_lambda,
        gamma=OURS.discount,
        return_scaling=True,
    )

    @torch.no_grad()
    def policy(observations: NDArray) -> NDArray:
        with torch.random.fork_rng():  # the policy uses random numbers even for the mode
            inputs = Batch(obs=envs.get_obs_rms().norm(observations), info={})
            return algorithm.policy.map_action(algorithm.policy(inputs).dist.mode.numpy())

    buffer = VectorReplayBuffer(OURS.steps_per_iter, OURS.num_envs)
    recorder = CurveRecorder(steps, episodes)
    algorithm.run_training(
        OnPolicyTrainerParams(
            training_collector=Collector(algorithm, envs, buffer),
            max_epochs=epochs,
            epoch_num_steps=OURS.steps_per_iter,
            collection_step_num_env_steps=OURS.steps_per_iter,
            batch_size=OURS.steps_per_iter // OURS.num_minibatches,
            update_step_num_repetitions=OURS.num_epochs,
            training_fn=lambda _, step: recorder.update(step, policy),  # just before the next rollout
            show_progress=False,
            verbose=False,
        )
    )
    seconds = recorder.stop()
    recorder.update(steps, policy)
    return recorder, seconds, policy


def perceptron(inputs: int, outputs: int) -> torch.nn.Module:
    """Return a network with our layer sizes."""
    layers: list[torch.nn.Module] = []
    for width in OURS.hidden_sizes:
        layers += [torch.nn.Linear(inputs, width), torch.nn.ReLU()]
        inputs = width
    return torch.nn.Sequential(*layers, torch.nn.Linear(inputs, outputs))


def train(side: str, seed: int, iterations: int, episodes: int) -> tuple[CurveRecorder, float, Policy]:
    """Train the named side."""
    steps = iterations * OURS.steps_per_iter
    if side == "ours":
        return ours(seed, iterations, episodes)
    if side.startswith("skrl"):
        return skrl(seed, steps, episodes)
    if side.startswith("Tianshou"):
        return tianshou(seed, steps, episodes)
    if side.startswith("SBX"):
        import flax.linen
        import sbx

        algorithm, relu = sbx.PPO, flax.linen.relu
    else:
        import stable_baselines3

        algorithm, relu = stable_baselines3.PPO, torch.nn.ReLU
    kinds = {"our settings": (our_settings(relu), OURS.num_envs, True), "the zoo's settings": (ZOO, 1, True)}
    settings, num_envs, normalized = kinds.get(side.split(", ")[1], ({}, 1, False))
    return peer(algorithm, settings, num_envs, normalized, seed, steps, episodes)


def main() -> None:
    """Train, evaluate and print the results."""
    torch.set_num_threads(1)
    side = sys.argv[1]
    seed, iterations, episodes, curve_episodes = map(int, sys.argv[2:])
    recorder, seconds, policy = train(side, seed, iterations, curve_episodes)
    values = {"return": score(policy, episodes, HELD_OUT_SEED), "seconds": round(seconds, 2), **recorder.curve}
    names = ("torch", "gymnasium", "stable-baselines3", "sbx-rl", "jax", "skrl", "tianshou")
    versions = {name: version(name) for name in names} if side != "ours" else {"torch": version("torch")}
    print(json.dumps({**values, "packages": versions}))


if __name__ == "__main__":
    main()
