"""Training DistilBERT to classify: from labels, or from what a teacher says of the same texts.

`train` is a generator: one record every few steps, and whoever watches decides what to show, draw and save. All
chance (order, dropout, masked words) is drawn anew from the seed, the step and the rank, so a run that is resumed goes
on to the same bits, and a checkpoint needs no state of any generator.

Shapes: N texts, B batch (of this process), T time (positions), E embedding, C classes.

Sources: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"; for the summaries that a student copies as
well: Sanh et al. 2019, "DistilBERT", and Jiao et al. 2020, "TinyBERT"; masked words: Tang et al. 2019, "Distilling
Task-Specific Knowledge from BERT into Simple Neural Networks"; learning rates that fall with the depth: Howard and
Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", section 3.2, by the block as in Clark et al.
2020, "ELECTRA"; averaged weights: Polyak and Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging",
with the memory of Tarvainen and Valpola 2017, "Mean teachers are better role models".
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
from models.batching import pad_right
from models.distilbert import DistilBertClassifier
from optimization import OptimizerConfig, OptimizerGroup, Precision
from sentiment.metrics import Measures, logits_of, measure
from speed.training import matmul_precision, training_copy

WINDOW = 50  # batches whose texts are sorted by length together


@dataclass(frozen=True)
class TrainingConfig:
    """How a classifier is trained. Raises UserError, naming the flag, for values that make no sense."""

    epochs: int = 3
    """Passes over the training texts."""
    batch_size: int = 32
    """Texts a step, of all processes together."""
    learning_rate: float = 5e-5
    """Learning rate at its highest."""
    warmup: float = 0.1
    """Share of the steps in which it rises."""
    weight_decay: float = 0.01
    """Share of a matrix that is taken off a step, times the learning rate."""
    layer_decay: float = 1.0
    """What the learning rate is multiplied by for every block further down, so that what lies deepest moves least."""
    average_over: int = 1
    """Steps whose weights are averaged in those that are measured and kept; 1 for the last alone."""
    label_smoothing: float = 0.0
    """Share of certainty that labels give to the other class."""
    temperature: float = 1.0
    """What a student's and its teacher's logits are divided by before they are compared."""
    summary_weight: float = 0.0
    """Weight of the distance between the student's summary of a text and its teacher's."""
    word_dropout: float = 0.0
    """Share of the tokens that are replaced by [MASK], so that no single word decides."""
    report_every: int = 20
    """Steps between two records."""
    precision: Precision = "float32"
    """Type in which matrix products are computed."""
    seed: int = 0
    """Seed of the order, the dropout and the masked words."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "epochs", "batch_size", "average_over", "report_every")
        require_at_least(0, self, "learning_rate", "warmup", "weight_decay", "summary_weight")
        if not self.temperature > 0:
            raise UserError(f"--temperature is {self.temperature}; it must be above 0")
        if not 0 < self.layer_decay <= 1:
            raise UserError(f"--layer_decay is {self.layer_decay}; it must be above 0 and at most 1")
        for name in ("warmup", "label_smoothing", "word_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 0 and below 1")


class Targets(NamedTuple):
    """What the texts should give: probabilities (N, C), and the teacher's summaries (N, E) where there is one."""

    probabilities: Tensor
    summaries: Tensor | None = None


class Texts(NamedTuple):
    """Tokenized texts and their labels (N,)."""

    ids: list[list[int]]
    labels: Tensor


class StepRecord(NamedTuple):
    """What the last steps gave, `texts` of a pass in all; `measures` on what selects where a pass has ended."""

    step: int
    epoch: float
    loss: float
    texts: int
    seconds: float
    texts_per_second: float
    tokens_per_second: float
    learning_rate: float
    measures: Measures | None


def smoothed(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """labels (N,) -> probabilities (N, C) that leave `smoothing` to be shared by all classes."""
    return F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes  # (N,) -> (N, C)


def softened(logits: Tensor, temperature: float) -> Tensor:
    """A teacher's logits (N, C) -> probabilities (N, C) at that temperature (Hinton et al., eq. 1)."""
    return (logits / temperature).softmax(dim=-1)


def batches_of_epoch(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Numbers of all texts, each once, in batches whose texts are of like length; another order every epoch."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    window = WINDOW * batch_size
    batches = []
    for start in range(0, len(order), window):
        chosen = sorted(order[start : start + window], key=lengths.__getitem__)
        batches += [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def shares_by_depth(model: DistilBertClassifier, decay: float) -> dict[nn.Parameter, float]:
    """The share of the learning rate of every parameter: 1 in the head, `decay` in the last block, and so on down."""
    head = [model.pre_classifier, model.classifier]
    embeddings = [model.word_embeddings, model.position_embeddings, model.norm]
    parts = [nn.ModuleList(head), *reversed(model.blocks), nn.ModuleList(embeddings)]
    return {parameter: decay**depth for depth, part in enumerate(parts) for parameter in part.parameters()}


class Learner:
    """A classifier that is being trained: its weights, their average, its optimizer, the best average so far.

    Args:
        model: the classifier, on the device where it is to be trained.
        ids: the N training texts, tokenized. targets: what they should give.
        mask_id: the token that takes the place of a dropped word.
    """

    def __init__(
        self, model: DistilBertClassifier, ids: list[list[int]], targets: Targets, mask_id: int, config: TrainingConfig
    ) -> None:
        self.model, self.ids, self.targets, self.mask_id, self.config = model, ids, targets, mask_id, config
        self.fast_model = training_copy(model)  # the same parameters
        self.device = model.word_embeddings.weight.device
        self.steps_per_epoch = -(-len(ids) // config.batch_size)
        self.num_steps = config.epochs * self.steps_per_epoch
        settings = OptimizerConfig(
            num_steps=self.num_steps,
            learning_rate=config.learning_rate,
            warmup_steps=int(config.warmup * self.num_steps),
            weight_decay=config.weight_decay,
            beta2=0.999,
        )
        self.optimization = OptimizerGroup(model, settings, shares_by_depth(model, config.layer_decay))
        self.averaged = AveragedModel(model, multi_avg_fn=self.move_average)
        self.best_score = (-1.0, -math.inf)
        self.best: dict[str, Tensor] = {}

    @property
    def step(self) -> int:
        """Steps done."""
        return self.optimization.steps_done

    @torch.no_grad()
    def move_average(self, averaged: Any, weights: Any, count: Any) -> None:
        """Take `weights` into the average of the `count` before, or of as many as it remembers."""
        decay = 1 - 1 / min(int(count) + 1, self.config.average_over)
        get_ema_multi_avg_fn(decay)(averaged, weights, count)

    def reports(self, step: int) -> bool:
        """Whether there is a record after this step."""
        return step % self.steps_per_epoch == 0 or step % self.config.report_every == 0

    def records_left(self) -> int:
        """How many records are to come."""
        return sum(map(self.reports, range(self.step + 1, self.num_steps + 1)))

    def loss(self, rows: list[int], batch: int) -> Tensor:
        """The loss of the texts `rows`, summed and divided by `batch`, the number of texts of all processes."""
        input_ids, attention_mask = pad_right([self.ids[i] for i in rows], self.device)  # (B, T), (B, T)
        if self.config.word_dropout:
            dropped = torch.rand(input_ids.shape, device=self.device) < self.config.word_dropout  # (B, T)
            dropped[:, 0] = False  # [CLS], where the decision is read
            input_ids = input_ids.masked_fill(dropped, self.mask_id)
        with matmul_precision(self.device, self.config.precision):
            embedded = self.fast_model.embed(input_ids)  # (B, T, E)
            summary = self.fast_model.pooled_output(embedded, attention_mask)  # (B, E)
            logits = self.fast_model.classification_head(summary).float()  # (B, C)
        wanted = self.targets.probabilities[rows].to(self.device)  # (B, C)
        heat = self.config.temperature
        # Hinton et al., section 2: gradients of soft targets shrink as 1 / T^2, so they are multiplied by T^2.
        total = heat**2 * F.cross_entropy(logits / heat, wanted, reduction="sum")
        if self.config.summary_weight and self.targets.summaries is not None:
            theirs = self.targets.summaries[rows].to(self.device, torch.float32)  # (B, E)
            distance = F.mse_loss(summary.float(), theirs, reduction="none").mean(dim=-1)  # (B,)
            total = total + self.config.summary_weight * distance.sum()
        return total / batch

    def advance(self, batch: list[int]) -> float:
        """One step on the texts `batch`, this process's share of them; gives the loss over all processes."""
        torch.manual_seed((self.config.seed * 1_000_003 + self.step) * world_size() + rank())
        self.fast_model.train()
        rows = batch[rank() :: world_size()]
        loss = torch.zeros((), device=self.device)
        if rows:
            loss = self.loss(rows, len(batch))
            (loss * world_size()).backward()  # the mean over processes of these is the gradient of the whole batch
        else:  # a last batch with fewer texts than processes
            for parameter in self.model.parameters():
                parameter.grad = torch.zeros_like(parameter)
        self.optimization.step()
        self.averaged.update_parameters(self.model)
        return float(sum_over_ranks(loss.detach()))

    def select(self, dev: Texts) -> Measures:
        """Measure the average on `dev`, and keep it where none was more often right (or as often, and surer)."""
        model: Any = self.averaged.module
        found = measure(logits_of(model, dev.ids), dev.labels)
        score = (found.accuracy, -found.loss)
        if score > self.best_score:
            self.best_score, self.best = score, copy.deepcopy(model.state_dict())
        return found

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on to the same bits."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimization": self.optimization.state_dict(),
            "best_score": list(self.best_score),
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimization.load_state_dict(state["optimization"])
        accuracy, loss = state["best_score"]
        self.best_score, self.best = (accuracy, loss), state["best"]


def train(learner: Learner, dev: Texts) -> Iterator[StepRecord]:
    """Train to the end from where the learner stands; a record every `report_every` steps and after every pass.

    Raises UserError where the loss is no longer a number.
    """
    config, lengths = learner.config, [len(ids) for ids in learner.ids]
    losses, texts, tokens, started = [], 0, 0, time.perf_counter()
    for epoch in range(learner.step // learner.steps_per_epoch, config.epochs):
        batches = batches_of_epoch(lengths, config.batch_size, config.seed, epoch)
        for batch in batches[learner.step - epoch * learner.steps_per_epoch :]:
            rate = learner.optimization.learning_rate
            losses.append(learner.advance(batch))
            if not math.isfinite(losses[-1]):
                raise UserError(f"training diverged in step {learner.step}; try a smaller --learning_rate")
            texts, tokens = texts + len(batch), tokens + sum(lengths[i] for i in batch)
            if learner.reports(learner.step):
                ended = learner.step % learner.steps_per_epoch == 0
                seconds = max(time.perf_counter() - started, 1e-9)
                measures = learner.select(dev) if ended else None
                passed, loss = learner.step / learner.steps_per_epoch, sum(losses) / len(losses)
                speeds = (texts / seconds, tokens / seconds)
                yield StepRecord(learner.step, passed, loss, len(lengths), seconds, *speeds, rate, measures)
                losses, texts, tokens, started = [], 0, 0, time.perf_counter()
