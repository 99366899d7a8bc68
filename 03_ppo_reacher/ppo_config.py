"""The settings of a PPO run, each with its documentation, and what they may be."""

from dataclasses import dataclass

from lab.errors import UserError, require_at_least
from lab.seeding import check_seed


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
    num_envs: int = 32
    """Environments stepped side by side."""
    hidden_sizes: tuple[int, ...] = (96, 96)
    """Widths of the hidden layers of both networks."""
    initial_log_std: float = -0.5
    """Logarithm of the policy's standard deviation at the start."""
    learning_rate: float = 5e-3
    """Adam's step size at the start; falls linearly to zero."""
    discount: float = 0.97
    """Weight of the next step's value, gamma."""
    gae_lambda: float = 0.99
    """Between 0 (one-step advantages: low variance) and 1 (full returns: low bias)."""
    clip_ratio: float = 0.2
    """How far the probability ratio may move from 1 before the objective goes flat, epsilon."""
    num_epochs: int = 3
    """Passes over a rollout."""
    num_minibatches: int = 2
    """Pieces that a pass cuts the rollout into."""
    value_coefficient: float = 0.5
    """Weight of the critic's loss, c1."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus, c2."""
    max_grad_norm: float = 0.5
    """Gradients longer than this are scaled down to it."""
    checkpoint_every: int = 20
    """Iterations between checkpoints."""
    device: str = "cpu"
    """Where the networks learn: auto, cpu, cuda or mps. Networks this small are quickest on the CPU."""
    bootstrap_at_time_limit: bool = True
    """Detail 1. Off: a time limit counts as death."""
    normalize_observations: bool = True
    """Detail 2. Off: the networks get observations as they are."""
    scale_rewards: bool = True
    """Detail 3. Off: the critic learns returns at the scale of the environment."""
    normalize_advantages: bool = True
    """Detail 4. Off: minibatches with small advantages teach the policy little."""
    orthogonal_initialization: bool = True
    """Detail 5. Off: PyTorch's default initialisation."""
    anneal_learning_rate: bool = True
    """Detail 6. Off: the step size stays as it is at the start."""
    clip_gradients: bool = True
    """Detail 7. Off: gradients of any length."""
    clip_ratios: bool = True
    """Detail 8. Off: the policy gradient with importance sampling, unclipped."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "num_iterations", "steps_per_iter", "num_envs", "num_epochs", "num_minibatches")
        require_at_least(1, self, "checkpoint_every")
        check_seed(self.seed)
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
        if min(self.hidden_sizes, default=1) < 1:
            raise UserError(f"--hidden_sizes holds {min(self.hidden_sizes)}; every layer needs at least 1 unit")
