"""Frames of an episode: rendered by MuJoCo, or drawn in 2D with Pillow where OpenGL is missing."""

import sys
from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from controllers import FOREARM, UPPER_ARM, Policy
from environments import is_reacher, make_env, reason_of, spec_of
from lab.animations import captioned
from lab.errors import UserError
from lab.launch import warn_once
from lab.rendering import has_display, rendering_problem

SIZE = 256  # pixels
CAMERA_DISTANCE = 0.62  # meters above the plane, looking straight down
FIELD_OF_VIEW = np.radians(45.0)  # MuJoCo's default, vertical
PIXELS_PER_METER = SIZE / (2 * CAMERA_DISTANCE * np.tan(FIELD_OF_VIEW / 2))
TOP_VIEW = {"distance": CAMERA_DISTANCE, "elevation": -90.0, "azimuth": 90.0, "lookat": np.zeros(3)}
MAX_STEPS = 1_000  # an episode that has not ended by then is shown only up to there
FINAL_FRAMES = 8  # the last frame of an episode is repeated this often
ARENA = 0.3  # meters from the center to the walls


def render_episodes(
    policy: Policy,
    env_id: str,
    seeds: Iterable[int],
    frame_step: int = 2,
) -> list[Image.Image]:
    """Return every `frame_step`th frame of one episode per seed.

    Captions show the step and the return so far; for Reacher, the frames show the fingertip's path.
    An episode is shown for at most `MAX_STEPS` steps. Raises UserError where an environment other
    than Reacher cannot be rendered.
    """
    has_path = is_reacher(env_id)
    name = "target" if has_path else "episode"
    env = open_for_rendering(env_id)
    frames = []
    for episode, seed in enumerate(seeds, 1):
        observation, _ = env.reset(seed=seed)
        total = 0.0
        step = 0
        ended = False
        path = [fingertip(observation)] if has_path else []
        while not ended and step < MAX_STEPS:
            if step % frame_step == 0:
                caption = f"{name} {episode}   step {step}   return {total:.2f}"
                frames.append(draw_frame(env, observation, path, caption))
            action = policy(observation[None])[0]
            observation, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            step += 1
            ended = terminated or truncated
            if has_path:
                path.append(fingertip(observation))
        if not ended:
            warn_once(f"{env_id}: an episode had not ended after {MAX_STEPS:,} steps; the recording stops there")
        caption = f"{name} {episode}   step {step}   return {total:.2f}"
        frames += [draw_frame(env, observation, path, caption)] * FINAL_FRAMES
    env.close()
    return frames


def show_episodes(policy: Policy, env_id: str, seeds: Iterable[int]) -> None:
    """Show one episode per seed in a window, in real time, for at most `MAX_STEPS` steps.

    Raises UserError if there is no display or the environment cannot be rendered.
    """
    if sys.platform == "linux" and not has_display():
        alternative = "--save_gif and --record_video work without one"
        raise UserError(f"--render human: no display found; {alternative}")
    env = open_rendered(env_id, "human")
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        for _ in range(MAX_STEPS):
            action = policy(observation[None])[0]
            observation, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                break
    env.close()


def open_for_rendering(env_id: str) -> gym.Env:
    """Return the environment with rendering, or Reacher without it if OpenGL is missing.

    In that case a note is printed.
    """
    settings: dict[str, Any] = {}
    if is_reacher(env_id):
        settings = {"width": SIZE, "height": SIZE, "default_camera_config": TOP_VIEW}
    uses_mujoco = "mujoco" in str(spec_of(env_id).entry_point)
    problem = rendering_problem() if uses_mujoco else None
    if problem is None:
        return open_rendered(env_id, "rgb_array", **settings)
    if not is_reacher(env_id):
        raise UserError(f"{env_id} cannot be rendered here: {problem}")
    warn_once(f"OpenGL is not available ({problem}); the arm is drawn in 2D with Pillow instead")
    return make_env(env_id)


def open_rendered(env_id: str, mode: str, **settings: Any) -> gym.Env:
    """Return the environment in a render mode. Raises UserError with the reason if it has none."""
    if mode not in (make_env(env_id).metadata.get("render_modes") or ()):
        raise UserError(f"{env_id} cannot be rendered (its render modes do not include {mode})")
    env = make_env(env_id, render_mode=mode, **settings)
    env.reset()
    try:
        if mode == "rgb_array":
            rendered(env)
        else:
            env.render()
    except Exception as error:  # some environments notice only here that a library is missing
        raise UserError(f"{env_id} cannot be rendered here: {reason_of(error)}") from error
    return env


def rendered(env: gym.Env) -> Image.Image:
    """Return what the environment renders. Raises TypeError if it is not an RGB image."""
    pixels: Any = env.render()
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise TypeError(f"render() must return an array (height, width, 3) of uint8, not {type(pixels).__name__}")
    return Image.fromarray(pixels)


def frames_per_second(env_id: str) -> float:
    """Return how many steps per second the environment declares; 50 if it does not say."""
    declared = make_env(env_id).metadata.get("render_fps")
    return declared if isinstance(declared, (int, float)) and 0 < declared < float("inf") else 50.0


def draw_frame(
    env: gym.Env,
    observation: NDArray,
    path: list[NDArray],
    caption: str,
) -> Image.Image:
    """Return one frame: the scene, a path of the fingertip with its target, and a caption.

    With an empty path only the scene and the caption are drawn.
    """
    has_opengl = not path or env.render_mode is not None
    image = rendered(env) if has_opengl else draw_arm(observation)
    if path:
        draw_path(image, path, target=observation[4:6])
    return captioned(image, caption)


def joints(observation: NDArray) -> NDArray:
    """Return the positions of shoulder, elbow and fingertip (3, 2) in meters.

    The observation (10,) is Reacher's; the shoulder is the origin.
    """
    cos1, cos2, sin1, sin2 = observation[:4]
    upper_arm = np.array([cos1, sin1])  # unit vector
    cos_sum = cos1 * cos2 - sin1 * sin2
    sin_sum = sin1 * cos2 + cos1 * sin2
    forearm = np.array([cos_sum, sin_sum])  # unit vector, at the sum of both angles
    elbow = UPPER_ARM * upper_arm
    return np.stack([np.zeros(2), elbow, elbow + FOREARM * forearm])  # (3, 2)


def fingertip(observation: NDArray) -> NDArray:
    """Return the fingertip's position (2,) in meters: the target's plus the observed difference."""
    return observation[4:6] + observation[8:10]


def to_pixels(points: NDArray) -> list[tuple[float, float]]:
    """Project points (n, 2) in meters to the top view, in pixels from the upper left corner."""
    center = SIZE / 2
    return [(center + PIXELS_PER_METER * x, center - PIXELS_PER_METER * y) for x, y in points]


def draw_path(image: Image.Image, path: list[NDArray], target: NDArray) -> None:
    """Draw the fingertip's path and a ring around the target, in meters (2,), onto a top view."""
    pen = ImageDraw.Draw(image)
    if len(path) > 1:
        pen.line(to_pixels(np.stack(path)), fill="#ffd166", width=2)
    pen.circle(to_pixels(target[None])[0], radius=9, outline="#e63946", width=2)


def draw_arm(observation: NDArray) -> Image.Image:
    """Draw the arena, the target and the arm from above, without OpenGL."""
    image = Image.new("RGB", (SIZE, SIZE), "#5b5b5b")
    pen = ImageDraw.Draw(image)
    upper_left, lower_right = to_pixels(np.array([[-ARENA, ARENA], [ARENA, -ARENA]]))
    pen.rectangle([*upper_left, *lower_right], outline="#a0415f", width=6)
    shoulder, elbow, tip = to_pixels(joints(observation))
    target = to_pixels(observation[None, 4:6])[0]
    pen.line([shoulder, elbow, tip], fill="#0f7a99", width=9, joint="curve")
    for center, color, radius in (
        (shoulder, "#e0569b", 6),
        (elbow, "#0f7a99", 5),
        (tip, "#2a9df4", 6),
        (target, "#e63946", 5),
    ):
        pen.circle(center, radius, fill=color)
    return image
