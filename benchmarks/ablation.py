"""PPO ablation: every implementation detail switched off on its own, over several seeds, on held-out episodes.

The seeds are interleaved: all variants of seed 0, then all of seed 1, ... If interrupted, rerun the same command to
resume. A run that diverges counts with the return of a random policy.
"""

if __name__ == "__main__":
    import lab.startup  # first: Ctrl-C works while the libraries load

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

import lab.projects  # noqa: F401 - puts the projects on the search path
from controllers import random_policy
from evaluation import evaluate_policy
from lab.errors import UserError, require_at_least
from lab.files import ROOT, display_path
from lab.intervals import difference, estimate
from lab.launch import launch
from lab.record import environment_info
from lab.results import Record, ResumableResults, new_record
from ppo_config import PPOConfig, config_from_file, config_to_file
from ppo_reacher import ENV_ID, train_and_evaluate

FULL = "full PPO"
VARIANTS = {  # name in tables and plots to the option of PPOConfig that is switched off
    FULL: None,
    "without time-limit bootstrapping (1)": "bootstrap_at_time_limit",
    "without observation normalization (2)": "normalize_observations",
    "without reward scaling (3)": "scale_rewards",
    "without advantage normalization (4)": "normalize_advantages",
    "without orthogonal initialization (5)": "orthogonal_initialization",
    "without learning-rate annealing (6)": "anneal_learning_rate",
    "without gradient clipping (7)": "clip_gradients",
    "without ratio clipping (8)": "clip_ratios",
}


@dataclass(frozen=True)
class Config:
    """Switch off each implementation detail of PPO and measure the effect on the return."""

    output: Path = ROOT / "benchmarks/results/ablation.json"
    """Results file; records that it already holds are not measured again."""
    seeds: int = 10
    """Training runs per variant, with seeds 0, 1, ..."""
    episodes: int = 1000
    """Held-out episodes per run."""
    num_iterations: int = 200
    """Training iterations per run."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "seeds", "episodes", "num_iterations")


def settings_of(variant: str, seed: int, num_iterations: int) -> PPOConfig:
    """Return the settings of a run: the defaults, with the variant's option switched off."""
    full = PPOConfig(seed=seed, num_iterations=num_iterations)
    option = VARIANTS[variant]
    if option is None:
        return full
    return config_from_file({**config_to_file(full), option: False})


def run(variant: str, seed: int, config: Config, random_return: float) -> dict[str, Any]:
    """Train and evaluate one seed of one variant; return what was measured."""
    try:
        seconds, mean_return, _ = train_and_evaluate(settings_of(variant, seed, config.num_iterations), config.episodes)
    except UserError as error:
        return {"return": random_return, "diverged": str(error)}
    return {"return": mean_return, "seconds": round(seconds, 2)}


def summary(results: ResumableResults) -> list[Record]:
    """Return the interquartile mean of every variant and its difference from full PPO, with intervals."""
    returns = {variant: [record["return"] for record in results.find(side=variant)] for variant in VARIANTS}
    rows = []
    for variant, option in VARIANTS.items():
        mean, low, high = estimate(returns[variant])
        change = None if option is None else difference(returns[variant], returns[FULL])
        rows.append(
            {
                "side": variant,
                "switched_off": option,
                "seeds": len(returns[variant]),
                "mean": mean,
                "low": low,
                "high": high,
                "worst": min(returns[variant]),
                "difference": change and change.mean,
                "difference_low": change and change.low,
                "difference_high": change and change.high,
                "diverged": sum("diverged" in record for record in results.find(side=variant)),
            }
        )
    return rows


def main(config: Config) -> None:
    """Measure the missing runs, print and write the results."""
    torch.set_num_threads(1)
    option_names = set(config_to_file(PPOConfig()))
    assert {option for option in VARIANTS.values() if option} <= option_names
    base = config_to_file(settings_of(FULL, 0, config.num_iterations))
    base |= {"hidden_sizes": list(base["hidden_sizes"])}  # tuples become lists in JSON
    environment = environment_info()
    results = ResumableResults(config.output, "ablation", {"episodes": config.episodes, "ppo": base}, environment)
    space: Any = gym.make(ENV_ID).action_space
    random_return = float(evaluate_policy(random_policy(space, seed=0), ENV_ID, config.episodes).returns.mean())
    for seed in range(config.seeds):
        for variant, option in VARIANTS.items():
            if not results.find(side=variant, seed=seed):
                values = run(variant, seed, config, random_return)
                results.add(new_record(ENV_ID, variant, environment, switched_off=option, seed=seed, **values))
                outcome = "diverged" if "diverged" in values else f"{values['return']:.3f}, {values['seconds']:.1f} s"
                print(f"seed {seed}, {variant}: return {outcome}", flush=True)
    rows = summary(results)
    results.finish(random_return=random_return, summary=rows)
    for row in rows:
        print(f"{row['side']:<40} {row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f}){_difference_text(row)}")
    print(f"wrote {display_path(config.output)}")


def _difference_text(row: Record) -> str:
    if row["difference"] is None:
        return ""
    return f", {row['difference']:+.3f} ({row['difference_low']:+.3f} to {row['difference_high']:+.3f})"


if __name__ == "__main__":
    launch(Config, main)
