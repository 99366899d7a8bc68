"""The update of the policy alone: the right answer of an exercise.

The lab has it in another form: a test compares it with `ppo.update`, which trains the critic at the same time.

# B transitions of a rollout, M transitions of a minibatch, O observation_dim, A action_dim
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def ppo_epochs(
    policy: Any,
    optimizer: torch.optim.Optimizer,
    observations: Tensor,
    actions: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    orders: Sequence[Tensor],
    num_minibatches: int,
    clip_ratio: float,
) -> None:
    """Train a policy on one rollout: several epochs of gradient steps on minibatches.

    Args:
        policy: `policy.log_prob(observations, actions)` returns log pi(a | s), (M,).
        optimizer: holds the parameters of the policy.
        observations, actions: (B, O) and (B, A).
        old_log_probs: log pi(a | s) under the policy that collected the rollout, (B,).
        advantages: (B,).
        orders: one permutation of 0 to B - 1 for each epoch, (B,) each.
        num_minibatches: into how many minibatches an epoch is split.
        clip_ratio: epsilon of the clipped objective.
    """
    for order in orders:
        # Visit all transitions in the order of this epoch, one minibatch after the other.
        for indices in order.tensor_split(num_minibatches):  # (B,) -> (M,) each
            # How much more probable the actions are now than when they were taken.
            log_probs = policy.log_prob(observations[indices], actions[indices])  # (M,)
            ratio = (log_probs - old_log_probs[indices]).exp()  # (M,)
            # The clipped objective of this minibatch (Schulman et al. 2017, eq. 7), negated.
            clipped = ratio.clamp(1.0 - clip_ratio, 1.0 + clip_ratio)  # (M,)
            objective = torch.minimum(ratio * advantages[indices], clipped * advantages[indices])
            loss = -objective.mean()
            # One gradient step.
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
