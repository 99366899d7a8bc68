"""Proximal Policy Optimization (Schulman et al. 2017) for continuous control: rollout, advantages, clipped update.

`train(config)` is the whole algorithm: a generator that yields one record an iteration.

# T steps of a rollout, N environments, B = T * N transitions, O observation_dim, A action_dim
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor, nn

from environments import make_envs, true_next_observations
from lab.errors import UserError
from lab.seeding import seed_everything
from networks import PolicyNetwork, ValueNetwork
from normalization import ObservationNormalizer, RewardScaler


@dataclass(frozen=True)
class PPOConfig:
    """Everything that decides a training run."""

    env_id: str = "Reacher-v5"
    """Gymnasium environment with Box observations and a bounded Box action space."""
    seed: int = 0
    """Seed of weights, exploration, minibatches and environments."""
    num_iterations: int = 200
    """Rounds of one rollout and one update."""
    steps_per_iter: int = 2048
    """Environment steps a rollout, all environments together."""
    num_envs: int = 16
    """Environments stepped side by side."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of both networks."""
    initial_log_std: float = -0.5
    """Logarithm of the policy's standard deviation at the start."""
    learning_rate: float = 1e-3
    """Adam's step size at the start; falls linearly to zero."""
    discount: float = 0.95
    """Weight of the next step's value, gamma."""
    gae_lambda: float = 0.99
    """Between 0 (one-step advantages: low variance) and 1 (full returns: low bias)."""
    clip_ratio: float = 0.2
    """How far the probability ratio may move from 1 before the objective goes flat, epsilon."""
    num_epochs: int = 10
    """Passes over a rollout."""
    num_minibatches: int = 4
    """Pieces that a pass cuts the rollout into."""
    value_coefficient: float = 0.5
    """Weight of the critic's loss, c1."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus, c2."""
    max_grad_norm: float = 0.5
    """Gradients longer than this are scaled down to it."""

    def __post_init__(self) -> None:
        for name in ("num_iterations", "steps_per_iter", "num_envs", "num_epochs", "num_minibatches"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 1")
        if self.steps_per_iter % self.num_envs:
            raise UserError(f"--steps_per_iter {self.steps_per_iter} is no multiple of --num_envs {self.num_envs}")
        if self.num_minibatches * 2 > self.steps_per_iter:
            raise UserError(f"--num_minibatches {self.num_minibatches} leaves less than 2 transitions a minibatch")
        for name in ("discount", "gae_lambda"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"--{name} is {getattr(self, name)}; it must lie between 0 and 1")
        for name in ("learning_rate", "clip_ratio", "max_grad_norm"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise UserError(f"--{name} is {getattr(self, name)}; it must be above 0")
        if self.seed < 0:
            raise UserError(f"--seed is {self.seed}; it must be 0 or more")
        if min(self.hidden_sizes, default=1) < 1:
            raise UserError(f"--hidden_sizes holds {min(self.hidden_sizes)}; every layer needs at least 1 unit")


@dataclass
class Agent:
    """What is learned: the two networks and the statistics that their inputs are normalised with."""

    policy: PolicyNetwork
    value: ValueNetwork
    normalizer: ObservationNormalizer


@dataclass(frozen=True)
class Rollout:
    """T steps of N environments, on policy. `observations` are normalised; `next_observations` are those that truly
    followed, which at an episode's end is its last one, not the first of the next episode."""

    observations: Tensor  # (T, N, O)
    next_observations: Tensor  # (T, N, O)
    actions: Tensor  # (T, N, A) as drawn, before clipping to the bounds
    rewards: Tensor  # (T, N) as the environment gave them
    terminated: Tensor  # (T, N) bool: the episode ended for good, nothing follows
    truncated: Tensor  # (T, N) bool: the clock ran out, the world would have gone on


@dataclass(frozen=True)
class UpdateStats:
    """How the update went, averaged over its minibatches."""

    policy_loss: float
    value_loss: float
    entropy: float
    approx_kl: float
    clip_fraction: float


@dataclass(frozen=True)
class IterationRecord:
    """What one iteration gave. `episode_returns` are those of the episodes that ended in it; `agent` is live."""

    iteration: int
    steps: int
    episode_returns: list[float]
    explained_variance: float
    learning_rate: float
    update: UpdateStats
    agent: Agent = field(repr=False)


def make_agent(config: PPOConfig, observation_dim: int, action_dim: int) -> Agent:
    """A new agent with random weights."""
    policy = PolicyNetwork(observation_dim, action_dim, config.hidden_sizes, config.initial_log_std)
    value = ValueNetwork(observation_dim, config.hidden_sizes)
    return Agent(policy, value, ObservationNormalizer(observation_dim))


class RolloutCollector:
    """Steps the environments with the current policy and remembers where they stand from rollout to rollout."""

    def __init__(self, envs: VectorEnv, seed: int) -> None:
        self.envs = envs
        self.observations: np.ndarray = envs.reset(seed=seed)[0]  # (N, O)
        self.running_returns = np.zeros(envs.num_envs)

    @torch.no_grad()
    def collect(self, agent: Agent, num_steps: int) -> tuple[Rollout, Tensor, list[float]]:
        """Return a rollout of `num_steps` = T steps, its raw observations (B, O), and the returns of ended episodes."""
        space: Any = self.envs.single_action_space
        std = agent.policy.log_std.exp()
        noise = torch.randn(num_steps, self.envs.num_envs, *std.shape)  # (T, N, A)
        before, after, drawn, rewards, terminated, truncated = ([] for _ in range(6))
        episode_returns: list[float] = []
        for t in range(num_steps):
            mean = agent.policy.mean(agent.normalizer(torch.as_tensor(self.observations)))  # (N, A)
            action = mean + std * noise[t]
            clipped = np.clip(action.numpy(), space.low, space.high)  # the world gets the clipped action ...
            next_observations, reward, ends, cuts, info = self.envs.step(clipped)
            before.append(self.observations)
            after.append(true_next_observations(next_observations, info))
            drawn.append(action)  # ... the log-probability belongs to the one that was drawn
            rewards.append(reward)
            terminated.append(ends)
            truncated.append(cuts)
            self.running_returns += reward
            ended = ends | cuts
            episode_returns += self.running_returns[ended].tolist()
            self.running_returns[ended] = 0.0
            self.observations = next_observations
        raw, raw_next = torch.as_tensor(np.stack(before)), torch.as_tensor(np.stack(after))  # (T, N, O)
        rollout = Rollout(
            observations=agent.normalizer(raw),
            next_observations=agent.normalizer(raw_next),
            actions=torch.stack(drawn),
            rewards=torch.as_tensor(np.stack(rewards)),
            terminated=torch.as_tensor(np.stack(terminated)),
            truncated=torch.as_tensor(np.stack(truncated)),
        )
        return rollout, raw.flatten(0, 1), episode_returns


def compute_gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation (Schulman et al. 2016, eq. 16), and the returns that the critic learns.

    Args:
        rewards, values: of each step (T, N).
        next_values: values of the observations that truly followed (T, N).
        terminated: nothing follows, so the next value counts as 0 (T, N) bool.
        truncated: the episode was cut, but the next value counts (T, N) bool. At either end the sum stops.
        discount, gae_lambda: gamma and lambda.

    Returns:
        advantages (T, N) and returns = advantages + values (T, N).
    """
    deltas = rewards + discount * next_values * ~terminated - values  # eq. 12: the TD error of each step
    decay = discount * gae_lambda * ~(terminated | truncated)
    advantages = torch.empty_like(deltas)
    following = torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        following = deltas[t] + decay[t] * following
        advantages[t] = following
    return advantages, advantages + values


def policy_loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_ratio: float) -> Tensor:
    """The clipped surrogate objective, negated (Schulman et al. 2017, eq. 7). All (B,); returns a scalar."""
    ratio = (log_probs - old_log_probs).exp()  # eq. 6: r(theta) = pi(a | s) / pi_old(a | s)
    clipped = ratio.clamp(1.0 - clip_ratio, 1.0 + clip_ratio)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean()


def normalized(advantages: Tensor) -> Tensor:
    """advantages (B,) with mean 0 and standard deviation 1."""
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def update(
    agent: Agent,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    advantages: Tensor,
    returns: Tensor,
    config: PPOConfig,
) -> UpdateStats:
    """Several passes of minibatch gradient steps on the combined objective (Schulman et al. 2017, eq. 9).

    advantages and returns are (T, N). Changes the networks of `agent` in place.
    """
    observations, actions = rollout.observations.flatten(0, 1), rollout.actions.flatten(0, 1)  # (B, O), (B, A)
    advantages, returns = advantages.flatten(), returns.flatten()  # (B,)
    with torch.no_grad():
        old_log_probs = agent.policy(observations).log_prob(actions)  # (B,)
    parameters = [*agent.policy.parameters(), *agent.value.parameters()]
    history = []
    for _ in range(config.num_epochs):
        for rows in torch.randperm(len(observations)).tensor_split(config.num_minibatches):
            distribution = agent.policy(observations[rows])
            log_probs = distribution.log_prob(actions[rows])
            entropy = distribution.entropy().mean()
            actor = policy_loss(log_probs, old_log_probs[rows], normalized(advantages[rows]), config.clip_ratio)
            critic = nn.functional.mse_loss(agent.value(observations[rows]), returns[rows])
            loss = actor + config.value_coefficient * critic - config.entropy_coefficient * entropy
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
            optimizer.step()
            with torch.no_grad():
                log_ratio = log_probs - old_log_probs[rows]
                kl = (log_ratio.exp() - 1 - log_ratio).mean()  # estimator k3 of http://joschu.net/blog/kl-approx.html
                clipped = (log_ratio.exp() - 1).abs().gt(config.clip_ratio).float().mean()
                history.append(torch.stack([actor, critic, entropy, kl, clipped]))
    return UpdateStats(*torch.stack(history).mean(0).tolist())


def explained_variance(predicted: Tensor, actual: Tensor) -> float:
    """Share of the variance of the returns that the critic foresaw: 1 is perfect, 0 no better than their mean."""
    return (1.0 - (actual - predicted).var() / (actual.var() + 1e-12)).item()


def train(config: PPOConfig) -> Iterator[IterationRecord]:
    """Train an agent; yields one record an iteration. The same configuration gives the same run.

    Raises UserError for an environment that does not fit, and when the learning diverges.
    """
    seed_everything(config.seed)
    envs = make_envs(config.env_id, config.num_envs)
    observation_space, action_space = envs.single_observation_space, envs.single_action_space
    assert observation_space.shape
    assert action_space.shape
    agent = make_agent(config, observation_space.shape[0], action_space.shape[0])
    scaler = RewardScaler(config.num_envs, config.discount)
    optimizer = torch.optim.Adam([*agent.policy.parameters(), *agent.value.parameters()], eps=1e-5, fused=True)
    collector = RolloutCollector(envs, config.seed)
    num_steps = config.steps_per_iter // config.num_envs
    try:
        for iteration in range(config.num_iterations):
            learning_rate = config.learning_rate * (1 - iteration / config.num_iterations)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            rollout, raw_observations, episode_returns = collector.collect(agent, num_steps)
            scaler.update(rollout.rewards, rollout.terminated | rollout.truncated)
            with torch.no_grad():
                values, next_values = agent.value(rollout.observations), agent.value(rollout.next_observations)
            advantages, returns = compute_gae(
                scaler(rollout.rewards),
                values,
                next_values,
                rollout.terminated,
                rollout.truncated,
                config.discount,
                config.gae_lambda,
            )
            stats = update(agent, optimizer, rollout, advantages, returns, config)
            if not np.isfinite(stats.policy_loss + stats.value_loss):
                raise UserError(
                    f"diverged in iteration {iteration + 1}: the loss is not finite; try a lower --learning_rate"
                )
            agent.normalizer.statistics.update(raw_observations)
            yield IterationRecord(
                iteration=iteration + 1,
                steps=(iteration + 1) * config.steps_per_iter,
                episode_returns=episode_returns,
                explained_variance=explained_variance(values, returns),
                learning_rate=learning_rate,
                update=stats,
                agent=agent,
            )
    finally:
        envs.close()
