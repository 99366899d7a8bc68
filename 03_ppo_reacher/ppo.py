"""Proximal Policy Optimization (PPO, Schulman et al. 2017) for continuous control.

`train(config)` is the whole algorithm, a generator that yields one record per iteration. Each
iteration collects a rollout, computes advantages, and updates the networks on minibatches.
Details that the paper's equations leave out are numbered 1 to 8; flags (`--no_...`) switch them
off one by one, to show what each is worth.

# T steps of a rollout, N environments, B = T * N transitions, M transitions of a minibatch
# O observation_dim, A action_dim
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from agent import Agent
from lab.distributed import average_gradients
from ppo_config import PPOConfig
from rollout import Rollout
from training_run import IterationRecord, TrainingRun, UpdateStats


def compute_gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation (GAE, Schulman et al. 2016, eq. 16).

    Args:
        rewards, values: of each step, (T, N) each.
        next_values: values of the true next observations, (T, N).
        terminated: the episode reached a terminal state, whose value is 0, (T, N) bool.
        truncated: the episode was cut off, and the next value still counts, (T, N) bool.
            The sum of eq. 16 stops at both kinds of end.
        discount, gae_lambda: gamma and lambda.

    Returns:
        advantages (T, N), and returns = advantages + values (T, N), the critic's targets.
    """
    # Eq. 11: the TD error of each step, delta = r + gamma V(s') - V(s).
    deltas = rewards + discount * next_values * ~terminated - values  # (T, N)

    # Weight of the following step's advantage: gamma * lambda, or 0 where an episode ends.
    continues = ~(terminated | truncated)  # (T, N) bool
    decay = discount * gae_lambda * continues.to(deltas.dtype)  # (T, N)

    # Eq. 16 as a recursion, from the last step to the first: A_t = delta_t + decay_t * A_{t+1}.
    advantages = torch.empty_like(deltas)  # (T, N)
    last_gae = torch.zeros_like(deltas[0])  # (N,)
    for t in reversed(range(len(deltas))):
        last_gae = deltas[t] + decay[t] * last_gae
        advantages[t] = last_gae
    return advantages, advantages + values


def policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    clip_ratio: float | None,
) -> Tensor:
    """Clipped surrogate objective, negated (Schulman et al. 2017, eq. 7).

    Without a `clip_ratio` it is the unclipped objective of eq. 6 (detail 8).

    Args:
        log_probs, old_log_probs: log pi(a | s) under the current and the old policy, (M,) each.
        advantages: (M,).
        clip_ratio: epsilon.

    Returns:
        the loss, a scalar.
    """
    ratio = (log_probs - old_log_probs).exp()  # (M,) r(theta) = pi(a | s) / pi_old(a | s)
    objective = ratio * advantages  # (M,)
    if clip_ratio is None:
        return -objective.mean()  # eq. 6
    clipped_objective = ratio.clamp(1.0 - clip_ratio, 1.0 + clip_ratio) * advantages  # (M,)
    return -torch.minimum(objective, clipped_objective).mean()  # eq. 7


def value_loss(values: Tensor, returns: Tensor) -> Tensor:
    """Mean squared error of the critic, L^VF of eq. 9; values and returns (M,), a scalar."""
    return nn.functional.mse_loss(values, returns)


@dataclass(frozen=True)
class Batch:
    """B transitions to train on: those of a rollout, or of one minibatch."""

    observations: Tensor  # (B, O) normalized
    actions: Tensor  # (B, A) as sampled, not clipped to the action bounds
    old_log_probs: Tensor  # (B,) log pi_old(a | s)
    advantages: Tensor  # (B,)
    returns: Tensor  # (B,)

    def select(self, indices: Tensor) -> "Batch":
        """Return the minibatch of the transitions at indices (M,)."""
        return Batch(
            observations=self.observations[indices],  # (M, O)
            actions=self.actions[indices],  # (M, A)
            old_log_probs=self.old_log_probs[indices],  # (M,)
            advantages=self.advantages[indices],  # (M,)
            returns=self.returns[indices],  # (M,)
        )


def normalize(advantages: Tensor) -> Tensor:
    """Return advantages (B,) shifted and scaled to mean 0 and standard deviation 1."""
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def batch_policy_loss(log_probs: Tensor, batch: Batch, config: PPOConfig) -> Tensor:
    """Policy loss of a batch with new log-probabilities (M,), as configured; a scalar."""
    advantages = batch.advantages  # (M,)
    if config.normalize_advantages:  # detail 4
        advantages = normalize(advantages)
    clip_ratio = config.clip_ratio if config.use_clipping else None  # detail 8
    return policy_loss(log_probs, batch.old_log_probs, advantages, clip_ratio)


def combined_loss(agent: Agent, batch: Batch, config: PPOConfig) -> Tensor:
    """Policy loss, value loss and entropy bonus of a minibatch: eq. 9, negated; a scalar."""
    log_probs = agent.policy.log_prob(batch.observations, batch.actions)  # (M, A) -> (M,)
    actor_loss = batch_policy_loss(log_probs, batch, config)
    critic_loss = value_loss(agent.value(batch.observations), batch.returns)
    entropy = agent.policy.entropy()

    # Eq. 9, negated: L^CLIP and the entropy are maximized, L^VF is minimized.
    weighted_entropy = config.entropy_coefficient * entropy
    return actor_loss + config.value_coefficient * critic_loss - weighted_entropy


def update(
    agent: Agent,
    optimizer: torch.optim.Optimizer,
    observations: Tensor,
    actions: Tensor,
    advantages: Tensor,
    returns: Tensor,
    config: PPOConfig,
) -> UpdateStats:
    """Train both networks on one rollout, for several epochs of minibatch gradient steps.

    Args:
        agent: its networks are changed in place.
        optimizer: holds the parameters of both networks.
        observations: normalized, (B, O).
        actions: as sampled, not clipped to the action bounds, (B, A).
        advantages, returns: from `compute_gae`, (B,) each.
        config: epochs, minibatches and coefficients.
    """
    parameters = optimizer.param_groups[0]["params"]

    # The old policy is the one that collected the rollout; its probabilities stay fixed.
    with torch.no_grad():
        old_log_probs = agent.policy.log_prob(observations, actions)  # (B, A) -> (B,)
    batch = Batch(observations, actions, old_log_probs, advantages, returns)

    for _ in range(config.num_epochs):
        # Shuffle the transitions and split them into minibatches.
        order = torch.randperm(len(observations)).to(observations.device)  # (B,)
        for indices in order.tensor_split(config.num_minibatches):  # (B,) -> (M,) each
            # Compute the loss of this minibatch and its gradients.
            loss = combined_loss(agent, batch.select(indices), config)
            optimizer.zero_grad(set_to_none=False)  # in place: see `as_one_vector`
            loss.backward()
            average_gradients(parameters)  # over all processes, if there are several

            # Take one gradient step on the policy and the critic together.
            if config.clip_gradients:  # detail 7
                nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
            optimizer.step()
    return update_diagnostics(agent, batch, config)


@torch.no_grad()
def update_diagnostics(agent: Agent, batch: Batch, config: PPOConfig) -> UpdateStats:
    """Return the losses after an update, and how far the policy moved, for the whole rollout."""
    log_probs = agent.policy.log_prob(batch.observations, batch.actions)  # (B,)
    log_ratio = log_probs - batch.old_log_probs  # (B,)
    ratio = log_ratio.exp()  # (B,)

    # The estimator k3 of http://joschu.net/blog/kl-approx.html: unbiased, and never negative.
    approx_kl = (ratio - 1 - log_ratio).mean()
    is_clipped = (ratio - 1).abs() > config.clip_ratio  # (B,)
    scalars = (
        batch_policy_loss(log_probs, batch, config),
        value_loss(agent.value(batch.observations), batch.returns),
        agent.policy.entropy(),
        approx_kl,
        is_clipped.float().mean(),
    )
    return UpdateStats(*torch.stack(scalars).tolist())  # (5,): one transfer from the device


def explained_variance(predicted: Tensor, actual: Tensor) -> float:
    """Fraction of the returns' variance that the critic explains, for two tensors of one shape.

    1 is perfect, 0 is no better than predicting the mean.
    """
    unexplained = (actual - predicted).var() / (actual.var() + 1e-12)
    return (1.0 - unexplained).item()


class Trainer(TrainingRun):
    """PPO's outer loop over the environments, agent and optimizer of a `TrainingRun`."""

    def iterate(self) -> IterationRecord:
        """Collect one rollout and update the agent with it.

        Raises UserError if the training diverges.
        """
        config = self.config
        agent = self.agent
        learning_rate = self.begin_iteration()

        # Collect T steps of N environments with the current policy.
        num_steps = config.steps_per_iter // config.num_envs  # T
        rollout = self.collect(num_steps)

        # Compute values, advantages and returns of all steps.
        observations = agent.normalizer(rollout.observations).to(self.device)  # (T, N, O)
        values, advantages, returns = self.compute_advantages(rollout, observations)  # (T, N)

        # Update both networks with all B = T * N transitions.
        stats = update(
            agent,
            self.optimizer,
            observations.flatten(0, 1),  # (T, N, O) -> (B, O)
            rollout.actions.flatten(0, 1).to(self.device),  # (T, N, A) -> (B, A)
            advantages.flatten().to(self.device),  # (T, N) -> (B,)
            returns.flatten().to(self.device),  # (T, N) -> (B,)
            config,
        )
        self.iteration += 1
        self.check_finite(stats)

        # Only now update the observation statistics: rollout and update must see the same inputs.
        agent.normalizer.statistics.update(rollout.observations.flatten(0, 1))  # (B, O)
        return IterationRecord(
            iteration=self.iteration,
            steps=self.iteration * config.steps_per_iter,
            episode_returns=self.gather_returns(rollout.episode_returns),
            explained_variance=explained_variance(values, returns),
            learning_rate=learning_rate,
            update=stats,
            agent=agent,
            snapshot=self.state_dict,
        )

    def begin_iteration(self) -> float:
        """Set this iteration's learning rate and return it; it decays linearly to zero."""
        remaining = 1.0
        if self.config.anneal_learning_rate:  # detail 6
            remaining = 1 - self.iteration / self.config.num_iterations
        learning_rate = self.config.learning_rate * remaining
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        return learning_rate

    def compute_advantages(
        self,
        rollout: Rollout,
        observations: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the values, advantages and returns of a rollout, (T, N) each, on the CPU.

        `observations` are the rollout's, normalized, (T, N, O).
        """
        config = self.config
        ended = rollout.terminated | rollout.truncated  # (T, N)

        # Scale the rewards so that returns are of the order of 1.
        self.reward_scaler.update(rollout.rewards, ended)
        rewards = rollout.rewards.float()  # (T, N)
        if config.scale_rewards:  # detail 3
            rewards = self.reward_scaler(rollout.rewards)

        # A time limit truncates an episode, but is not a terminal state.
        terminal = rollout.terminated if config.bootstrap_at_time_limit else ended  # detail 1

        next_observations = rollout.next_observations  # (T, N, O)
        values, next_values = self.compute_values(observations, next_observations, ended)  # (T, N)
        advantages, returns = compute_gae(
            rewards,
            values,
            next_values,
            terminal,
            rollout.truncated,
            config.discount,
            config.gae_lambda,
        )  # (T, N) each
        return values, advantages, returns

    @torch.no_grad()
    def compute_values(
        self,
        observations: Tensor,
        next_observations: Tensor,
        ended: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the critic's values of all observations and of all true next observations.

        Args:
            observations: normalized, (T, N, O).
            next_observations: not normalized, (T, N, O).
            ended: the episode ended with this step, (T, N) bool.

        Returns:
            values and next_values, (T, N) each, on the CPU.
        """
        values = self.agent.value(observations).cpu()  # (T, N, O) -> (T, N)

        # Within an episode, the next observation is the one that the next step starts from.
        next_values = values.roll(-1, dims=0)  # (T, N)

        # At the end of an episode or of the rollout it is not: compute those K values separately.
        is_last = ended.clone()  # (T, N)
        is_last[-1] = True
        last_observations = self.agent.normalizer(next_observations[is_last])  # (K, O)
        next_values[is_last] = self.agent.value(last_observations.to(self.device)).cpu()  # (K,)
        return values, next_values


def train(config: PPOConfig, state: dict[str, Any] | None = None) -> Iterator[IterationRecord]:
    """Train an agent; yields one record per iteration. The same configuration repeats the same run.

    Args:
        config: the options of the run.
        state: a record's `snapshot()`, to resume from there.

    Raises UserError for an environment that does not fit, and if the training diverges.
    """
    trainer = Trainer(config)
    if state is not None:
        trainer.load_state_dict(state)
    with closing(trainer.envs):
        while trainer.iteration < config.num_iterations:
            yield trainer.iterate()
