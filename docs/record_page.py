"""Record the animated picture of `lab play` for the README, from the real page in Chromium.

pip install -e '.[test]'      # Playwright; Chromium itself comes from the system, such as `apt-get install chromium`
python docs/record_page.py    # writes docs/page.gif
"""

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from lab.animations import save_gif
from lab.files import ROOT
from lab.launch import launch
from lab.play.browser import opened_page, press, wait_for_frame

WIDTH, HEIGHT = 1100, 900  # pixels of the page
SHOWN_WIDTH = 660  # pixels of the GIF
FRAMES_PER_SECOND = 4


@dataclass(frozen=True)
class Config:
    """Record the page of `lab play` as a GIF."""

    output: Path = ROOT / "docs/page.gif"
    """The GIF."""
    seconds: float = 4.0
    """Seconds of each pane."""


def screenshot(page: Any) -> Image.Image:
    """Return a picture of the page as it is."""
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return image.resize((SHOWN_WIDTH, SHOWN_WIDTH * image.height // image.width), Image.Resampling.LANCZOS)


def pictures(page: Any, seconds: float, act: Callable[[int], None]) -> Iterator[Image.Image]:
    """Yield pictures of the page for some seconds; `act(number)` does something before each."""
    for number in range(round(seconds * FRAMES_PER_SECOND)):
        due = time.monotonic() + 1 / FRAMES_PER_SECOND
        act(number)
        yield screenshot(page)
        time.sleep(max(0.0, due - time.monotonic()))


def record(page: Any, address: str, seconds: float) -> Iterator[Image.Image]:
    """Yield pictures of the three panes at work."""

    def draw_a_wall(number: int) -> None:
        if number == round(seconds * FRAMES_PER_SECOND / 2):
            page.get_by_role("gridcell", name="row 2, column 4, floor").click()

    def move_the_target(number: int) -> None:
        page.get_by_label("x", exact=True).fill(str([-12, 10, 14, -5][number // 4 % 4]))

    page.goto(f"{address}#maze")
    wait_for_frame(page, "maze")
    press(page, "Start")
    yield from pictures(page, seconds, draw_a_wall)
    page.get_by_role("tab", name="Transformer").click()
    wait_for_frame(page, "transformer")
    press(page, "Start")
    yield from pictures(page, seconds, lambda number: None)
    page.get_by_role("tab", name="Arm").click()
    wait_for_frame(page, "arm")
    press(page, "Start")
    wait_for_frame(page, "arm", lambda frame: frame["steps"] >= 200_000)
    yield from pictures(page, seconds, move_the_target)


def main(config: Config) -> None:
    """Record the page, and write the GIF."""
    with opened_page(WIDTH, HEIGHT) as (page, address):
        frames = list(record(page, address, config.seconds))
    save_gif(config.output, frames, FRAMES_PER_SECOND)
    print(f"wrote {config.output} ({config.output.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    launch(Config, main)
