"""What is each detail of PPO worth: every one switched off alone, over several seeds, on held-out episodes.

The seeds take turns: all variants of seed 0, then all of seed 1, ... What was stopped goes on with the same command. A
training that diverges is counted with the return of random actions.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

import lab.projects  # noqa: F401 - lets the projects' modules be found
from controllers import random_policy
from evaluation import evaluate_policy
from lab.errors import UserError, require_at_least
from lab.files import ROOT, display_path
from lab.intervals import difference, estimate
from lab.launch import launch
from lab.record import environment_info
from lab.rows import ResumableResults
from ppo_config import FileSettings, PPOConfig, config_from_file, config_to_file
from ppo_reacher import ENV_ID, train_and_evaluate

NOTHING = "nothing"
TITLES = {
    NOTHING: "nothing",
    "bootstrap_at_time_limit": "1 a time limit is not death",
    "normalize_observations": "2 normalised observations",
    "scale_rewards": "3 scaled rewards",
    "normalize_advantages": "4 normalised advantages",
    "orthogonal_initialization": "5 orthogonal weights",
    "anneal_learning_rate": "6 a falling learning rate",
    "clip_gradients": "7 clipped gradients",
    "clip_ratios": "8 clipped ratios",
}


@dataclass(frozen=True)
class Config:
    """Switch off each detail of PPO and measure what it costs."""

    output: Path = ROOT / "benchmarks/results/ablation.json"
    """File for the figures; rows that it holds are not measured again."""
    seeds: int = 10
    """Training runs of each variant, with seeds 0, 1, ..."""
    episodes: int = 1000
    """Held-out episodes for each."""
    num_iterations: int = 200
    """Iterations of a training."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "seeds", "episodes", "num_iterations")


def settings_of(variant: str, seed: int, num_iterations: int) -> PPOConfig:
    """The settings of a run: our defaults, but for the one that is switched off."""
    whole = PPOConfig(seed=seed, num_iterations=num_iterations)
    if variant == NOTHING:
        return whole
    return config_from_file({**asdict(config_to_file(whole)), variant: False})


def run(variant: str, seed: int, config: Config, dice: float) -> dict[str, Any]:
    """Train and evaluate one seed of one variant; its row."""
    try:
        seconds, mean_return, _ = train_and_evaluate(settings_of(variant, seed, config.num_iterations), config.episodes)
    except UserError as error:
        return {"variant": variant, "seed": seed, "return": dice, "diverged": str(error)}
    return {"variant": variant, "seed": seed, "return": mean_return, "seconds": round(seconds, 2)}


def summary(rows: ResumableResults) -> list[dict[str, Any]]:
    """Every variant with its interquartile mean and interval, and how far it lies from the whole algorithm."""
    returns = {variant: [row["return"] for row in rows.find(variant=variant)] for variant in TITLES}
    found = []
    for variant, title in TITLES.items():
        away = difference(returns[variant], returns[NOTHING])
        found.append(
            {
                "variant": variant,
                "title": title,
                **estimate(returns[variant])._asdict(),
                "worst": min(returns[variant]),
                "difference": None if variant == NOTHING else away._asdict(),
                "diverged": sum("diverged" in row for row in rows.find(variant=variant)),
                "returns": returns[variant],
            }
        )
    return found


def main(config: Config) -> None:
    """Measure what is missing, print, write."""
    torch.set_num_threads(1)
    assert set(TITLES) - {NOTHING} <= {field.name for field in fields(FileSettings)}
    base = asdict(config_to_file(settings_of(NOTHING, 0, config.num_iterations)))
    base |= {"hidden_sizes": list(base["hidden_sizes"])}  # as JSON gives them back
    rows = ResumableResults(config.output, {"episodes": config.episodes, "ppo": base})
    before = environment_info()
    space: Any = gym.make(ENV_ID).action_space
    dice = float(evaluate_policy(random_policy(space, seed=0), ENV_ID, config.episodes).returns.mean())
    for seed in range(config.seeds):
        for variant in TITLES:
            if not rows.find(variant=variant, seed=seed):
                row = run(variant, seed, config, dice)
                rows.add(row)
                said = "diverged" if "diverged" in row else f"return {row['return']:.3f}, {row['seconds']:.1f} s"
                print(f"seed {seed}, without {TITLES[variant]}: {said}", flush=True)
    found = summary(rows)
    rows.finish(random_return=dice, summary=found, circumstances=before)
    for row in found:
        away = row["difference"]
        said = f", {away['mean']:+.3f} ({away['low']:+.3f} to {away['high']:+.3f})" if away else ""
        print(f"without {row['title']:<28} {row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f}){said}")
    print(f"wrote {display_path(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
