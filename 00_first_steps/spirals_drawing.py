"""Drawings of a classifier of points in the plane: losses, decision boundary, animation.

# N examples, F = 2 features, E epochs, K frames, G points along a side of the grid
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lab.animations import captioned, save_gif, side_by_side
from lab.files import atomic
from lab.plots import BLUE, GREY, ORANGE, new_figure, save_figure

EXTENT = 1.25  # the drawing shows -EXTENT to EXTENT in x and y
GRID = 80  # G
FRAMES_PER_SECOND = 8
COLORS = (BLUE, ORANGE)  # of the classes 0 and 1


@dataclass(frozen=True)
class Panel:
    """One training, as arrays: examples (N, F) and (N,), class probabilities on the grid (K, G * G), losses (E,)."""

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    steps: Sequence[int]
    train_losses: Sequence[float]
    validation_losses: Sequence[float]
    accuracy: float

    @property
    def title(self) -> str:
        """The number of training examples."""
        return f"{len(self.labels)} examples"


def grid_points() -> NDArray[np.float32]:
    """Return the centers of the cells of the grid, row by row from the top left, (G * G, F)."""
    centers = EXTENT * ((2 * np.arange(GRID) + 1) / GRID - 1)
    x, y = np.meshgrid(centers, -centers)
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)  # 2 times (G * G,) -> (G * G, F)


def draw_losses(path: Path, panels: Sequence[Panel]) -> None:
    """Draw the losses on the training set and on the validation set, one diagram for each training, as PNG."""
    figure, axes = new_figure(width=9.0, height=3.6, columns=len(panels))
    for panel, ax in zip(panels, axes, strict=True):
        ax.plot(panel.steps, panel.train_losses, color=BLUE, linewidth=1.4, label="training set")
        ax.plot(
            panel.steps,
            panel.validation_losses,
            color=ORANGE,
            linewidth=1.4,
            label="validation set",
        )
        ax.axhline(np.log(2), linestyle="--", color=GREY, linewidth=1.2, label="guessing (ln 2)")
        ax.set(
            title=f"{panel.title}: accuracy {panel.accuracy:.1%}",
            xlabel="optimizer steps",
            yscale="log",
        )
        ax.sharey(axes[0])
    axes[0].set_ylabel("loss (nats per example)")
    axes[-1].legend()
    save_figure(figure, path)


def draw_boundaries(path: Path, panels: Sequence[Panel], size: int = 400) -> None:
    """Draw the class probabilities after training, with the examples, side by side as PNG; `size` in pixels."""
    images = [
        captioned(boundary(panel, -1, size), f"{panel.title}: validation accuracy {panel.accuracy:.1%}")
        for panel in panels
    ]
    with atomic(path) as temporary:
        side_by_side(images).save(temporary, format="PNG")


def animate_boundaries(path: Path, panels: Sequence[Panel], size: int = 240) -> None:
    """Draw the class probabilities during training as a GIF."""
    num_frames = min(len(panel.probabilities) for panel in panels)
    steps = np.linspace(0, panels[-1].steps[-1], num_frames).round().astype(int)
    frames = [
        side_by_side([captioned(boundary(each, k, size), f"{each.title}, step {steps[k]}") for each in panels])
        for k in range(num_frames)
    ]
    save_gif(path, frames, FRAMES_PER_SECOND, hold_seconds=3.0)


def boundary(panel: Panel, frame: int, size: int) -> Image.Image:
    """Return the plane in the colors of the classes, pale where the model is unsure, with the training examples."""
    probabilities = panel.probabilities[frame].reshape(GRID, GRID, 1)  # (G * G,) -> (G, G, 1)
    blue, orange = (np.array(_rgb(color), dtype=float) for color in COLORS)
    strength = 0.75 * np.abs(2 * probabilities - 1)  # 0 where both classes are equally likely
    colors = 255 + strength * (np.where(probabilities > 0.5, orange, blue) - 255)  # (G, G, 3)
    image = Image.fromarray(colors.round().astype(np.uint8)).resize((size, size), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    for (x, y), label in zip(panel.inputs, panel.labels, strict=True):
        center_x, center_y = (size * (1 + value / EXTENT) / 2 for value in (x, -y))
        box = (center_x - 3, center_y - 3, center_x + 3, center_y + 3)
        draw.ellipse(box, fill=COLORS[label], outline="white")
    return image


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color.removeprefix("#")))
