"""Animations: frames with a caption, written atomically as a GIF or a video."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lab.errors import UserError
from lab.files import atomic

CAPTION_HEIGHT = 28
MIN_GIF_DELAY = 0.02  # seconds; browsers show shorter delays as 0.1 seconds


def captioned(image: Image.Image | NDArray[np.uint8], caption: str) -> Image.Image:
    """Return `image` (height, width, 3) with a one-line caption on a light bar above it."""
    content = image if isinstance(image, Image.Image) else Image.fromarray(image)
    framed = Image.new("RGB", (content.width, content.height + CAPTION_HEIGHT), "#f4f4f4")
    framed.paste(content, (0, CAPTION_HEIGHT))
    font = ImageFont.load_default(size=14)
    ImageDraw.Draw(framed).text((8, CAPTION_HEIGHT // 2), caption, fill="#202020", font=font, anchor="lm")
    return framed


def side_by_side(images: Sequence[Image.Image], gap: int = 8) -> Image.Image:
    """Return `images` of the same height in one row, `gap` pixels apart."""
    width = sum(image.width for image in images) + gap * (len(images) - 1)
    row = Image.new("RGB", (width, max(image.height for image in images)), "white")
    left = 0
    for image in images:
        row.paste(image, (left, 0))
        left += image.width + gap
    return row


def save_gif(path: Path, frames: Sequence[Image.Image], frames_per_second: float, hold_seconds: float = 1.0) -> None:
    """Write `frames` as a looping GIF; the last frame is held for `hold_seconds`. Raises UserError without frames.

    Frames are left out where there are more of them than a GIF can show in real time.
    """
    if not frames:
        raise UserError(f"{path}: there are no frames to write")
    indices, durations = gif_timing(len(frames), frames_per_second, hold_seconds)
    frames = [frames[index] for index in indices]
    palette = _shared_palette([frames[0], frames[len(frames) // 2], frames[-1]])
    palette_frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with atomic(path) as temporary:
        palette_frames[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=palette_frames[1:],
            duration=durations,
            loop=0,
            optimize=False,
        )


def gif_timing(num_frames: int, frames_per_second: float, hold_seconds: float) -> tuple[list[int], list[int]]:
    """Return which frames a GIF shows and for how many milliseconds each; the last one is held for `hold_seconds`.

    A GIF counts hundredths of a second, and browsers show delays below 20 ms as 100 ms. So only every nth frame is
    shown, up to the last one, and delays are rounded such that the animation stays in real time.
    """
    every = max(1, math.ceil(MIN_GIF_DELAY * frames_per_second - 1e-9))
    indices = list(range((num_frames - 1) % every, num_frames, every))
    starts = [round(100 * index / frames_per_second) for index in indices]  # hundredths of a second
    durations = [10 * (end - start) for start, end in pairwise(starts)]
    return indices, [*durations, round(1000 * hold_seconds)]


def save_video(path: Path, frames: Sequence[Image.Image], frames_per_second: float) -> None:
    """Write `frames` as an MP4 video (H.264), in even width and height. Raises UserError without frames."""
    import av  # imported here: slow to import, and few runs need it

    if not frames:
        raise UserError(f"{path}: there are no frames to write")
    with atomic(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(frames_per_second).limit_denominator(1000))
        stream.width, stream.height = (size - size % 2 for size in frames[0].size)
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())  # flush the encoder


def _shared_palette(samples: Sequence[Image.Image]) -> Image.Image:
    """Return one palette for all frames: with one per frame, small shapes flicker and files are 3 times larger."""
    montage = Image.new("RGB", (max(sample.width for sample in samples), sum(sample.height for sample in samples)))
    top = 0
    for sample in samples:
        montage.paste(sample, (0, top))
        top += sample.height
    return montage.quantize(colors=256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
