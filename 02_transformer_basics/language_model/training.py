"""Train a GPT-2 from random weights: `train(config, model, ids, ...)` yields one record per optimizer step.

Shapes: B batch, T time (positions of a window), V vocabulary, N tokens of the whole text.

Source of the initialization: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3.
The optimizer's sources are in `optimization.py`.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.devices import pick_device
from lab.distributed import gather, rank, sum_over_ranks, world_size
from lab.errors import UserError, require_at_least
from lab.seeding import check_seed, random_state, restore_random_state
from lab.training import restoring_state
from language_model.data import IGNORE_INDEX, Windows
from models.gpt2 import GPT2, GPT2Config
from optimization import OptimizerConfig, OptimizerGroup, Precision
from speed.onednn import use_onednn_linear
from speed.training import matmul_precision, training_copy

Activation = Literal["gelu", "gelu_new", "relu"]  # named as in config.json; GPT-2 has "gelu_new"
INIT_STD = 0.02
TOKENS_PER_EVALUATION_BATCH = 4096


@dataclass(frozen=True)
class LanguageConfig(OptimizerConfig):
    """Settings that, with the text, determine a training run. Raises UserError, naming the flag, for bad values."""

    optimizer: Literal["adamw", "muon"] = "muon"
    num_steps: int = 1120
    learning_rate: float = 1.2e-2
    precision: Precision = "float32"
    """float32, or bfloat16 autocast for the matrix products of training."""
    batch_size: int = 20
    """Windows per step, of all processes together."""
    context: int = 96
    """Context length: tokens per window."""
    embed_dim: int = 128
    """Embedding width."""
    num_layers: int = 4
    """Transformer blocks."""
    num_heads: int = 4
    """Attention heads per block."""
    dropout: float = 0.0
    """Dropout probability during training."""
    activation: Activation = "gelu"
    """Activation function. `gelu_new`, GPT-2's tanh approximation of GELU, takes three times as long on a CPU."""
    evaluate_every: int = 280
    """Steps between evaluations on the validation text, each with a sample."""
    seed: int = 0
    """Seed of the initial weights, the order of the windows and dropout."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed(self.seed)
        require_at_least(1, self, "embed_dim", "num_layers", "num_heads", "context", "batch_size", "evaluate_every")
        if self.embed_dim % self.num_heads:
            raise UserError(f"--embed_dim is {self.embed_dim}; it must be a multiple of --num_heads, {self.num_heads}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"--dropout is {self.dropout}; it must be at least 0 and below 1")


@dataclass(frozen=True)
class StepRecord:
    """Results of one optimizer step. `model` and `snapshot()`, the state to resume from, change with the next step."""

    step: int  # from 1
    loss: float  # nats per token, of the batch, before the step
    learning_rate: float
    tokens: int  # read so far, by all processes
    validation_loss: float | None  # nats per token, after the step; None between evaluations
    model: GPT2 = field(repr=False)
    snapshot: Callable[[], dict[str, Any]] = field(repr=False)


def new_model(config: LanguageConfig, vocab_size: int) -> GPT2:
    """Return a GPT-2 of the configured size with random weights, on the CPU.

    Small weights make the first predictions nearly uniform. The projections that add to the residual stream start
    smaller by sqrt(2 L), because the stream is the sum of 2 L of them, two per block (section 2.3).
    """
    gpt2_config = GPT2Config(
        vocab_size,
        config.context,
        config.embed_dim,
        config.num_layers,
        config.num_heads,
        activation_function=config.activation,
        embd_pdrop=config.dropout,
        attn_pdrop=config.dropout,
        resid_pdrop=config.dropout,
    )
    model = GPT2(gpt2_config)
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            is_residual_projection = name.endswith(("attention.output.weight", "ff_out.weight"))
            scale = 1 / math.sqrt(2 * config.num_layers) if is_residual_projection else 1.0
            nn.init.normal_(parameter, std=INIT_STD * scale)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return model


def summed_loss(model: GPT2, inputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over all targets but IGNORE_INDEX: inputs and targets (B, T) -> a scalar."""
    logits = model(inputs).float().flatten(0, 1)  # (B, T) -> (B, T, V) -> (B T, V)
    return F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")


@torch.no_grad()
def evaluate_nll(model: GPT2, ids: Tensor, context: int) -> float:
    """Return the negative log-likelihood in nats, summed over all of ids (N,) but the first.

    The ids are read in windows that do not overlap, so each token is predicted once, from the tokens before it in its
    window.
    """
    was_training = model.training
    device = next(model.parameters()).device
    model.eval()
    num_targets = len(ids) - 1
    whole = num_targets // context * context  # tokens in full windows
    length = context * max(TOKENS_PER_EVALUATION_BATCH // context, 1)  # tokens per batch
    nats = 0.0
    with use_onednn_linear():
        for start in range(0, whole, length):
            end = min(start + length, whole)
            batch = ids[start : end + 1].to(device, torch.long)  # (B T + 1,)
            inputs = batch[:-1].view(-1, context)  # -> (B, T)
            targets = batch[1:].view(-1, context)  # -> (B, T)
            nats += summed_loss(model, inputs, targets).item()
        if whole < num_targets:  # the last window is shorter
            batch = ids[None, whole:].to(device, torch.long)  # (1, rest + 1)
            nats += summed_loss(model, batch[:, :-1], batch[:, 1:]).item()  # (1, rest) each
    model.train(was_training)
    return nats


def hash_of(ids: Tensor) -> str:
    """Return the SHA-256 hash of ids (N,) as 64-bit integers, computed in pieces."""
    digest = hashlib.sha256()
    for piece in ids.split(2**20):
        digest.update(piece.long().numpy().data)
    return digest.hexdigest()


class Trainer:
    """The state of a training run in one process: model, windows and optimizer.

    Args:
        ids, validation_ids: token ids of the training and the validation text, (N,) each.
        device: "auto", "cpu", "cuda" or "mps".
    """

    def __init__(self, config: LanguageConfig, model: GPT2, ids: Tensor, validation_ids: Tensor, device: str) -> None:
        self.config = config
        self.device = pick_device(device)
        self.model = model.to(self.device)
        self.fast_model = training_copy(self.model).train()  # the same parameters
        self.windows = Windows(ids, config.context, config.batch_size, config.seed)
        self.validation_ids = validation_ids
        self.optimizer = OptimizerGroup(self.model, config)
        self.text_hash = hash_of(ids)
        torch.manual_seed((config.seed + 1_000_003 * rank()) % 2**63)  # each process draws different dropout masks

    def train_step(self) -> StepRecord:
        """Take one optimizer step on the next batch. Raises UserError if a loss is not finite."""
        config = self.config
        learning_rate = self.optimizer.learning_rate
        inputs, targets = self.windows.next_batch()  # (B, T), (B, T)
        inputs = inputs.to(self.device)
        targets = targets.to(self.device)

        # Forward pass and loss.
        with matmul_precision(self.device, config.precision):
            loss = summed_loss(self.fast_model, inputs, targets)

        # Backward pass. Divided by B T even if some targets are ignored: all processes must divide by the same number.
        (loss / targets.numel()).backward()

        # Update. Under autocast Muon's products are in bfloat16 too, as Jordan et al. compute them.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            self.optimizer.step()

        # Mean loss over the batches of all processes.
        sums = torch.stack([loss.detach(), (targets != IGNORE_INDEX).sum()])  # (2,)
        total_loss, num_targets = sum_over_ranks(sums).tolist()
        step = self.optimizer.steps_done
        evaluates = step % config.evaluate_every == 0 or step == config.num_steps
        validation_loss = self.validation_loss() if evaluates else None
        if not math.isfinite(total_loss) or not math.isfinite(validation_loss or 0.0):
            raise UserError(f"training diverged at step {step}; try a smaller --learning_rate")
        return StepRecord(
            step=step,
            loss=total_loss / num_targets,
            learning_rate=learning_rate,
            tokens=step * config.batch_size * config.context,
            validation_loss=validation_loss,
            model=self.model,
            snapshot=self.state_dict,
        )

    def validation_loss(self) -> float:
        """Return the cross-entropy on the validation text, in nats per token."""
        nll = evaluate_nll(self.fast_model, self.validation_ids, self.config.context)
        return nll / (len(self.validation_ids) - 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a bit-exact resume needs. All processes must call it together."""
        state = {
            "text": self.text_hash,
            "model": {name: tensor.cpu().clone() for name, tensor in self.model.state_dict().items()},
            "optimization": self.optimizer.state_dict(),
            "windows": self.windows.state_dict(),
            "random": gather(random_state()),
        }
        if self.device.type == "cuda" and torch.cuda.is_initialized():  # where dropout draws its masks
            state["cuda_random"] = gather(torch.cuda.get_rng_state(self.device))
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a `state_dict`. Raises UserError for a different text or number of processes."""
        with restoring_state():
            same_text = state["text"] == self.text_hash
            saved_processes = len(state["random"])
        if not same_text:
            raise UserError("--data: not the text that the run in the output folder was started with")
        if saved_processes != world_size():
            raise UserError(f"saved by {saved_processes} processes, resumed by {world_size()}; start {saved_processes}")
        with restoring_state():
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimization"])
            self.windows.load_state_dict(state["windows"])
            restore_random_state(state["random"][rank()])
            if "cuda_random" in state and self.device.type == "cuda" and torch.cuda.is_initialized():
                torch.cuda.set_rng_state(state["cuda_random"][rank()], self.device)


def train(
    config: LanguageConfig,
    model: GPT2,
    ids: Tensor,
    validation_ids: Tensor,
    state: dict[str, Any] | None = None,
    device: str = "cpu",
) -> Iterator[StepRecord]:
    """Train `model` in place; yield one record per step. The same configuration and model give the same run.

    Args:
        ids, validation_ids: token ids of the training and the validation text, (N,) each.
        state: the `snapshot()` of a record, to resume from.

    Raises UserError for a text shorter than a window, and if the training diverges.
    """
    trainer = Trainer(config, model, ids, validation_ids, device)
    if state is not None:
        trainer.load_state_dict(state)
    while trainer.optimizer.steps_done < config.num_steps:
        yield trainer.train_step()
