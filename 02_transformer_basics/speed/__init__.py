"""Faster forms of the models, which the tests compare with the plain code.

`accelerate(model, precision)` returns the fast form of a model for inference; the training loops use `speed.training`.
"""

from speed.accelerated import accelerate
from speed.quantization import PRECISIONS, check_precision

__all__ = ["PRECISIONS", "accelerate", "check_precision"]
