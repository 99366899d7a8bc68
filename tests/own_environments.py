"""Environments of one's own, right and wrong, as users of `--env_id` write them."""

from typing import Any

import gymnasium as gym
import numpy as np

Box = gym.spaces.Box


class Own(gym.Env):
    """An episode of ten steps; the reward is minus the distance of the action from 0.4."""

    metadata: Any = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - as Gymnasium's
    observation_space: Any = Box(-10.0, 10.0, (3,))
    action_space: Any = Box(-1.0, 1.0, (1,))
    length: float = 10
    time = 0

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.observe(), {}

    def step(self, action: np.ndarray) -> Any:
        assert self.action_space.contains(action), "actions must lie in the box and have its dtype"
        self.time += 1
        return self.observe(), self.reward(action), self.time >= self.length, False, {}

    def observe(self) -> Any:
        return np.full(3, self.time, dtype=np.float32)

    def reward(self, action: np.ndarray) -> Any:
        return -float(np.abs(action - 0.4).sum())

    def render(self) -> Any:
        return np.zeros((16, 16, 3), dtype=np.uint8)


# --- accepted ---------------------------------------------------------------------------------------------------------


class Scaled(Own):
    """The box differs per dimension; the best action is 0.7 of the way from its lower to its upper bound."""

    length = 1
    low, high = np.array([100, 0, -0.001, -1]), np.array([200, 10, 0.001, 1])
    action_space = Box(low, high, dtype=np.float64)

    def observe(self) -> Any:
        return np.zeros(3, dtype=np.float32)

    def reward(self, action: np.ndarray) -> Any:
        return -float(np.abs((action - self.low) / (self.high - self.low) - 0.7).sum())


class OwnBuffer(Own):
    def __init__(self, render_mode: str | None = None) -> None:
        self.buffer = np.zeros(3, dtype=np.float32)

    def observe(self) -> Any:
        self.buffer[:] = self.time
        return self.buffer


class ListObservation(Own):
    def observe(self) -> Any:
        return [self.time, 0.5, 0]


class IntReward(Own):
    def reward(self, action: np.ndarray) -> Any:
        return 1


class ArrayReward(Own):
    def reward(self, action: np.ndarray) -> Any:
        return np.array([1.0])


class Float64(Own):
    observation_space = Box(-10.0, 10.0, (3,), np.float64)
    action_space = Box(-2.0, 2.0, (1,), np.float64)


class Float16Action(Own):
    action_space = Box(-3.0, 0.1, (1,), np.float16)


class LargestBox(Own):
    action_space = Box(np.finfo(np.float32).min, np.finfo(np.float32).max, (1,))

    def reward(self, action: np.ndarray) -> Any:
        return 0.0


class EqualBounds(Own):
    action_space = Box(np.array([2, -1], dtype=np.float32), np.array([2, 1], dtype=np.float32))


class Float16Observation(Own):
    observation_space = Box(-10.0, 10.0, (3,), np.float16)

    def observe(self) -> Any:
        return np.full(3, self.time, dtype=np.float16)


class BytesObservation(Own):
    observation_space = Box(0, 255, (3,), np.uint8)

    def observe(self) -> Any:
        return np.full(3, self.time, dtype=np.uint8)


class ChangesItsAction(Own):
    def reward(self, action: np.ndarray) -> Any:
        action *= 0
        return 0.0


class OddInfo(Own):
    def step(self, action: np.ndarray) -> Any:
        return *super().step(action)[:4], {"x": np.zeros(self.time), "final_obs": self.time}


class Long(Own):
    length = 50


class Endless(Own):
    length = float("inf")


class NoFrameRate(Own):
    metadata: Any = {"render_modes": ["rgb_array"], "render_fps": None}  # noqa: RUF012


ACCEPTED = (
    OwnBuffer, ListObservation, IntReward, ArrayReward, Float64, Float16Action, LargestBox, EqualBounds,
    BytesObservation, Float16Observation, ChangesItsAction, OddInfo, NoFrameRate,
)  # fmt: skip


# --- refused ----------------------------------------------------------------------------------------------------------


class Unbounded(Own):
    action_space = Box(-np.inf, np.inf, (1,))


class HalfBounded(Own):
    action_space = Box(np.array([-1, 0], dtype=np.float32), np.array([1, np.inf], dtype=np.float32))


class IntAction(Own):
    action_space = Box(0, 5, (1,), np.int32)


class NoAction(Own):
    action_space = Box(-1.0, 1.0, (0,))


class ScalarAction(Own):
    action_space = Box(-1.0, 1.0, ())


class MatrixAction(Own):
    action_space = Box(-1.0, 1.0, (2, 2))


class BinaryAction(Own):
    action_space = gym.spaces.MultiBinary(3)


class DictObservation(Own):
    observation_space = gym.spaces.Dict({"a": Box(-1.0, 1.0, (3,))})


class Image(Own):
    observation_space = Box(0, 255, (84, 84, 3), np.uint8)


class NoObservation(Own):
    observation_space = Box(-1.0, 1.0, (0,))


class NoSpaces(gym.Env):
    pass


class WrongShape(Own):
    def observe(self) -> Any:
        return np.zeros(4, dtype=np.float32)


class WrongType(Own):
    observation_space = Box(0, 255, (3,), np.uint8)


class SmallIntegers(Own):
    """The observation is of a wider type than its space; 200 does not fit, and would become -56."""

    observation_space = Box(-128, 127, (3,), np.int8)

    def observe(self) -> Any:
        return np.array([0, 200 if self.time == 7 else 1, 0])


class OtherByteOrder(Own):
    observation_space = Box(-10.0, 10.0, (3,), np.dtype(np.float32).newbyteorder())


class OtherByteOrderAction(Own):
    action_space = Box(-1.0, 1.0, (1,), np.dtype(np.float64).newbyteorder())


class TextObservation(Own):
    def observe(self) -> Any:
        return ["a", "b", "c"]


class LostObservation(Own):
    def observe(self) -> Any:
        return None


class NanObservation(Own):
    def observe(self) -> Any:
        return np.array([0.0, np.nan if self.time == 7 else 0.0, 0.0])


class InfiniteObservation(Own):
    def observe(self) -> Any:
        return np.array([0.0, 0.0, -np.inf])


class NanReward(Own):
    def reward(self, action: np.ndarray) -> Any:
        return float("nan") if self.time == 7 else 0.0


class InfiniteReward(Own):
    def reward(self, action: np.ndarray) -> Any:
        return float("-inf")


class NoReward(Own):
    def reward(self, action: np.ndarray) -> Any:
        return None


class TwoRewards(Own):
    def reward(self, action: np.ndarray) -> Any:
        return np.array([1.0, 2.0])


class FourValues(Own):
    def step(self, action: np.ndarray) -> Any:
        return self.observe(), 0.0, False, {}


class StepFails(Own):
    def step(self, action: np.ndarray) -> Any:
        return [][self.time]


class OnlyObservation(Own):
    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        return self.observe()


class NoSeed(Own):
    def reset(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.observe(), {}


class NoOptions(Own):
    def reset(self, seed: int | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.observe(), {}


class NeedsArguments(Own):
    def __init__(self, size: int, render_mode: str | None = None) -> None:
        self.size = size


class MissingPackage(Own):
    def __init__(self, render_mode: str | None = None) -> None:
        raise ModuleNotFoundError("No module named 'my_physics'")


class MissingFile(Own):
    def __init__(self, render_mode: str | None = None) -> None:
        raise FileNotFoundError(2, "No such file", "map.txt")


class CloseFails(Own):
    def close(self) -> None:
        raise OSError("the port is busy")


class NoMetadata(Own):
    metadata: Any = None


REFUSED: dict[type, tuple[str, ...]] = {  # environment -> words of the message
    Unbounded: ("actions", "finite bounds"),
    HalfBounded: ("actions", "finite bounds"),
    IntAction: ("actions", "int32", "floats"),
    NoAction: ("actions", "(0,)"),
    ScalarAction: ("actions", "()"),
    MatrixAction: ("actions", "(2, 2)"),
    BinaryAction: ("actions", "MultiBinary"),
    DictObservation: ("observations", "Dict"),
    Image: ("observations", "(84, 84, 3)"),
    NoObservation: ("observations", "(0,)"),
    NoSpaces: ("observation_space",),
    WrongShape: ("reset", "(4,)", "(3,)"),
    WrongType: ("reset", "float32", "uint8"),
    SmallIntegers: ("step 7", "number 1", "200", "int8"),
    OtherByteOrder: ("observations", "f4", "PyTorch"),
    OtherByteOrderAction: ("actions", "f8", "PyTorch"),
    TextObservation: ("reset", "<U1", "float32"),
    LostObservation: ("reset", "()", "(3,)"),
    NanObservation: ("step 7", "observation", "nan", "iteration 1"),
    InfiniteObservation: ("reset", "observation", "-inf"),
    NanReward: ("step 7", "reward", "nan", "iteration 1"),
    InfiniteReward: ("step 1 ", "reward", "-inf"),
    NoReward: ("step 1 ", "NoneType", "step(action) must return"),
    TwoRewards: ("step 1 ", "size 1", "step(action) must return"),
    FourValues: ("step 1 ", "got 4", "step(action) must return"),
    StepFails: ("step 1 ", "IndexError", "own_environments.py, line"),
    OnlyObservation: ("reset", "unpack", "must return (observation, info)"),
    NoSeed: ("reset", "'seed'", "must return (observation, info)"),
    NoOptions: ("reset", "'options'", "must return (observation, info)"),
    NeedsArguments: ("'size'", "nothing but its id"),
    MissingPackage: ("my_physics",),
    MissingFile: ("map.txt",),
    CloseFails: ("close", "the port is busy"),
    NoMetadata: ("metadata",),
}


# --- cannot be recorded -----------------------------------------------------------------------------------------------


class OldMetadata(Own):
    metadata: Any = {"render.modes": ["human"]}  # noqa: RUF012


class NoModes(Own):
    metadata: Any = {"render_modes": None}  # noqa: RUF012


class LostFrame(Own):
    def render(self) -> Any:
        return None


class FloatFrame(Own):
    def render(self) -> Any:
        return np.zeros((16, 16, 3))


class FrameFails(Own):
    def render(self) -> Any:
        raise gym.error.DependencyNotInstalled("a drawing library is not installed")


class NoRenderMode(Own):
    def __init__(self) -> None:
        pass


NOT_RECORDED: dict[type, str] = {  # environment -> words of the message
    OldMetadata: "render modes",
    NoModes: "render modes",
    LostFrame: "NoneType",
    FloatFrame: "uint8",
    FrameFails: "a drawing library",
    NoRenderMode: "render_mode",
}


def id_of(environment: type) -> str:
    """Return the id that the environment is registered with."""
    return f"{environment.__name__}-v0"


def register(environment: Any, max_episode_steps: int | None = None) -> str:
    """Register an environment and return its id."""
    gym.register(id_of(environment), entry_point=environment, max_episode_steps=max_episode_steps)
    return id_of(environment)


for each in (Own, Scaled, Long, Endless, *ACCEPTED, *REFUSED, *NOT_RECORDED):
    register(each)
