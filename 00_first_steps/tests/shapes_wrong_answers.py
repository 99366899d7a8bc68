"""Wrong answers to the shape detective: the suspects, and other ways to get a shape wrong, as switches."""

from collections.abc import Sequence, Set
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


def features_first(x: Tensor, wrong: Set[str] = NONE) -> Tensor:
    """Features before positions, with the given mistakes."""
    batch, positions, features = x.shape
    if "view_for_transpose" in wrong:
        return x.reshape(batch, features, positions)
    if "batch_moved" in wrong:
        return x.transpose(0, 1)
    if "all_axes_reversed" in wrong:
        return x.permute(2, 1, 0)
    if "features_before_batch" in wrong:
        return x.permute(2, 0, 1)
    if "not_transposed" in wrong:
        return x
    if "flipped" in wrong:
        return x.transpose(1, 2).flip(-1)
    return x.transpose(1, 2)


def weigh_examples(x: Tensor, weights: Tensor, wrong: Set[str] = NONE) -> Tensor:
    """Weighted examples, with the given mistakes."""
    if "unsqueeze_0" in wrong:
        return x * weights.unsqueeze(0)
    if "matrix_product" in wrong:
        return weights @ x
    if "outer_axis" in wrong:
        return x[:, None] * weights[:, None, None]
    if "weights_added" in wrong:
        return x + weights[:, None]
    if "weights_normalized" in wrong:
        return x * (weights / weights.sum())[:, None]
    if "one_weight" in wrong:
        return x * weights[0]
    return x * weights[:, None]


def make_batch(examples: Sequence[Tensor], wrong: Set[str] = NONE) -> Tensor:
    """A batch, with the given mistakes."""
    examples = list(examples)
    if "cat" in wrong:
        return torch.cat(examples)
    if "stack_as_columns" in wrong:
        return torch.stack(examples, dim=1)
    if "cat_then_view" in wrong:
        return torch.cat(examples).view(-1, len(examples))
    if "extra_axis" in wrong:
        return torch.stack(examples)[None]
    if "summed" in wrong:
        return torch.stack(examples).sum(0)
    if "reversed_batch" in wrong:
        return torch.stack(examples[::-1])
    return torch.stack(examples)


def class_probabilities(logits: Tensor, wrong: Set[str] = NONE) -> Tensor:
    """Probabilities of the classes, with the given mistakes."""
    if "softmax_over_examples" in wrong:
        return logits.softmax(0)
    if "softmax_of_all" in wrong:
        return logits.flatten().softmax(0).view_as(logits)
    if "log_softmax" in wrong:
        return logits.log_softmax(1)
    if "sigmoid" in wrong:
        return logits.sigmoid()
    if "divided_by_sum" in wrong:
        return logits / logits.sum(1, keepdim=True)
    if "most_likely" in wrong:
        return F.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)
    return logits.softmax(1)


def mean_absolute_error(predictions: Tensor, targets: Tensor, wrong: Set[str] = NONE) -> Tensor:
    """Mean absolute error, with the given mistakes."""
    if "outer" in wrong:
        return (predictions - targets).abs().mean()
    errors = predictions[:, 0] - targets
    if "not_absolute" in wrong:
        return errors.mean()
    if "squared" in wrong:
        return errors.square().mean()
    if "summed_error" in wrong:
        return errors.abs().sum()
    if "not_reduced" in wrong:
        return errors.abs()
    if "first_prediction" in wrong:
        return (predictions[0] - targets).abs().mean()
    if "root_mean_square" in wrong:
        return errors.square().mean().sqrt()
    return errors.abs().mean()


def label_loss(logits: Tensor, labels: Tensor, wrong: Set[str] = NONE) -> Any:
    """Cross-entropy, with the given mistakes."""
    if "float_labels" in wrong:
        return F.cross_entropy(logits, labels)
    if "integer_logits" in wrong:
        logits = logits.long().to(logits.dtype)
    if "double_softmax" in wrong:
        logits = logits.softmax(1)
    loss = F.cross_entropy(logits, labels.long(), reduction="none")
    if "one_based_labels" in wrong:
        loss = F.cross_entropy(logits, (labels - 1).clamp(min=0).long(), reduction="none")
    if "no_logarithm" in wrong:
        return F.nll_loss(logits.softmax(1), labels.long())
    if "no_softmax" in wrong:
        return F.nll_loss(logits, labels.long())
    if "loss_summed" in wrong:
        return loss.sum()
    return loss if "loss_not_reduced" in wrong else loss.mean()


def last_outputs(rnn: Any, x: Tensor, wrong: Set[str] = NONE) -> Tensor:
    """Outputs at the last position, with the given mistakes."""
    if "batch_as_time" in wrong:
        return rnn(x)[0][:, -1]
    if "last_sequence" in wrong:
        return rnn(x)[0][-1]
    if "viewed_as_time" in wrong:
        return rnn(x.reshape(x.shape[1], x.shape[0], x.shape[2]))[0][-1]
    outputs, hidden = rnn(x.transpose(0, 1))
    if "first_output" in wrong:
        return outputs[0]
    if "last_of_batch" in wrong:
        return outputs[:, -1]
    if "hidden_axis" in wrong:
        return hidden
    if "all_outputs" in wrong:
        return outputs.transpose(0, 1)
    if "mean_output" in wrong:
        return outputs.mean(0)
    return outputs[-1]


def linear_scores(x: Tensor, weight: Tensor, wrong: Set[str] = NONE) -> Tensor:
    """Scores, with the given mistakes."""
    scores = x @ weight
    if "squeeze_all" in wrong:
        return scores.squeeze()
    if "column_kept" in wrong:
        return scores
    if "squeeze_0" in wrong:
        return scores.squeeze(0)
    if "scores_summed" in wrong:
        return scores.sum(0)
    if "row_returned" in wrong:
        return scores.t()
    return scores[:, 0]


ANSWERS = (
    features_first,
    weigh_examples,
    make_batch,
    class_probabilities,
    mean_absolute_error,
    label_loss,
    last_outputs,
    linear_scores,
)
WRONG = {
    "features_first": Wrong(
        {function.__name__: function for function in ANSWERS},
        switches(*ANSWERS),
        exclusive=[{*switches(*ANSWERS)}],  # of several mistakes only that in the first wrong function is looked at
    ),
}
