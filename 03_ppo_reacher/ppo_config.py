"""The options of a PPO run: what each one does, its default, and its allowed values."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from lab.errors import UserError, require_at_least
from lab.seeding import check_seed

# Options whose name on the command line and in files differs from the one in the code.
FILE_NAMES = {"use_clipping": "clip_ratios"}


@dataclass(frozen=True)
class PPOConfig:
    """The options of the algorithm; together they determine a training run."""

    env_id: str = "Reacher-v5"
    """Gymnasium environment with flat Box observations and a flat, bounded Box of actions."""
    seed: int = 0
    """Random seed for weights, exploration, minibatches, and environments."""
    num_iterations: int = 200
    """Training iterations; each one collects a rollout and updates the networks."""
    steps_per_iter: int = 2048
    """Environment steps per rollout, summed over all environments."""
    num_envs: int = 32
    """Number of parallel environments."""
    hidden_sizes: tuple[int, ...] = (96, 96)
    """Hidden layer sizes of the policy network and of the value network."""
    initial_log_std: float = -0.5
    """Initial log standard deviation of the Gaussian policy."""
    learning_rate: float = 5e-3
    """Initial learning rate of Adam."""
    discount: float = 0.95
    """Discount factor gamma."""
    gae_lambda: float = 0.99
    """GAE's lambda, from 0 (one-step advantages: low variance) to 1 (full returns: low bias)."""
    clip_ratio: float = 0.1
    """Clipping range epsilon of the probability ratio."""
    num_epochs: int = 4
    """Epochs per rollout."""
    num_minibatches: int = 2
    """Minibatches per epoch."""
    value_coefficient: float = 0.5
    """Coefficient c1 of the value loss."""
    entropy_coefficient: float = 0.0
    """Coefficient c2 of the entropy bonus."""
    max_grad_norm: float = 0.5
    """Maximum global gradient norm; larger gradients are scaled down to it."""
    checkpoint_every: int = 20
    """Iterations between checkpoints. A resumed run of Reacher is bit-exact; others resume with new episodes."""
    device: str = "cpu"
    """Device of the networks: auto, cpu, cuda or mps. Networks this small gain nothing on a GPU."""
    bootstrap_at_time_limit: bool = True
    """Detail 1: bootstrap at time limits; without, they count as terminal states."""
    normalize_observations: bool = True
    """Detail 2: normalize observations; without, the networks receive raw ones."""
    scale_rewards: bool = True
    """Detail 3: scale rewards; without, advantages and returns are those of raw rewards."""
    normalize_advantages: bool = True
    """Detail 4: normalize advantages per minibatch; without, they stay as GAE computes them."""
    orthogonal_initialization: bool = True
    """Detail 5: orthogonal initial weights; without, PyTorch's default initialization."""
    anneal_learning_rate: bool = True
    """Detail 6: decay the learning rate linearly to zero; without, it is constant."""
    clip_gradients: bool = True
    """Detail 7: clip the global gradient norm; without, gradients may be of any size."""
    use_clipping: Annotated[bool, tyro.conf.arg(name=FILE_NAMES["use_clipping"])] = True
    """Detail 8: clipped objective; without, the unclipped one (eq. 6 of the PPO paper)."""

    def __post_init__(self) -> None:
        counts = ("num_iterations", "steps_per_iter", "num_envs", "num_epochs", "num_minibatches")
        require_at_least(1, self, *counts, "checkpoint_every")
        check_seed(self.seed)
        if self.steps_per_iter % self.num_envs:
            multiple = f"a multiple of --num_envs {self.num_envs}"
            raise UserError(f"--steps_per_iter {self.steps_per_iter} is not {multiple}")
        if self.num_minibatches * 2 > self.steps_per_iter:
            result = "fewer than 2 transitions per minibatch"
            raise UserError(f"--num_minibatches {self.num_minibatches} leaves {result}")
        for name in ("discount", "gae_lambda"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise UserError(f"--{name} is {value}; it must be between 0 and 1")
        for name in ("learning_rate", "clip_ratio", "max_grad_norm"):
            value = getattr(self, name)
            if not 0.0 < value < float("inf"):
                raise UserError(f"--{name} is {value}; it must be positive and finite")
        for name in ("value_coefficient", "entropy_coefficient"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise UserError(f"--{name} is {value}; it must be finite")
        if not -20 <= self.initial_log_std <= 20:
            raise UserError(f"--initial_log_std is {self.initial_log_std}; it must be between -20 and 20")
        smallest = min(self.hidden_sizes, default=1)
        if smallest < 1:
            raise UserError(f"--hidden_sizes includes {smallest}; a layer needs at least 1 unit")


def config_to_file(config: PPOConfig) -> dict[str, Any]:
    """Return the options by the names that they have in files and as flags."""
    settings = dataclasses.asdict(config)
    return {FILE_NAMES.get(name, name): value for name, value in settings.items()}


def config_from_file(settings: Mapping[str, Any]) -> PPOConfig:
    """Return the configuration stored in a file.

    Raises TypeError for an unknown option and UserError for a value that is not allowed.
    """
    code_names = {file_name: name for name, file_name in FILE_NAMES.items()}
    return PPOConfig(**{code_names.get(name, name): value for name, value in settings.items()})
