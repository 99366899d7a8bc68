"""Proximal Policy Optimization (Schulman et al. 2017) for continuous control: advantages, clipped objective, training.

`train(config)` is the whole algorithm: a generator that yields one record an iteration. The details that the paper does
not put into its equations are numbered, and each can be switched off (`--no_...`), to see what it is worth.

# T steps of a rollout, N environments, B = T * N transitions, O observation_dim, A action_dim
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from environments import make_envs
from lab.devices import pick_device
from lab.distributed import average_gradients, gather, rank, world_size
from lab.errors import UserError
from lab.seeding import random_state, restore_random_state, seed_everything
from networks import PolicyNetwork, ValueNetwork, as_one_vector
from normalization import ObservationNormalizer, RewardScaler
from ppo_config import PPOConfig
from rollout import RolloutCollector


@dataclass
class Agent:
    """What is learned: the two networks and the statistics that their inputs are normalised with."""

    policy: PolicyNetwork
    value: ValueNetwork
    normalizer: ObservationNormalizer

    def parameters(self) -> list[nn.Parameter]:
        """Those of both networks."""
        return [*self.policy.parameters(), *self.value.parameters()]

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything learned, on the CPU."""
        parts = {"policy": self.policy.state_dict(), "value": self.value.state_dict()}
        copied = {name: {key: t.detach().cpu().clone() for key, t in part.items()} for name, part in parts.items()}
        return {**copied, "normalizer": self.normalizer.statistics.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what another has learned."""
        self.policy.load_state_dict(state["policy"])
        self.value.load_state_dict(state["value"])
        self.normalizer.statistics.load_state_dict(state["normalizer"])


@dataclass(frozen=True)
class UpdateStats:
    """Where an update ended, measured on its whole rollout."""

    policy_loss: float
    value_loss: float
    entropy: float
    approx_kl: float  # nats from the policy that acted to the new one
    clip_fraction: float  # share of the actions whose ratio lies beyond the clip


@dataclass(frozen=True)
class IterationRecord:
    """What one iteration gave. `agent` and `snapshot()`, all that resuming needs, are live: the next changes them."""

    iteration: int  # from 1
    steps: int
    episode_returns: list[float]  # of the episodes that ended in it
    explained_variance: float
    learning_rate: float
    update: UpdateStats
    agent: Agent = field(repr=False)
    snapshot: Callable[[], dict[str, Any]] = field(repr=False)


def make_agent(config: PPOConfig, observation_dim: int, action_dim: int) -> Agent:
    """A new agent with random weights, on the CPU."""
    sizes, orthogonal = config.hidden_sizes, config.orthogonal_initialization  # detail 5
    policy = PolicyNetwork(observation_dim, action_dim, sizes, config.initial_log_std, orthogonal)
    value = ValueNetwork(observation_dim, sizes, orthogonal)
    return Agent(policy, value, ObservationNormalizer(observation_dim, config.normalize_observations))  # detail 2


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
    decay = discount * gae_lambda * (~(terminated | truncated)).to(deltas.dtype)  # gamma lambda, 0 at an end
    advantages = torch.empty_like(deltas)
    following = torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        following = deltas[t] + decay[t] * following
        advantages[t] = following
    return advantages, advantages + values


def policy_loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_ratio: float | None) -> Tensor:
    """The clipped surrogate objective, negated (Schulman et al. 2017, eq. 7). All (B,); returns a scalar.

    Without a `clip_ratio` it is the unclipped one of eq. 6 (detail 8).
    """
    ratio = (log_probs - old_log_probs).exp()  # r(theta) = pi(a | s) / pi_old(a | s)
    if clip_ratio is None:
        return -(ratio * advantages).mean()  # eq. 6
    clipped = ratio.clamp(1.0 - clip_ratio, 1.0 + clip_ratio)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean()


def normalized(advantages: Tensor) -> Tensor:
    """advantages (B,) with mean 0 and standard deviation 1."""
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def update(
    agent: Agent,
    optimizer: torch.optim.Optimizer,
    observations: Tensor,
    actions: Tensor,
    advantages: Tensor,
    returns: Tensor,
    config: PPOConfig,
) -> UpdateStats:
    """Several passes of minibatch gradient steps on the combined objective (Schulman et al. 2017, eq. 9).

    observations (B, O), normalised; actions (B, A); advantages and returns (B,). Changes the networks in place.
    """
    learned = optimizer.param_groups[0]["params"]
    clip_ratio = config.clip_ratio if config.clip_ratios else None  # detail 8
    with torch.no_grad():
        old_log_probs = agent.policy.log_prob(observations, actions)  # (B,)
    for _ in range(config.num_epochs):
        order = torch.randperm(len(observations)).to(observations.device)
        columns = (column[order] for column in (observations, actions, old_log_probs, advantages, returns))
        pieces = (column.tensor_split(config.num_minibatches) for column in columns)
        for obs, action, old_log_prob, advantage, value_target in zip(*pieces, strict=True):
            if config.normalize_advantages:  # detail 4
                advantage = normalized(advantage)
            actor = policy_loss(agent.policy.log_prob(obs, action), old_log_prob, advantage, clip_ratio)
            critic = nn.functional.mse_loss(agent.value(obs), value_target)
            loss = actor + config.value_coefficient * critic - config.entropy_coefficient * agent.policy.entropy()
            optimizer.zero_grad(set_to_none=False)  # in place: see as_one_vector
            loss.backward()
            average_gradients(learned)
            if config.clip_gradients:  # detail 7
                nn.utils.clip_grad_norm_(learned, config.max_grad_norm)
            optimizer.step()
    return measure(agent, observations, actions, old_log_probs, advantages, returns, config)


@torch.no_grad()
def measure(
    agent: Agent,
    observations: Tensor,
    actions: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    returns: Tensor,
    config: PPOConfig,
) -> UpdateStats:
    """How far the policy moved and what is left of the losses. Shapes as in `update`, old_log_probs (B,)."""
    log_probs = agent.policy.log_prob(observations, actions)
    ratio = (log_probs - old_log_probs).exp()
    stats = (
        policy_loss(log_probs, old_log_probs, normalized(advantages), config.clip_ratio),
        nn.functional.mse_loss(agent.value(observations), returns),
        agent.policy.entropy(),
        (ratio - 1 - (log_probs - old_log_probs)).mean(),  # estimator k3 of http://joschu.net/blog/kl-approx.html
        (ratio - 1).abs().gt(config.clip_ratio).float().mean(),
    )
    return UpdateStats(*torch.stack(stats).tolist())


def explained_variance(predicted: Tensor, actual: Tensor) -> float:
    """Share of the variance of the returns that the critic foresaw: 1 is perfect, 0 no better than their mean."""
    return (1.0 - (actual - predicted).var() / (actual.var() + 1e-12)).item()


class Learner:
    """One process's share of a training run: its environments, its copy of the agent, and how far it has come."""

    def __init__(self, config: PPOConfig) -> None:
        if config.num_envs % world_size():
            raise UserError(f"--num_envs {config.num_envs} is no multiple of the {world_size()} processes")
        seed_everything(config.seed)  # the same weights in every process ...
        num_envs = config.num_envs // world_size()
        self.config, self.iteration = config, 0
        self.device = pick_device(config.device)
        self.envs = make_envs(config.env_id, num_envs)
        dims = self.envs.single_observation_space.shape, self.envs.single_action_space.shape
        assert dims[0] is not None
        assert dims[1] is not None
        self.agent = make_agent(config, dims[0][0], dims[1][0])
        self.agent.policy.to(self.device)
        self.agent.value.to(self.device)
        learned = as_one_vector(self.agent.parameters())
        self.optimizer = torch.optim.Adam([learned], lr=config.learning_rate, eps=1e-5, fused=True)
        self.scaler = RewardScaler(num_envs, config.discount)
        self.collector = RolloutCollector(self.envs, config.seed + rank() * num_envs)
        torch.manual_seed(config.seed + 1_000_003 * rank())  # ... and exploration of its own in each

    def iterate(self) -> IterationRecord:
        """One rollout and one update."""
        config, agent = self.config, self.agent
        learning_rate = self.prepare()
        rollout = self.collector.collect(agent.policy, agent.normalizer, config.steps_per_iter // config.num_envs)
        observations = agent.normalizer(rollout.observations).to(self.device)  # (T, N, O)
        ended = rollout.terminated | rollout.truncated
        values, next_values = self.judge(observations, rollout.next_observations, ended)
        self.scaler.update(rollout.rewards, ended)
        rewards = self.scaler(rollout.rewards) if config.scale_rewards else rollout.rewards.float()  # detail 3
        death = rollout.terminated if config.bootstrap_at_time_limit else ended  # detail 1
        advantages, returns = compute_gae(
            rewards, values, next_values, death, rollout.truncated, config.discount, config.gae_lambda
        )
        columns = (observations, rollout.actions, advantages, returns)
        stats = update(agent, self.optimizer, *(c.flatten(0, 1).to(self.device) for c in columns), config=config)
        self.iteration += 1
        if not np.isfinite(stats.policy_loss + stats.value_loss + stats.approx_kl):
            raise UserError(
                f"diverged in iteration {self.iteration}: a loss is not finite; try a lower --learning_rate"
            )
        agent.normalizer.statistics.update(rollout.observations.flatten(0, 1))
        return IterationRecord(
            iteration=self.iteration,
            steps=self.iteration * config.steps_per_iter,
            episode_returns=[r for returns in gather(rollout.episode_returns) for r in returns],
            explained_variance=explained_variance(values, returns),
            learning_rate=learning_rate,
            update=stats,
            agent=agent,
            snapshot=self.state_dict,
        )

    @torch.no_grad()
    def judge(self, observations: Tensor, next_observations: Tensor, ended: Tensor) -> tuple[Tensor, Tensor]:
        """The critic's values of observations (T, N, O), normalised, and of those that truly followed: (T, N) each.

        What followed a step is what the next one starts from, but for ends and the last step: those are looked at anew.
        """
        values = self.agent.value(observations).cpu()
        other = ended.clone()
        other[-1] = True
        next_values = values.roll(-1, 0)
        next_values[other] = self.agent.value(self.agent.normalizer(next_observations[other]).to(self.device)).cpu()
        return values, next_values

    def prepare(self) -> float:
        """Set the learning rate of this iteration and return it; begin episodes anew where a resumed run must.

        Environments whose state cannot be saved start afresh after every checkpoint, with seeds that depend on the
        iteration alone. So a run that goes on from the checkpoint equals one that was never interrupted.
        """
        config = self.config
        if self.iteration and self.iteration % config.checkpoint_every == 0 and not self.collector.state_dict():
            self.restart_episodes()
        left = 1 - self.iteration / config.num_iterations if config.anneal_learning_rate else 1.0  # detail 6
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * left
        return config.learning_rate * left

    def restart_episodes(self) -> None:
        """Reset all environments with seeds that follow from the run's seed, the iteration and the rank."""
        entropy = [self.config.seed, self.iteration, rank()]
        self.collector.restart(int(np.random.SeedSequence(entropy).generate_state(1)[0]) % 900_000)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a run needs to go on to the same bits. All processes must call it together."""
        own = {
            "collector": self.collector.state_dict(),
            "scaled_returns": self.scaler.returns.clone(),
            "random": random_state(),
        }
        return {
            "iteration": self.iteration,
            "agent": self.agent.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.statistics.state_dict(),
            "processes": gather(own),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`. Raises UserError if it was taken with another number of processes."""
        if len(state["processes"]) != world_size():
            raise UserError(f"saved by {len(state['processes'])} processes, resumed by {world_size()}; start as many")
        own = state["processes"][rank()]
        self.iteration = state["iteration"]
        self.agent.load_state_dict(state["agent"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.statistics.load_state_dict(state["scaler"])
        self.scaler.returns = own["scaled_returns"].clone()
        if own["collector"]:
            self.collector.load_state_dict(own["collector"])
        else:
            self.restart_episodes()
        restore_random_state(own["random"])


def train(config: PPOConfig, state: dict[str, Any] | None = None) -> Iterator[IterationRecord]:
    """Train an agent; yields one record an iteration. The same configuration gives the same run.

    Args:
        config: everything that decides the run.
        state: a record's `snapshot()`, to go on from there.

    Raises UserError for an environment that does not fit, and when the learning diverges.
    """
    learner = Learner(config)
    if state is not None:
        learner.load_state_dict(state)
    with closing(learner.envs):
        while learner.iteration < config.num_iterations:
            yield learner.iterate()
