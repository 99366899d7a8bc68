"""Evaluation of a policy on held-out episodes, many at a time, every episode counted once.

# N environments, E episodes, O observation_dim
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controllers import Policy
from environments import HELD_OUT_SEEDS, is_reacher, make_envs, spec_of, true_next_observations
from lab.launch import warn_once
from lab.record import RunRecord

EXPECTED_RETURN = {"Reacher-v5": -4.1}  # every seed of the default options does better
HELD_OUT_SEED = HELD_OUT_SEEDS.start
DEFAULT_LIMIT = 2_000  # steps of an episode of an environment without a time limit
LARGEST_LIMIT = 10_000  # steps of any episode


@dataclass(frozen=True)
class Evaluation:
    """Returns and lengths of E episodes."""

    returns: NDArray  # (E,)
    lengths: NDArray  # (E,) steps
    final_distances: NDArray | None  # (E,) meters from fingertip to target; only for Reacher
    cut: int = 0  # episodes that had not ended after `step_limit` steps

    def summary(self) -> dict[str, Any]:
        """Return the mean with its 95% interval (normal approximation), spread, worst episode.

        One episode has no interval: None.
        """
        mean = float(self.returns.mean())
        std = float(self.returns.std())
        half_width = 1.96 * std / len(self.returns) ** 0.5
        distances = self.final_distances
        return {
            "mean_return": mean,
            "std_return": std,
            "interval_95": [mean - half_width, mean + half_width] if len(self.returns) > 1 else None,
            "worst_return": float(self.returns.min()),
            "worst_episode": int(self.returns.argmin()),
            "mean_length": float(self.lengths.mean()),
            "mean_final_distance_mm": None if distances is None else 1000 * float(distances.mean()),
            "episodes": len(self.returns),
            "cut_episodes": self.cut,
        }


def evaluate_policy(
    policy: Policy,
    env_id: str,
    episodes: int,
    seed: int = HELD_OUT_SEED,
    num_envs: int = 50,
) -> Evaluation:
    """Run `episodes` episodes, `num_envs` at a time; episode i is reset with seed + i."""
    limit = step_limit(env_id)
    returns = []
    lengths = []
    last_observations = []
    cut = 0
    for first in range(0, episodes, num_envs):
        seeds = range(seed + first, seed + min(first + num_envs, episodes))
        group = _run_episodes(policy, env_id, seeds, limit)
        returns.append(group[0])
        lengths.append(group[1])
        last_observations.append(group[2])
        cut += group[3]
    if cut:
        warn_once(f"{env_id}: {cut} of {episodes} episodes had not ended after {limit:,} steps; only these steps count")
    distances = None
    if is_reacher(env_id):
        difference = np.concatenate(last_observations)[:, 8:10]  # (E, 2) fingertip minus target
        distances = np.linalg.norm(difference, axis=-1)  # (E,)
    return Evaluation(np.concatenate(returns), np.concatenate(lengths), distances, cut)


def step_limit(env_id: str) -> int:
    """Return after how many steps an evaluation stops an episode that has not ended."""
    return min(spec_of(env_id).max_episode_steps or DEFAULT_LIMIT, LARGEST_LIMIT)


def _run_episodes(policy: Policy, env_id: str, seeds: range, limit: int) -> tuple[NDArray, NDArray, NDArray, int]:
    """Run one episode per seed, for at most `limit` steps.

    Returns their returns (N,), lengths (N,), last observations (N, O), and how many did not end.
    """
    num_envs = len(seeds)
    envs = make_envs(env_id, num_envs)
    seed_list: Any = list(seeds)  # Gymnasium accepts a list, too, but does not declare it
    observations, _ = envs.reset(seed=seed_list)  # (N, O)
    returns = np.zeros(num_envs)
    lengths = np.zeros(num_envs, dtype=int)
    last_observations = observations.copy()
    running = np.ones(num_envs, dtype=bool)  # False once the first episode has ended
    for _ in range(limit):
        observations, rewards, terminated, truncated, info = envs.step(policy(observations))
        returns += np.where(running, rewards, 0.0)
        lengths += running
        true_next = true_next_observations(observations, info)
        last_observations[running] = true_next[running]
        running &= ~(terminated | truncated)
        if not running.any():
            break
    envs.close()
    return returns, lengths, last_observations, int(running.sum())


def check_return(record: RunRecord, env_id: str, mean_return: float) -> None:
    """Add a check to the record: is the mean return as expected?

    For Reacher that is the return of a normal run, otherwise the environment's reward threshold.
    """
    threshold = spec_of(env_id).reward_threshold
    minimum = EXPECTED_RETURN.get(env_id, threshold)
    if minimum is None:
        return
    expected = f"{minimum} or more; threshold {threshold}"
    record.check("mean return", round(mean_return, 3), expected, ok=mean_return >= minimum)
