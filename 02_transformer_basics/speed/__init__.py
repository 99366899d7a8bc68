"""Faster forms of the models, switched on by name and tested equal to the plain code.

`accelerate(model, precision)` returns the fast form of a model for inference; `speed.training` holds what the training
loops use.
"""

from speed.accelerated import accelerate
from speed.quantization import PRECISIONS, check_precision

__all__ = ["PRECISIONS", "accelerate", "check_precision"]
