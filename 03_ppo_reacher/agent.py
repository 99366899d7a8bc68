"""The agent: its networks and input statistics, its model file, and how it acts.

# N environments, O observation_dim, A action_dim
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from controllers import Policy
from lab.checkpoints import check_like, load_checkpoint, save_checkpoint
from lab.errors import UserError
from networks import PolicyNetwork, ValueNetwork
from normalization import ObservationNormalizer
from ppo_config import PPOConfig, config_from_file, config_to_file

KIND = "a PPO policy"  # stored in the model file, to recognize it


@dataclass
class Agent:
    """Everything that is learned: policy, critic, and the statistics of the observations.

    The policy acts in [-1, 1], which is scaled to the bounds of an environment's actions. Agents of
    earlier versions have `scaled_actions` false: their actions are only clipped to the bounds.
    """

    policy: PolicyNetwork
    value: ValueNetwork
    normalizer: ObservationNormalizer
    scaled_actions: bool = True

    def environment_actions(self, actions: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the policy's actions (..., A) as an environment with bounds (A,) receives them.

        With bounds of -1 and 1 nothing but clipping happens.
        """
        if self.scaled_actions:
            center = high / 2 + low / 2  # (A,)
            half_width = high / 2 - low / 2  # (A,)
            actions = center + half_width * actions.clamp(-1.0, 1.0)  # (..., A)
        return actions.to(low.dtype).clamp(low, high)

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters of both networks."""
        return [*self.policy.parameters(), *self.value.parameters()]

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the weights and statistics, on the CPU."""
        return {
            "policy": copy_to_cpu(self.policy.state_dict()),
            "value": copy_to_cpu(self.value.state_dict()),
            "normalizer": self.normalizer.statistics.state_dict(),
            "scaled_actions": self.scaled_actions,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load weights and statistics from a `state_dict`."""
        self.policy.load_state_dict(state["policy"])
        self.value.load_state_dict(state["value"])
        self.normalizer.statistics.load_state_dict(state["normalizer"])
        self.scaled_actions = bool(state.get("scaled_actions", False))  # added later


def copy_to_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def make_agent(config: PPOConfig, observation_dim: int, action_dim: int) -> Agent:
    """Return an untrained agent with random weights, on the CPU."""
    hidden_sizes = config.hidden_sizes
    orthogonal = config.orthogonal_initialization  # detail 5
    policy = PolicyNetwork(
        observation_dim,
        action_dim,
        hidden_sizes,
        config.initial_log_std,
        orthogonal,
    )
    value = ValueNetwork(observation_dim, hidden_sizes, orthogonal)
    normalizer = ObservationNormalizer(observation_dim, config.normalize_observations)  # detail 2
    return Agent(policy, value, normalizer)


@dataclass(frozen=True)
class TrainedAgent:
    """An agent with its training configuration and the bounds of its actions, (A,) each."""

    agent: Agent
    config: PPOConfig
    low: Tensor
    high: Tensor

    def policy(self) -> Policy:
        """Return the deterministic policy: the mean action, within the bounds."""

        @torch.inference_mode()
        def act(observations: NDArray) -> NDArray:
            inputs = torch.as_tensor(np.ascontiguousarray(observations))  # (N, O)
            normalized = self.agent.normalizer(inputs)  # (N, O)
            mean = self.agent.policy.mean(normalized)  # (N, O) -> (N, A)
            return self.agent.environment_actions(mean, self.low, self.high).numpy()

        return act


def save_agent(path: Path, trained: TrainedAgent) -> None:
    """Write the agent, its action bounds, and its configuration as plain data."""
    state = {
        "config": config_to_file(trained.config),
        "observation_dim": trained.agent.normalizer.statistics.mean.shape[0],
        "low": trained.low,
        "high": trained.high,
        "agent": trained.agent.state_dict(),
    }
    save_checkpoint(path, KIND, state)


def load_agent(path: Path) -> TrainedAgent:
    """Load an agent that `save_agent` wrote.

    Raises OSError (no such file) or UserError (damaged, or another kind of file), naming the file.
    """
    state = load_checkpoint(path, KIND)
    try:
        config = config_from_file(state["config"])
        agent = make_agent(config, state["observation_dim"], len(state["low"]))
        agent.load_state_dict(state["agent"])
        low, high = state["low"], state["high"]
        check_like(high, low, "high")
        if not (low <= high).all() or not all(each.isfinite().all() for each in agent.parameters()):
            raise ValueError("bounds that are none, or weights that are not finite")
        return TrainedAgent(agent, config, low, high)
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[-1].strip()  # PyTorch's last line names a parameter
        raise UserError(f"{path}: its parts do not fit together ({reason})") from None


def load_policy(path: str | Path) -> Policy:
    """Load a model file and return its deterministic policy.

    The policy maps observations (N, O) to actions (N, A) within their bounds, both NumPy arrays.
    """
    return load_agent(Path(path)).policy()
