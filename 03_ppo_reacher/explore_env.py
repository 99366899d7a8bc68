"""Look at Reacher-v5 before anything learns: its spaces, its reward, and two policies that nobody had to train.

    python explore_env.py

Every figure that is printed is checked before it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from controllers import Policy, inverse_kinematics_controller, random_policy
from evaluate import HELD_OUT_SEED, evaluate_policy
from lab.errors import require_at_least
from lab.launch import launch
from lab.plots import BLUE, ORANGE, new_figure, save_figure
from lab.record import RunRecord
from lab.rendering import prepare_rendering
from lab.seeding import check_seed
from reacher_drawing import film_episodes

ENV_ID = "Reacher-v5"
OBSERVATION = (
    ("cosine of the shoulder and elbow angles", 0, 2),
    ("sine of the shoulder and elbow angles", 2, 4),
    ("target x, y (metres)", 4, 6),
    ("angular velocity of shoulder, elbow (radians/s)", 6, 8),
    ("fingertip minus target x, y (metres)", 8, 10),
)


@dataclass(frozen=True)
class Config:
    """Explore Reacher-v5."""

    episodes: int = 100
    """Episodes to measure each policy on."""
    seed: int = HELD_OUT_SEED
    """Episode i starts from a reset with seed + i."""
    output_dir: Path = Path(__file__).parent / "results"
    """Folder for the picture and the record of the run."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "episodes")
        check_seed(self.seed)


def show_spaces(env: gym.Env, seed: int) -> None:
    """Print what the agent sees and does, with the numbers of one first observation."""
    spec: Any = env.spec
    observation, _ = env.reset(seed=seed)
    assert env.observation_space.shape == (10,)
    assert env.action_space.shape == (2,)
    np.testing.assert_allclose(np.square(observation[:2]) + np.square(observation[2:4]), 1.0)  # cosine, sine
    print(f"{ENV_ID}: {spec.max_episode_steps} steps an episode, threshold {spec.reward_threshold}")
    print(f"actions      {env.action_space}: torque at shoulder and elbow")
    print(f"observation  {env.observation_space}, for instance")
    for name, start, end in OBSERVATION:
        print(f"  [{start}:{end}]  {np.array2string(observation[start:end], precision=3, sign=' '):<18} {name}")


def show_reward(env: gym.Env, seed: int) -> None:
    """Print the two terms of one step's reward and check that they are what the formula says."""
    env.reset(seed=seed)
    action = np.array([0.5, -0.3])
    observation, reward, _, _, info = env.step(action)
    distance = float(np.linalg.norm(observation[8:10]))  # the fingertip and the target are at one height
    control = float(np.square(action).sum())
    np.testing.assert_allclose([info["reward_dist"], info["reward_ctrl"]], [-distance, -control], atol=1e-6)
    np.testing.assert_allclose(float(reward), -distance - control, atol=1e-6)
    print(
        f"reward       {float(reward):.4f} = -{distance:.4f} (metres to the target) - {control:.4f} (torques squared)"
    )


def show_end(env: gym.Env, seed: int) -> None:
    """Check and print that an episode is cut by the clock and never ends for good."""
    env.reset(seed=seed)
    steps, terminated, truncated = 0, False, False
    while not (terminated or truncated):
        _, _, terminated, truncated, _ = env.step(np.zeros(2))
        steps += 1
    spec: Any = env.spec
    assert (steps, terminated, truncated) == (spec.max_episode_steps, False, True)
    print(f"end          step {steps}: truncated by the clock, not terminated; the value of what would follow counts")


def draw(path: Path, policies: dict[str, Policy], returns: dict[str, np.ndarray], seed: int) -> None:
    """The last frame of one episode of each policy, and the returns of all episodes."""
    figure, axes = new_figure(width=10, height=3.6, columns=3)
    for ax, (name, policy) in zip(axes, policies.items(), strict=False):
        ax.imshow(np.asarray(film_episodes(policy, ENV_ID, seeds=[seed])[-1]))
        ax.set_title(name)
        ax.axis("off")
    bins = np.linspace(min(r.min() for r in returns.values()), 0.0, 40)
    for (name, values), color in zip(returns.items(), (ORANGE, BLUE), strict=True):
        axes[2].hist(values, bins=bins, color=color, label=f"{name}: mean {values.mean():.2f}")
    axes[2].set(title=f"all {len(next(iter(returns.values())))} episodes", xlabel="return", ylabel="episodes")
    axes[2].legend(loc="upper left")
    axes[2].margins(y=0.35)
    save_figure(figure, path)


def measure(policies: dict[str, Policy], config: Config) -> dict[str, np.ndarray]:
    """Returns (episodes,) of each policy on the same episodes, printed with mean and spread."""
    returns = {}
    for name, policy in policies.items():
        returns[name] = evaluate_policy(policy, ENV_ID, config.episodes, config.seed).returns
        print(f"{name:<24} mean return {returns[name].mean():8.2f}, standard deviation {returns[name].std():.2f}")
    return returns


def main(config: Config) -> None:
    """Print and check, measure, draw, record."""
    record = RunRecord(__file__, config.output_dir, config)
    env = gym.make(ENV_ID)
    show_spaces(env, config.seed)
    show_reward(env, config.seed)
    show_end(env, config.seed)
    space: Any = env.action_space
    policies = {"random": random_policy(space, config.seed), "inverse kinematics + PD": inverse_kinematics_controller()}
    returns = measure(policies, config)
    draw(record.file("explore_env.png"), policies, returns, config.seed)
    means: Sequence[float] = [float(values.mean()) for values in returns.values()]
    assert means[0] < means[1], "the controller must beat the dice"
    record.results = {"mean_returns": dict(zip(returns, means, strict=True)), "episodes": config.episodes}
    record.check(
        "mean return of the hand-written controller", round(means[1], 2), "about -3.7", ok=-4.1 < means[1] < -3.3
    )
    record.save()


if __name__ == "__main__":
    prepare_rendering()
    launch(Config, main)
