"""Right answers to the shape detective in other styles than the lab's: all must pass."""

import copy
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def moved(x: Tensor) -> Tensor:
    return x.movedim(-1, 1)


def permuted(x: Tensor) -> Tensor:
    return x.permute(0, 2, 1).contiguous()


def transposed_one_by_one(x: Tensor) -> Tensor:
    return torch.stack([sequence.t() for sequence in x])


def by_einsum(x: Tensor) -> Tensor:
    return torch.einsum("bte->bet", x)


def weighed_by_diagonal(x: Tensor, weights: Tensor) -> Tensor:
    return torch.diag(weights) @ x


def weighed_by_view(x: Tensor, weights: Tensor) -> Tensor:
    return weights.view(-1, 1) * x


def weighed_by_rows(x: Tensor, weights: Tensor) -> Tensor:
    return torch.stack([row * weight for row, weight in zip(x, weights, strict=True)])


def weighed_transposed(x: Tensor, weights: Tensor) -> Tensor:
    return (x.T * weights).T


def batch_by_cat(examples: Any) -> Tensor:
    return torch.cat([example[None] for example in examples], dim=0)


def batch_by_view(examples: Any) -> Tensor:
    return torch.cat(tuple(examples)).view(len(examples), -1)


def batch_by_numbers(examples: Any) -> Tensor:
    return torch.tensor([example.tolist() for example in examples], dtype=examples[0].dtype)


def batch_by_vstack(examples: Any) -> Tensor:
    return torch.vstack(examples)


def probabilities_by_hand(logits: Tensor) -> Tensor:
    exponentials = logits.exp()
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


def probabilities_by_logs(logits: Tensor) -> Tensor:
    return torch.exp(logits - logits.logsumexp(1, keepdim=True))


def probabilities_by_layer(logits: Tensor) -> Tensor:
    return torch.nn.Softmax(dim=1)(logits)


def probabilities_by_rows(logits: Tensor) -> Tensor:
    return torch.stack([torch.softmax(row, 0) for row in logits])


def error_by_column(predictions: Tensor, targets: Tensor) -> Tensor:
    return (predictions - targets[:, None]).abs().mean()


def error_by_library(predictions: Tensor, targets: Tensor) -> Tensor:
    return F.l1_loss(predictions.flatten(), targets)


def error_by_numbers(predictions: Tensor, targets: Tensor) -> Tensor:
    pairs = zip(predictions.flatten().tolist(), targets.tolist(), strict=True)
    return torch.tensor(sum(abs(one - other) for one, other in pairs) / len(targets), dtype=targets.dtype)


def error_by_shape(predictions: Tensor, targets: Tensor) -> Tensor:
    return torch.abs(targets.reshape(predictions.shape) - predictions).sum() / targets.numel()


def loss_by_type(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels.to(torch.int64))


def loss_by_index(logits: Tensor, labels: Tensor) -> Tensor:
    rows = torch.arange(len(labels))
    return -logits.log_softmax(-1)[rows, labels.long()].mean()


def loss_by_one_hot(logits: Tensor, labels: Tensor) -> Tensor:
    targets = F.one_hot(labels.long(), logits.shape[1]).to(logits.dtype)
    return F.cross_entropy(logits, targets)


def loss_by_numbers(logits: Tensor, labels: Tensor) -> float:
    losses = [
        math.log(sum(math.exp(logit) for logit in row)) - row[int(label)]
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    return sum(losses) / len(losses)


def last_by_hidden_state(rnn: Any, x: Tensor) -> Tensor:
    return rnn(x.permute(1, 0, 2))[1].squeeze(0)


def last_one_by_one(rnn: Any, x: Tensor) -> Tensor:
    return torch.stack([rnn(sequence)[0][-1] for sequence in x])


def last_by_batch_first(rnn: Any, x: Tensor) -> Tensor:
    rnn = copy.deepcopy(rnn)  # the caller's must stay as it is
    rnn.batch_first = True
    return rnn(x)[0][:, -1, :]


def last_after_turning_back(rnn: Any, x: Tensor) -> Tensor:
    outputs, _ = rnn(x.swapaxes(0, 1))
    return outputs.swapaxes(0, 1)[:, -1]


def scores_by_vector(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight[:, 0]


def scores_by_index(x: Tensor, weight: Tensor) -> Tensor:
    return torch.matmul(x, weight)[..., 0]


def scores_by_sum(x: Tensor, weight: Tensor) -> Tensor:
    return (x * weight.T).sum(dim=1)


def scores_by_flattening(x: Tensor, weight: Tensor) -> Tensor:
    return x.mm(weight).flatten()


NAMES = ("features_first", "weigh_examples", "make_batch", "class_probabilities", "mean_absolute_error", "label_loss",
         "last_outputs", "linear_scores")  # fmt: skip
STYLES = {
    "permutations and views": (permuted, weighed_by_view, batch_by_cat, probabilities_by_layer, error_by_column,
                               loss_by_type, last_by_hidden_state, scores_by_index),
    "row by row": (transposed_one_by_one, weighed_by_rows, batch_by_numbers, probabilities_by_rows, error_by_numbers,
                   loss_by_numbers, last_one_by_one, scores_by_sum),
    "other algebra": (by_einsum, weighed_by_diagonal, batch_by_view, probabilities_by_hand, error_by_shape,
                      loss_by_index, last_after_turning_back, scores_by_vector),
    "other functions": (moved, weighed_transposed, batch_by_vstack, probabilities_by_logs, error_by_library,
                        loss_by_one_hot, last_by_batch_first, scores_by_flattening),
}  # fmt: skip
RIGHT = {"features_first": {style: dict(zip(NAMES, answers, strict=True)) for style, answers in STYLES.items()}}
