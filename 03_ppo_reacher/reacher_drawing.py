"""Pictures of an episode: rendered by MuJoCo, or the arm drawn by hand where there is no OpenGL."""

import sys
from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from controllers import FOREARM, UPPER_ARM, Policy
from environments import spec_of
from lab.animations import captioned
from lab.errors import UserError
from lab.launch import warn_once
from lab.rendering import has_display, rendering_problem

SIZE = 256  # pixels
CAMERA_DISTANCE = 0.62  # metres above the plane, looking straight down
FIELD_OF_VIEW = np.radians(45.0)  # MuJoCo's default, vertical
PIXELS_PER_METRE = SIZE / (2 * CAMERA_DISTANCE * np.tan(FIELD_OF_VIEW / 2))
FROM_ABOVE = {"distance": CAMERA_DISTANCE, "elevation": -90.0, "azimuth": 90.0, "lookat": np.zeros(3)}


def film_episodes(policy: Policy, env_id: str, seeds: Iterable[int], every: int = 2) -> list[Image.Image]:
    """Every `every`th frame of one episode a seed, with step, return so far and, for Reacher, the fingertip's trace.

    Raises UserError where an environment other than Reacher cannot be rendered.
    """
    is_reacher = env_id.startswith("Reacher-")
    env = open_for_filming(env_id, is_reacher)
    frames = []
    for episode, seed in enumerate(seeds, 1):
        observation, _ = env.reset(seed=seed)
        total, step, ended, trace = 0.0, 0, False, []
        while not ended:
            trace += [fingertip(observation)] if is_reacher else []
            if step % every == 0:
                frames.append(frame(env, observation, trace, f"target {episode}   step {step}   return {total:.2f}"))
            observation, reward, terminated, truncated, _ = env.step(policy(observation[None])[0])
            total, step, ended = total + float(reward), step + 1, terminated or truncated
        trace += [fingertip(observation)] if is_reacher else []
        frames += [frame(env, observation, trace, f"target {episode}   step {step}   return {total:.2f}")] * 8
    env.close()
    return frames


def show_episodes(policy: Policy, env_id: str, seeds: Iterable[int]) -> None:
    """Play one episode a seed in a window, in real time. Raises UserError where there is no display or no picture."""
    if sys.platform == "linux" and not has_display():
        raise UserError("--render human: there is no display here; --save_gif and --record_video need none")
    env = open_with_pictures(env_id, "human")
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        ended = False
        while not ended:
            observation, _, terminated, truncated, _ = env.step(policy(observation[None])[0])
            ended = terminated or truncated
    env.close()


def open_for_filming(env_id: str, is_reacher: bool) -> gym.Env:
    """The environment with a camera, or Reacher without one where nothing can be rendered (and a line that says so)."""
    settings: dict[str, Any] = (
        {"width": SIZE, "height": SIZE, "default_camera_config": FROM_ABOVE} if is_reacher else {}
    )
    problem = rendering_problem() if "mujoco" in str(spec_of(env_id).entry_point) else None
    if problem is None:
        return open_with_pictures(env_id, "rgb_array", **settings)
    if not is_reacher:
        raise UserError(f"{env_id} cannot be rendered here: {problem}")
    warn_once(f"no OpenGL here ({problem}); the arm is drawn by hand instead")
    return gym.make(env_id)


def open_with_pictures(env_id: str, mode: str, **settings: Any) -> gym.Env:
    """The environment in a render mode. Raises UserError, saying why, where it offers none or lacks what it needs."""
    if mode not in gym.make(env_id).metadata["render_modes"]:
        raise UserError(f"{env_id} offers no pictures (its render modes do not include {mode})")
    try:
        env = gym.make(env_id, render_mode=mode, **settings)
        env.reset()
        env.render()  # some lack a library, and notice only here
        return env
    except (gym.error.Error, ImportError) as error:
        raise UserError(f"{env_id} cannot be rendered here: {str(error).splitlines()[0]}") from None


def frame(env: gym.Env, observation: NDArray, trace: list[NDArray], caption: str) -> Image.Image:
    """One frame: the scene, the fingertip's way through it and the target where there is a trace, the caption."""
    image = picture(env, observation)
    if trace:
        draw_trace(image, trace, target=observation[4:6])
    return captioned(image, caption)


def picture(env: gym.Env, observation: NDArray) -> Image.Image:
    """The scene as it stands: rendered, or drawn from Reacher's observation."""
    if env.render_mode is None:
        return draw_arm(observation)
    frame: Any = env.render()
    return Image.fromarray(frame)


def joints(observation: NDArray) -> NDArray:
    """Shoulder, elbow and fingertip (3, 2) in metres, from an observation (10,) of Reacher."""
    cos1, cos2, sin1, sin2 = observation[:4]
    upper = np.array([cos1, sin1])
    fore = np.array([cos1 * cos2 - sin1 * sin2, sin1 * cos2 + cos1 * sin2])  # cosine and sine of the sum of the angles
    elbow = UPPER_ARM * upper
    return np.stack([np.zeros(2), elbow, elbow + FOREARM * fore])


def fingertip(observation: NDArray) -> NDArray:
    """Position of the fingertip (2,) in metres: the target's plus the observed difference."""
    return observation[4:6] + observation[8:10]


def to_pixels(points: NDArray) -> list[tuple[float, float]]:
    """Points (n, 2) in metres, seen by the camera from above, as pixels from the upper left."""
    return [(SIZE / 2 + PIXELS_PER_METRE * x, SIZE / 2 - PIXELS_PER_METRE * y) for x, y in points]


def draw_trace(image: Image.Image, trace: list[NDArray], target: NDArray) -> None:
    """Draw where the fingertip went, points (2,) in metres, onto an image from above, and a ring around the target."""
    pen = ImageDraw.Draw(image)
    if len(trace) > 1:
        pen.line(to_pixels(np.stack(trace)), fill="#ffd166", width=2)
    pen.circle(to_pixels(target[None])[0], radius=9, outline="#e63946", width=2)


def draw_arm(observation: NDArray) -> Image.Image:
    """The arena, the target and the arm from above, without OpenGL."""
    image = Image.new("RGB", (SIZE, SIZE), "#5b5b5b")
    pen = ImageDraw.Draw(image)
    pen.rectangle(
        [*to_pixels(np.array([[-0.3, 0.3]]))[0], *to_pixels(np.array([[0.3, -0.3]]))[0]], outline="#a0415f", width=6
    )
    arm = to_pixels(joints(observation))
    pen.line(arm, fill="#0f7a99", width=9, joint="curve")
    for (x, y), color, radius in [
        (arm[0], "#e0569b", 6),
        (arm[1], "#0f7a99", 5),
        (arm[2], "#2a9df4", 6),
        (to_pixels(observation[None, 4:6])[0], "#e63946", 5),
    ]:
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=color)
    return image
