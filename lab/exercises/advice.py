"""Advice on common exceptions of Python and PyTorch. Imports no torch."""

import re

ADVICE = (  # pattern of the exception in words, and what it means
    (r"Subtraction, the `-` operator, with a bool tensor", "invert a mask with ~, or make numbers of it: mask.float()"),
    (r"view size is not compatible",
     "after a transpose or a slice the numbers are not in the order in memory that `view` needs; `reshape` copies "
     "them, in the order of the dimensions: is that the order that you want?"),
    (r"shape '.*' is invalid for input of size", "the new sizes must multiply to the old number of entries"),
    (r"Dimension out of range", "not every input has that dimension: the last is -1, whatever their number"),
    (r"mat1 and mat2 shapes|size mismatch|Expected size for first two dimensions",
     "`@` needs the last dimension of the left to equal the last but one of the right: is one to be transposed?"),
    (r"The size of tensor a \(\d+\) must match|could not be broadcast|not broadcastable",
     "shapes are lined up from the last dimension, and sizes must be equal or 1"),
    (r"Sizes of tensors must match except in dimension", "`cat` makes one dimension longer; all others must be equal"),
    (r"stack expects each tensor to be equal size", "`stack` makes a new dimension; `cat` makes one longer"),
    (r"Boolean value of Tensor|truth value of an array|bool value of Tensor",
     "`if`, `and`, `or`, `not` and `max` of Python want one value: use torch.where, &, |, ~ and torch.max"),
    (r"only one element tensors can be converted|can be converted to Python scalars",
     "here a tensor can hold several numbers: float(), int() and item() want one"),
    (r"torch.return_types|'tuple' object|\(tuple, |not tuple|not 'tuple'|return_types",
     "a function that you call returns several things: for `max` and `sort` take .values or .indices"),
    (r"does not require grad", "no gradient flows there: is something detached, or made by item() or torch.tensor()?"),
    (r"requires grad. Use tensor.detach", "NumPy has no gradients: stay in PyTorch"),
    (r"leaf Variable that requires grad", "a tensor that learns must not be changed in place"),
    (r"modified by an inplace operation", "something that `backward` needs was changed in place"),
    (r"backward through the graph a second time", "the graph is gone after `backward`: compute the loss again"),
    (r"same dtype|expected scalar type|must have the same dtype|Found dtype",
     "two types of numbers meet: make new tensors with the dtype of an argument"),
    (r"list indices must be integers", "a list is read by number: go through it with range(len(...)) or enumerate"),
    (r"used as indices must be|only integer tensors", "an index must be an integer: use .long()"),
    (r"Expected target size", "cross_entropy wants the classes in dimension 1, or two flat arguments"),
    (r"arg is an empty sequence|Cannot choose from an empty|argument is empty", "here nothing is left to choose from"),
    (r"^KeyError", "look whether the key is there before you read it"),
    (r"^IndexError", "count again where your indices end"),
    (r"^ZeroDivisionError", "what you divide by can be 0"),
    (r"^RecursionError", "your function calls itself without an end"),
    (r"NoneType", "something is None here: is a `return` missing, or an entry not to be used?"),
)  # fmt: skip


def advice(error: str) -> str:
    """Return what an exception, given in words, means; "" where it says it itself."""
    return next((meaning for pattern, meaning in ADVICE if re.search(pattern, error)), "")
