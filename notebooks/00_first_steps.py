# %% [markdown]
# # First steps: tensors, autograd, the training loop
#
# In about 15 minutes you see what shapes, broadcasting and views are, compute derivatives with a
# small autograd engine and with PyTorch's, and train a first network with the five lines that
# train every model. The text is a short form of [the first steps](../00_first_steps/README.md),
# and its equations have the same numbers.
#
# Run the cells from top to bottom with Shift+Enter. A line with `@param` holds a number that is
# yours to change: edit it (on Colab, move the slider), then run its cell and those below again.
# `assert` lines check what the text claims.

# %%
# On Colab this cell fetches the lab and installs it; elsewhere it is installed already.
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = "<this repository>"  # the address that `git clone` takes
CLONE = Path.home() / "pytorch-learning-lab"
if "google.colab" in sys.modules:
    if not CLONE.exists():
        if REPOSITORY.startswith("<"):
            raise RuntimeError(
                "set REPOSITORY to the address of the lab's repository, and try again"
            )
        subprocess.run(["git", "clone", "--depth", "1", REPOSITORY, CLONE], check=True)
    lines = (CLONE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if "==" in line and not line.startswith("torch==")]
    install = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *pins, "-e", CLONE], check=True)  # Colab has its own PyTorch
    sys.path.insert(0, str(CLONE))  # this process started before the installation

import lab.projects  # noqa: F401 - puts the folders of the lessons on the search path

os.chdir(tempfile.mkdtemp(prefix="lab_notebook_"))  # for the files that this notebook writes

# %% [markdown]
# ## Shapes and broadcasting
#
# A tensor has a shape. Read it as a sentence: `x` of shape (N, F) is N examples with F features
# each. In `x.mean(dim=0)` the axis that you name is the one that disappears. Two shapes are lined
# up at the right; sizes fit if they are equal, or if one of them is 1. A missing axis counts as
# 1, and an axis of size 1 is repeated.

# %%
import torch

examples = 4  # @param {"type": "slider", "min": 1, "max": 8, "step": 1}
features = 3  # @param {"type": "slider", "min": 1, "max": 8, "step": 1}

torch.manual_seed(0)
x = torch.randn(examples, features)  # (N, F)
mean = x.mean(dim=0)  # (N, F) -> (F,): one mean for each feature, over the examples
centered = x - mean  # (N, F) - (F,) -> (N, F)
print("x", tuple(x.shape), "  mean", tuple(mean.shape), "  centered", tuple(centered.shape))

assert mean.shape == (features,)
assert centered.shape == (examples, features)
torch.testing.assert_close(centered.mean(dim=0), torch.zeros(features))

# %% [markdown]
# Broadcasting also makes mistakes run. Predictions often have the shape (N, 1) and targets (N,).
# Their difference is (N, N): every prediction is compared with every target. Nothing complains,
# and a mean over it hides it.

# %%
predictions = torch.arange(5.0)[:, None]  # (N, 1)
targets = torch.arange(5.0)  # (N,)
wrong = predictions - targets  # (N, 1) - (N,) -> (N, N)
right = predictions.squeeze(1) - targets  # (N,) - (N,) -> (N,)
print("all predictions are right; mean squared error of the wrong pairs:", (wrong**2).mean().item())

assert wrong.shape == (5, 5)
assert (right == 0).all()
assert (wrong**2).mean() > 0

# %% [markdown]
# ## Views share memory
#
# Indexing with a number or a slice, `view` and `transpose` copy nothing: the result is a view of
# the same numbers. Change one, and the other changes. `clone` makes a copy.

# %%
table = torch.arange(6.0).reshape(2, 3)
first_row = table[0]  # a view
copy = table.clone()
first_row[0] = 100.0
print("table:", table.tolist(), "  copy:", copy.tolist())

assert table[0, 0] == 100.0
assert copy[0, 0] == 0.0
assert table.T.data_ptr() == table.data_ptr()  # the same memory, read in another order
assert table.T.stride() == (1, 3)

# %% [markdown]
# A view cuts the numbers in the order in which they lie. So `view(3, 2)` is not a transpose: the
# shape is the same, the numbers are not.

# %%
numbers = torch.arange(6).reshape(2, 3)
print("numbers\n", numbers, "\nview(3, 2)\n", numbers.view(3, 2), "\ntransposed\n", numbers.T)

assert numbers.view(3, 2).shape == numbers.T.shape
assert not torch.equal(numbers.view(3, 2), numbers.T)

# %% [markdown]
# ## Autograd
#
# Every operation notes its parents and the derivative with respect to each of them. `backward`
# goes from the result back to the start and multiplies and adds these derivatives, by the chain
# rule (eq. 2). `autograd.py` does this for single numbers, in one short file; PyTorch does the
# same with tensors.

# %%
from autograd import Value, backward

a_number = 2.0  # @param {"type": "slider", "min": -3, "max": 3, "step": 0.1}
b_number = -1.5  # @param {"type": "slider", "min": -3, "max": 3, "step": 0.1}

a, b = Value(a_number), Value(b_number)
result = (a * b + a).tanh()  # a is used twice: its gradient has two parts
backward(result)
print("ours:    d result / da =", a.grad, "  d result / db =", b.grad)

tensor_a = torch.tensor(a_number, dtype=torch.float64, requires_grad=True)
tensor_b = torch.tensor(b_number, dtype=torch.float64, requires_grad=True)
tensor_result = (tensor_a * tensor_b + tensor_a).tanh()
tensor_result.backward()
print("PyTorch: d result / da =", tensor_a.grad, "  d result / db =", tensor_b.grad)

torch.testing.assert_close(tensor_a.grad, torch.tensor(a.grad, dtype=torch.float64))
torch.testing.assert_close(tensor_b.grad, torch.tensor(b.grad, dtype=torch.float64))

# %% [markdown]
# A derivative says how much the result changes with the input. Check it by changing the input a
# little. And note that gradients *add up*: a second `backward` without setting them to zero
# doubles them.

# %%
import math

step = 1e-6
difference = (math.tanh((a_number + step) * b_number + a_number + step) - result.data) / step
print(f"change of the result per change of a: {difference:.5f}, derivative: {a.grad:.5f}")
assert abs(difference - a.grad) < 1e-4

once = a.grad
backward(result)
assert a.grad == 2 * once

# %% [markdown]
# ## The training loop
#
# The task: points of two classes, on two spirals that wind around each other. No straight line
# separates them. The network has two inputs, two hidden layers, and one logit for each class. It
# learns from the training set; the validation set shows how well it does on points that it has
# not learned from.

# %%
from training_loop import make_spirals

num_examples = 400  # @param {"type": "slider", "min": 20, "max": 1000, "step": 20}
noise = 0.05  # @param {"type": "slider", "min": 0, "max": 0.3, "step": 0.05}

generator = torch.Generator().manual_seed(0)
train_set = make_spirals(num_examples, generator, noise)
validation_set = make_spirals(1000, generator, noise)
print("inputs", tuple(train_set.inputs.shape), "  labels", tuple(train_set.labels.shape))

# %% tags=["parameters"]
steps = 500

# %% [markdown]
# Five lines train every model of the lab: forward, loss, gradients to zero, backward, a step of
# the optimizer against the gradient (eq. 3). Every 20 steps we look at both losses and at what
# the network says about the plane.

# %%
import torch.nn.functional as F

from spirals_drawing import grid_points
from training_loop import class_probabilities, evaluate, make_model

learning_rate = 0.01  # @param {"type": "number"}
hidden_size = 64  # @param {"type": "slider", "min": 1, "max": 128, "step": 1}

torch.set_num_threads(1)  # for a model so small, a second thread costs more than it saves
torch.manual_seed(0)
model = make_model(hidden_size)
optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
grid = torch.from_numpy(grid_points())  # (G * G, 2)
seen_at, train_losses, validation_losses, accuracies, frames = [], [], [], [], []
for step in range(steps + 1):
    if step % 20 == 0:
        train_loss, _ = evaluate(model, train_set)
        validation_loss, accuracy = evaluate(model, validation_set)
        seen_at.append(step)
        train_losses.append(train_loss)
        validation_losses.append(validation_loss)
        accuracies.append(accuracy)
        frames.append(class_probabilities(model, grid))

    logits = model(train_set.inputs)  # (N, F) -> (N, C): the graph is built
    loss = F.cross_entropy(logits, train_set.labels)  # (N, C), (N,) -> a scalar
    optimizer.zero_grad()  # `backward` adds to what is in `grad`
    loss.backward()  # the graph is used, and gone
    optimizer.step()

print(f"training loss {train_losses[0]:.3f} -> {train_losses[-1]:.3f}")
print(f"accuracy on the validation set {accuracies[0]:.1%} -> {accuracies[-1]:.1%}")

assert abs(train_losses[0] - math.log(2)) < 0.3  # it knows nothing yet: about ln 2 for two classes
assert train_losses[-1] < train_losses[0] / 2, "the loss has not halved: other settings?"
assert accuracies[-1] > 0.8, "many points of the validation set are wrong: other settings?"

# %% [markdown]
# The losses, and the plane in the colors of the classes while the network learns, pale where it
# is unsure.

# %%
from IPython.display import Image, display

from spirals_drawing import Panel, animate_boundaries, draw_losses

panel = Panel(
    inputs=train_set.inputs.numpy(),
    labels=train_set.labels.numpy(),
    probabilities=torch.stack(frames).numpy(),
    steps=seen_at,
    train_losses=train_losses,
    validation_losses=validation_losses,
    accuracy=accuracies[-1],
)
draw_losses(Path("losses.png"), [panel])
animate_boundaries(Path("boundary.gif"), [panel], size=320)
display(Image("losses.png", width=760), Image("boundary.gif"))

# %% [markdown]
# ## Change it
#
# - `num_examples = 40`: the network learns them by heart. What does the validation loss do?
# - `hidden_size = 3`: too small to bend around the spirals. Where does the loss stay?
# - `learning_rate = 1`, then `0.0001`: the loss jumps, or hardly falls.
# - Put a `#` before `optimizer.zero_grad()`: every step repeats all earlier ones, and nothing is
#   learned.
# - Swap `zero_grad` and `backward`: nothing is learned, either. Why?
#
# ## Do it yourself
#
# The first exercise of the lesson. Write the function, run its cell, which saves it to a file,
# and then the check: it runs your function, the right one and all known wrong ones, and says
# which of them yours equals.

# %% tags=["active-ipynb", "exercise"]
# %%writefile standardize.py
# """Exercise O1: standardize
#
# Shift and scale every feature of a batch of examples, x (N, F), to mean 0 and standard
# deviation 1.
#
# Check it: lab check standardize
# """
#
# from torch import Tensor
#
#
# def standardize(x: Tensor) -> Tensor:
#     """Return x (N, F) with every feature shifted and scaled to mean 0 and standard deviation 1.
#
#     A feature that is the same in all examples has the deviation 0 and becomes NaN.
#     """
#     # One mean and one deviation for each feature: over the examples.
#     # Broadcasting: (N, F) and (F,) line up at the last axis.
#     raise NotImplementedError("write your code here, and remove this line")

# %% tags=["active-ipynb"]
# !"{sys.executable}" -m lab check standardize --file standardize.py

# %% [markdown]
# To go on, open a terminal in the lab's folder: `lab exercises start` writes a file for every
# exercise, `lab check sgd_step --watch` checks yours at every save, and `lab hint sgd_step` gives
# a hint.
