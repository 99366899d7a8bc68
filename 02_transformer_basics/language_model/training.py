"""Training a GPT-2 from random weights: `train(config, model, ids, ...)` is the whole of it, one record a step.

Shapes: B batch, T time (positions of a window), V vocabulary, N tokens of the whole text.

Sources: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3, for the first weights;
`optimization.py` has those of how they are moved.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.devices import pick_device
from lab.distributed import gather, rank, sum_over_ranks, world_size
from lab.errors import UserError, require_at_least
from lab.seeding import check_seed, random_state, restore_random_state
from language_model.data import NO_TARGET, Windows
from models.gpt2 import GPT2, GPT2Config
from optimization import OptimizerConfig, OptimizerGroup, Precision
from speed.onednn import use_onednn_linear
from speed.training import matmul_precision, training_copy

Activation = Literal["gelu", "gelu_new", "relu"]  # by the names of config.json; "gelu_new" is what GPT-2 has
STANDARD_DEVIATION = 0.02  # of the first weights
TOKENS_PER_EVALUATION = 4096


@dataclass(frozen=True)
class LanguageConfig:
    """Everything, beside the text, that decides a training run."""

    embed_dim: int = 128
    num_layers: int = 4
    num_heads: int = 4
    context: int = 96
    dropout: float = 0.0
    activation: Activation = "gelu"
    batch_size: int = 20
    num_steps: int = 1120
    optimizer: Literal["adamw", "muon"] = "muon"
    learning_rate: float = 1.2e-2
    warmup_steps: int = 50
    min_lr_ratio: float = 0.0
    weight_decay: float = 0.1
    beta2: float = 0.99
    max_grad_norm: float = 1.0
    precision: Precision = "float32"
    evaluate_every: int = 280
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        require_at_least(1, self, "embed_dim", "num_layers", "num_heads", "context", "batch_size", "evaluate_every")
        if self.embed_dim % self.num_heads:
            raise UserError(f"--embed_dim is {self.embed_dim}; it must be a multiple of --num_heads, {self.num_heads}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"--dropout is {self.dropout}; it must be at least 0 and below 1")
        self.optimization()

    def optimization(self) -> OptimizerConfig:
        """The part of it that is about moving weights."""
        names = {each.name for each in fields(OptimizerConfig)} & {each.name for each in fields(self)}
        return OptimizerConfig(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class StepRecord:
    """What one optimizer step gave. `model` and `snapshot()`, all that resuming needs, change with the next."""

    step: int  # from 1
    loss: float  # nats a token, before the step
    learning_rate: float
    tokens: int  # read so far, by all processes
    validation_loss: float | None  # nats a token, after the step, at intervals and at the end
    model: GPT2 = field(repr=False)
    snapshot: Callable[[], dict[str, Any]] = field(repr=False)


def new_model(config: LanguageConfig, vocab_size: int) -> GPT2:
    """A GPT-2 of the configured size with random weights, on the CPU.

    All start small, so that the first guess is that every token is as likely as any other; those that add to the
    residuals start smaller, or the sum over 2 L of them would grow with the depth (section 2.3).
    """
    sizes = (vocab_size, config.context, config.embed_dim, config.num_layers, config.num_heads)
    rates = dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), config.dropout)
    model = GPT2(GPT2Config(*sizes, activation_function=config.activation, **rates))  # pyright: ignore[reportArgumentType]
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            adds = name.endswith(("attention.output.weight", "ff_out.weight"))
            nn.init.normal_(parameter, std=STANDARD_DEVIATION / (math.sqrt(2 * config.num_layers) if adds else 1))
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return model


def summed_loss(model: GPT2, inputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over all targets that count: inputs and targets (B, T) -> a scalar."""
    logits = model(inputs).float().flatten(0, 1)  # (B, T) -> (B, T, V) -> (B T, V)
    return F.cross_entropy(logits, targets.flatten(), ignore_index=NO_TARGET, reduction="sum")


@torch.no_grad()
def total_loss(model: GPT2, ids: Tensor, context: int) -> float:
    """Nats that the model needs for ids (N,) but the first, in windows that do not overlap; each token counts once."""
    training, device = model.training, model.norm.weight.device
    model.eval()
    inputs, targets = ids[:-1], ids[1:]
    whole, length = len(inputs) // context * context, context * max(TOKENS_PER_EVALUATION // context, 1)
    nats = 0.0
    with use_onednn_linear():
        for start in range(0, whole, length):
            batch = slice(start, min(start + length, whole))
            windows = (part[batch].view(-1, context).to(device) for part in (inputs, targets))  # -> (B, T)
            nats += summed_loss(model, *windows).item()
        if whole < len(inputs):
            rest = (part[None, whole:].to(device) for part in (inputs, targets))  # (rest,) -> (1, rest)
            nats += summed_loss(model, *rest).item()
    model.train(training)
    return nats


class Learner:
    """One process's share of a training run: its copy of the model, its windows, and how far it has come."""

    def __init__(self, config: LanguageConfig, model: GPT2, ids: Tensor, validation_ids: Tensor, device: str) -> None:
        self.config, self.validation_ids = config, validation_ids
        self.device = pick_device(device)
        self.model = model.to(self.device)
        self.fast_model = training_copy(self.model).train()  # the same parameters
        self.windows = Windows(ids, config.context, config.batch_size, config.seed)
        self.optimization = OptimizerGroup(self.model, config.optimization())
        self.text = hashlib.sha256(ids.numpy().tobytes()).hexdigest()
        torch.manual_seed(config.seed + 1_000_003 * rank())  # dropout of its own in each process

    def iterate(self) -> StepRecord:
        """One step along the gradient of a batch."""
        config, learning_rate = self.config, self.optimization.learning_rate
        inputs, targets = (part.to(self.device) for part in self.windows.next())
        with matmul_precision(self.device, config.precision):
            loss = summed_loss(self.fast_model, inputs, targets)
        (loss / targets.numel()).backward()  # not by the targets that count: processes would weigh theirs differently
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            self.optimization.step()  # Muon's products in 16 bits too, as Jordan et al. compute them
        total, count = sum_over_ranks(torch.stack([loss.detach(), (targets != NO_TARGET).sum()])).tolist()
        step = self.optimization.steps_done
        if not math.isfinite(total):
            raise UserError(f"training diverged at step {step}; try a smaller --learning_rate")
        measures = step % config.evaluate_every == 0 or step == config.num_steps
        return StepRecord(
            step=step,
            loss=total / count,
            learning_rate=learning_rate,
            tokens=step * config.batch_size * config.context,
            validation_loss=self.validation_loss() if measures else None,
            model=self.model,
            snapshot=self.state_dict,
        )

    def validation_loss(self) -> float:
        """Nats a token on the text that is not trained on."""
        return total_loss(self.fast_model, self.validation_ids, self.config.context) / (len(self.validation_ids) - 1)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a run needs to go on to the same bits. All processes must call it together."""
        return {
            "text": self.text,
            "model": {name: tensor.cpu().clone() for name, tensor in self.model.state_dict().items()},
            "optimization": self.optimization.state_dict(),
            "windows": self.windows.state_dict(),
            "random": gather(random_state()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`. Raises UserError for another text and for another number of processes."""
        if state["text"] != self.text:
            raise UserError("--data: not the text that the run in the output folder was started with")
        if len(state["random"]) != world_size():
            raise UserError(f"saved by {len(state['random'])} processes, resumed by {world_size()}; start as many")
        self.model.load_state_dict(state["model"])
        self.optimization.load_state_dict(state["optimization"])
        self.windows.load_state_dict(state["windows"])
        restore_random_state(state["random"][rank()])


def train(
    config: LanguageConfig,
    model: GPT2,
    ids: Tensor,
    validation_ids: Tensor,
    state: dict[str, Any] | None = None,
    device: str = "cpu",
) -> Iterator[StepRecord]:
    """Train `model` in place; yields one record a step. The same configuration and model give the same run.

    Args:
        ids, validation_ids: of the texts to train on and to measure on, (N,) each.
        state: a record's `snapshot()`, to go on from there.

    Raises UserError for a text shorter than a window, and when the training diverges.
    """
    learner = Learner(config, model, ids, validation_ids, device)
    if state is not None:
        learner.load_state_dict(state)
    while learner.optimization.steps_done < config.num_steps:
        yield learner.iterate()
