"""Training a DistilBERT classifier, from labels or from a teacher's outputs.

`train` is a generator: it yields one record every few steps, and whoever iterates over it decides
what to print, plot and save. Every random number (shuffling, dropout, masked tokens) follows from
the seed, the step and the rank, so a resumed run is bit-exact and a checkpoint needs no
generator state.

Shapes: N texts, B batch (of this process), T time (positions), E embedding, C classes.

Sources: distillation: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"; matching
the teacher's hidden state: Sanh et al. 2019, "DistilBERT", and Jiao et al. 2020, "TinyBERT"; masked
words: Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural
Networks"; discriminative learning rates: Howard and Ruder 2018, "Universal Language Model
Fine-tuning for Text Classification", section 3.2, per block as in Clark et al. 2020, "ELECTRA";
averaged weights: Polyak and Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging",
as an exponential moving average like that of Tarvainen and Valpola 2017, "Mean teachers are better
role models".
"""

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lab.distributed import rank, sum_over_ranks, world_size
from lab.errors import UserError, require_at_least
from lab.training import restoring_state
from models.batching import pad_right
from models.distilbert import DistilBertClassifier
from optimization import OptimizerConfig, OptimizerGroup, Precision
from sentiment.metrics import Metrics, compute_metrics, logits_of
from speed.training import matmul_precision, training_copy

BUCKET = 50  # batches whose texts are sorted by length together
SEED_STRIDE = 1_000_003  # keeps the generator seeds of different runs apart


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the training loop, all of them set; `options.py` explains each next to its flag.

    Raises UserError, naming the flag, for invalid values.
    """

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup: float = 0.1  # fraction of all steps; no flag
    weight_decay: float = 0.01
    layer_decay: float = 1.0
    average_over: int = 1
    label_smoothing: float = 0.0
    temperature: float = 1.0
    summary_weight: float = 0.0
    word_dropout: float = 0.0
    report_every: int = 20  # steps per record; no flag
    precision: Precision = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, self, "epochs", "batch_size", "average_over", "report_every")
        require_at_least(0, self, "learning_rate", "warmup", "weight_decay", "summary_weight")
        if not self.temperature > 0:
            raise UserError(f"--temperature is {self.temperature}; it must be above 0")
        if not 0 < self.layer_decay <= 1:
            value = self.layer_decay
            raise UserError(f"--layer_decay is {value}; it must be above 0 and at most 1")
        for name in ("warmup", "label_smoothing", "word_dropout"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UserError(f"--{name} is {value}; it must be at least 0 and below 1")


class Targets(NamedTuple):
    """Class probabilities (N, C) to learn and, with a teacher, its pooled outputs (N, E)."""

    probs: Tensor
    pooled: Tensor | None = None


class EncodedTexts(NamedTuple):
    """Token ids of N texts and their labels (N,)."""

    ids: list[list[int]]
    labels: Tensor


class StepRecord(NamedTuple):
    """Means over the steps since the last record; `metrics` (validation set) only after an epoch.

    `texts` is the size of the training set.
    """

    step: int
    epoch: float
    loss: float
    texts: int
    seconds: float
    texts_per_second: float
    tokens_per_second: float
    learning_rate: float
    metrics: Metrics | None


def smooth_labels(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Return target probabilities (N, C) for labels (N,), `smoothing` of them spread uniformly."""
    one_hot = F.one_hot(labels, num_classes).float()  # (N,) -> (N, C)
    return one_hot * (1 - smoothing) + smoothing / num_classes


def soft_targets(logits: Tensor, temperature: float) -> Tensor:
    """Return probabilities (N, C) of logits (N, C) at a temperature (Hinton et al., eq. 1)."""
    return (logits / temperature).softmax(dim=-1)


def length_bucketed_batches(
    lengths: Sequence[int],
    batch_size: int,
    seed: int,
    epoch: int,
) -> list[list[int]]:
    """Return the batches of an epoch as lists of text indices; each text occurs exactly once.

    Texts are shuffled, then sorted by length within buckets of 50 batches, so that a batch needs
    little padding; the order of the batches is shuffled again.
    """
    generator = torch.Generator().manual_seed((seed * SEED_STRIDE + epoch) % 2**63)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    bucket_size = BUCKET * batch_size
    batches = []
    for start in range(0, len(order), bucket_size):
        bucket = sorted(order[start : start + bucket_size], key=lengths.__getitem__)
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    batch_order = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[i] for i in batch_order]


def layerwise_lr_scales(model: DistilBertClassifier, decay: float) -> dict[nn.Parameter, float]:
    """Return each parameter's learning-rate scale: 1 in the head, times `decay` per block below it.

    The embeddings, below all blocks, get the smallest.
    """
    head = nn.ModuleList([model.pre_classifier, model.classifier])
    embeddings = nn.ModuleList([model.word_embeddings, model.position_embeddings, model.norm])
    from_top_to_bottom = [head, *reversed(model.blocks), embeddings]
    scales = {}
    for depth, module in enumerate(from_top_to_bottom):
        for parameter in module.parameters():
            scales[parameter] = decay**depth
    return scales


class Trainer:
    """A classifier in training: its weights, their average, the optimizer, the best weights so far.

    Args:
        model: the classifier, already on the device to train on.
        ids: token ids of the N training texts.
        targets: their targets.
        mask_id: the token that replaces masked words.
        config: the settings.
    """

    def __init__(
        self,
        model: DistilBertClassifier,
        ids: list[list[int]],
        targets: Targets,
        mask_id: int,
        config: TrainingConfig,
    ) -> None:
        self.model = model
        self.fast_model = training_copy(model)  # trains the same parameters
        self.ids = ids
        self.targets = targets
        self.mask_id = mask_id
        self.config = config
        self.device = model.word_embeddings.weight.device
        self.steps_per_epoch = math.ceil(len(ids) / config.batch_size)
        self.num_steps = config.epochs * self.steps_per_epoch
        settings = OptimizerConfig(
            optimizer="adamw",
            num_steps=self.num_steps,
            learning_rate=config.learning_rate,
            warmup_steps=int(config.warmup * self.num_steps),
            weight_decay=config.weight_decay,
            beta2=0.999,
        )
        lr_scales = layerwise_lr_scales(model, config.layer_decay)
        self.optimizer = OptimizerGroup(model, settings, lr_scales)
        self.averaged_model = AveragedModel(model, multi_avg_fn=self.update_average)
        self.best_score = (-1.0, -math.inf)  # accuracy, negative loss
        self.best_weights: dict[str, Tensor] = {}

    @property
    def step(self) -> int:
        """Number of optimizer steps done."""
        return self.optimizer.steps_done

    @torch.no_grad()
    def update_average(self, averaged: Any, current: Any, num_averaged: Any) -> None:
        """Update the averaged weights in place: a plain mean at first, then a moving average."""
        window = min(int(num_averaged) + 1, self.config.average_over)
        decay = 1 - 1 / window
        get_ema_multi_avg_fn(decay)(averaged, current, num_averaged)

    def should_log(self, step: int) -> bool:
        """Return True if a record follows this step."""
        return step % self.steps_per_epoch == 0 or step % self.config.report_every == 0

    def records_left(self) -> int:
        """Return the number of records still to come."""
        return sum(map(self.should_log, range(self.step + 1, self.num_steps + 1)))

    def mask_words(self, input_ids: Tensor) -> Tensor:
        """Replace random tokens of input_ids (B, T) by [MASK], so that no single word decides."""
        if not self.config.word_dropout:
            return input_ids
        draws = torch.rand(input_ids.shape, device=self.device)  # (B, T)
        masked = draws < self.config.word_dropout  # (B, T)
        masked[:, 0] = False  # [CLS], where the classifier reads
        return input_ids.masked_fill(masked, self.mask_id)

    def loss(self, rows: list[int], batch_size: int) -> Tensor:
        """Return the summed loss of the texts `rows`, divided by `batch_size`, which counts the
        texts of all processes.
        """
        texts = [self.ids[i] for i in rows]
        input_ids, attention_mask = pad_right(texts, self.device)  # (B, T) each
        input_ids = self.mask_words(input_ids)
        with matmul_precision(self.device, self.config.precision):
            embeddings = self.fast_model.embed(input_ids)  # (B, T) -> (B, T, E)
            pooled = self.fast_model.pooled_output(embeddings, attention_mask)  # (B, T, E) -> (B, E)
            logits = self.fast_model.classification_head(pooled).float()  # (B, E) -> (B, C)
        target_probs = self.targets.probs[rows].to(self.device)  # (B, C)
        # Hinton et al., section 2: gradients of soft targets scale as 1 / T^2; T^2 compensates.
        temperature = self.config.temperature
        cross_entropy = F.cross_entropy(logits / temperature, target_probs, reduction="sum")
        loss = temperature**2 * cross_entropy
        if self.config.summary_weight and self.targets.pooled is not None:
            teacher_pooled = self.targets.pooled[rows].to(self.device, torch.float32)  # (B, E)
            student_pooled = pooled.float()  # (B, E)
            squared_error = F.mse_loss(student_pooled, teacher_pooled, reduction="none")  # (B, E)
            distance = squared_error.mean(dim=-1)  # (B, E) -> (B,)
            loss = loss + self.config.summary_weight * distance.sum()
        return loss / batch_size

    def train_step(self, batch: list[int]) -> float:
        """Take an optimizer step on the texts `batch`, split over the processes; return the loss."""
        seed = (self.config.seed * SEED_STRIDE + self.step) * world_size() + rank()
        torch.manual_seed(seed % 2**63)
        self.fast_model.train()
        rows = batch[rank() :: world_size()]  # the texts of this process
        loss = torch.zeros((), device=self.device)
        if rows:
            loss = self.loss(rows, len(batch))
            # The optimizer averages gradients over processes; the factor makes that mean a sum.
            (loss * world_size()).backward()
        else:  # the last batch may have fewer texts than there are processes
            for parameter in self.model.parameters():
                parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.averaged_model.update_parameters(self.model)
        return float(sum_over_ranks(loss.detach()))

    def validate(self, validation: EncodedTexts) -> Metrics:
        """Evaluate the averaged weights on the validation set; keep them if they are the best yet.

        The best have the highest accuracy and, among equals, the lowest loss.
        """
        model: Any = self.averaged_model.module
        metrics = compute_metrics(logits_of(model, validation.ids), validation.labels)
        score = (metrics.accuracy, -metrics.loss)
        if score > self.best_score:
            self.best_score = score
            self.best_weights = copy.deepcopy(model.state_dict())
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a bit-exact resume needs."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged_model.state_dict(),
            "optimization": self.optimizer.state_dict(),
            "best_score": list(self.best_score),
            "best": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a `state_dict`."""
        with restoring_state():
            accuracy, negative_loss = state["best_score"]
            self.best_score = (accuracy, negative_loss)
            self.best_weights = state["best"]
            if self.best_weights or accuracy >= 0:  # after an epoch: check that they fit
                self.model.load_state_dict(self.best_weights)
            self.model.load_state_dict(state["model"])
            self.averaged_model.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimization"])


def train(trainer: Trainer, validation: EncodedTexts) -> Iterator[StepRecord]:
    """Train to the end, yielding a record every `report_every` steps and after each epoch.

    Starts at the trainer's current step. Raises UserError if the loss is no longer finite.
    """
    config = trainer.config
    lengths = [len(ids) for ids in trainer.ids]
    losses: list[float] = []
    texts = tokens = 0
    started = time.perf_counter()
    first_epoch = trainer.step // trainer.steps_per_epoch
    for epoch in range(first_epoch, config.epochs):
        batches = length_bucketed_batches(lengths, config.batch_size, config.seed, epoch)
        batches_done = trainer.step - epoch * trainer.steps_per_epoch  # not 0 after a resume
        for batch in batches[batches_done:]:
            learning_rate = trainer.optimizer.learning_rate
            losses.append(trainer.train_step(batch))
            if not math.isfinite(losses[-1]):
                raise UserError(
                    f"training diverged in step {trainer.step}; try a smaller --learning_rate",
                )
            texts += len(batch)
            tokens += sum(lengths[i] for i in batch)
            if not trainer.should_log(trainer.step):
                continue
            seconds = max(time.perf_counter() - started, 1e-9)  # without the validation
            epoch_ended = trainer.step % trainer.steps_per_epoch == 0
            yield StepRecord(
                step=trainer.step,
                epoch=trainer.step / trainer.steps_per_epoch,
                loss=sum(losses) / len(losses),
                texts=len(lengths),
                seconds=seconds,
                texts_per_second=texts / seconds,
                tokens_per_second=tokens / seconds,
                learning_rate=learning_rate,
                metrics=trainer.validate(validation) if epoch_ended else None,
            )
            losses, texts, tokens = [], 0, 0
            started = time.perf_counter()
