"""Q-learning for many agents at once as functions of their own: the right answers of the exercises.

Tests compare them with `batched_q_learning.py` and `q_learning_agent.py`, where they are parts of larger functions.
"""

import torch
from torch import Tensor


def batched_act(
    values: Tensor,
    epsilon: Tensor,
    explore_draw: Tensor,
    tie_break_draw: Tensor,
) -> Tensor:
    """Return the epsilon-greedy action of each agent, (N,).

    Args:
        values: (A, N), Q of every action of each of the N agents.
        epsilon: (N,), the probability of exploring.
        explore_draw: (N,), random numbers in [0, 1); one below epsilon means to explore.
        tie_break_draw: (N,), random numbers in [0, 1) that choose among the candidates: all actions
            of an agent that explores, its best ones otherwise. Of k candidates in ascending order,
            number floor(tie_break_draw * k) is taken, counted from 0.
    """
    # The best actions of each agent, and the agents that explore.
    is_best = values == values.amax(0)  # (A, N)
    explores = explore_draw < epsilon  # (N,)
    # All actions of an agent that explores are candidates.
    is_candidate = is_best | explores  # (A, N)
    # Number the candidates of each agent from 1: a running sum over the actions.
    candidate_number = is_candidate.long().cumsum(0)  # (A, N)
    n_candidates = candidate_number[-1]  # (N,)
    # Take the first action whose number is larger than `chosen`; all before it have smaller ones.
    chosen = (tie_break_draw * n_candidates).long()  # (N,), 0 for the first candidate
    return (candidate_number <= chosen).sum(0)  # (A, N) -> (N,)


def batched_update(
    q: Tensor,
    state: Tensor,
    action: Tensor,
    reward: Tensor,
    next_state: Tensor,
    nonterminal: Tensor,
    alpha: float,
    gamma: float,
) -> None:
    """Let each agent learn from one step: change one entry of each table in place  (eq. 6.8).

    Args:
        q: (N, S, A), the Q-tables of N agents, which share nothing.
        state, action, reward, next_state: (N,), the step of each agent.
        nonterminal: (N,), 0 or False where the goal was reached, otherwise 1 or True.
    """
    # Pair each agent with its own state: agent[i] = i.
    agent = torch.arange(len(q))  # (N,)
    # The best Q of the next state; the value of a terminal state is 0.
    next_value = nonterminal * q[agent, next_state].amax(1)  # (N, A) -> (N,)
    # The target, and how wrong the old guess was.
    target = reward + gamma * next_value  # (N,)
    td_error = target - q[agent, state, action]  # (N,)
    # Q(S,A) ← Q(S,A) + α [R + γ max_a Q(S',a) − Q(S,A)]
    q[agent, state, action] += alpha * td_error


def td_loss(values: Tensor, targets: Tensor) -> Tensor:
    """Return ½ Σ (target − value)², whose gradient step of size α is the update of Q-learning.

    `values` and `targets` have the same shape. The targets are held fixed: no gradient flows to
    them.
    """
    # Hold the targets fixed: they are what the values should become.
    fixed = targets.detach()
    # Half the squared errors, summed: the derivative is value − target.
    return 0.5 * (fixed - values).square().sum()
