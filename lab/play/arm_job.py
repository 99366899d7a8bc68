"""The arm pane: watch `ppo.train` while it runs, and an arm that moves with the newest weights in real time.

There is no second training loop: one thread consumes the records of `ppo.train`; this one moves another arm, answers
the messages of the page, and shows both.
"""

import json
import math
import time
from typing import Any

import torch

from agent import TrainedAgent, load_agent, make_agent
from controllers import Policy, inverse_kinematics_controller
from lab.devices import one_thread
from lab.errors import UserError
from lab.files import ROOT
from lab.play.arm_player import Player, resting
from lab.play.arm_training import Training
from lab.play.worker import Control, Message
from ppo_config import PPOConfig
from reacher_vec import STEP_SECONDS

PANE = "arm"
SCRIPT = "03_ppo_reacher/train.py"  # whose --with the learner's functions are
RESULTS = ROOT / "03_ppo_reacher/results"
ENV_ID = PPOConfig().env_id
LOOKS_PER_SECOND = 10  # at the training, at most: they take time from it
LINES = ("random policy", "inverse kinematics + PD")  # of the curve of returns


def reference_lines() -> dict[str, float]:
    """Return the mean returns of policies without learning, as `train.py` has measured them."""
    path = RESULTS / "train.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if record.get("config", {}).get("ppo", {}).get("env_id") != ENV_ID:
        return {}  # somebody has trained something else there
    return {name: record["results"]["baselines"][name] for name in LINES}


def bundled_agent() -> TrainedAgent:
    """Return the bundled trained model. Raises UserError if it is missing or no model of this arm."""
    path = RESULTS / "trained_model.pth"
    if not path.exists():
        raise UserError("there is no trained model in 03_ppo_reacher/results; train.py writes one")
    trained = load_agent(path)
    if trained.config.env_id != ENV_ID:
        raise UserError(f"the model in 03_ppo_reacher/results was trained on {trained.config.env_id}, not on {ENV_ID}")
    return trained


def config_of(message: Message) -> PPOConfig:
    """Return the options of a training: a seed, and the detail of PPO that is left out, or ""."""
    without: dict[str, Any] = {message["without"]: False} if message["without"] else {}
    return PPOConfig(seed=message["seed"], **without)


def progress(rows: list[list[float]]) -> dict[str, float]:
    """Return how far a training is, and its newest return."""
    newest = rows[-1] if rows else [0, 0, math.nan]
    return {"iteration": newest[0], "steps": newest[1], "return": newest[2]}


class Policies:
    """The policies that the page can choose: what is learned now, the trained model, the controller.

    All that draws random numbers is done here, before a training starts.
    """

    def __init__(self, config: PPOConfig) -> None:
        self.problem = ""
        self.choices: dict[str, Policy] = {"controller": inverse_kinematics_controller(), "learning": resting}
        try:
            self.choices["trained"] = bundled_agent().policy()
        except UserError as error:
            self.problem = str(error)
        bounds = torch.ones(2)
        self.learner = TrainedAgent(make_agent(config, 10, 2), config, -bounds, bounds)
        self.weights: dict[str, Any] | None = None

    def load(self, weights: dict[str, Any] | None) -> None:
        """Let the policy that learns have these weights, if they are newer than its own."""
        if weights is not None and weights is not self.weights:
            self.learner.agent.load_state_dict(weights)
            self.weights = weights
            self.choices["learning"] = self.learner.policy()


class ArmJob:
    """One training, one arm, and what of them is shown."""

    def __init__(self, control: Control, message: Message) -> None:
        self.control = control
        config = config_of(message)
        self.policies = Policies(config)
        self.training = Training(config, math.inf if message["running"] else 0)
        self.player = Player()
        self.lines = reference_lines()
        self.shown_rows = -1  # in the last curve
        self.choose(message["policy"])

    def run(self, own_functions: list[str]) -> None:
        """Move the arm in real time until another job is wanted. Raises what has ended the training early."""
        next_step_at = time.perf_counter()
        self.training.start()
        try:
            while (error := self.training.error) is None:
                self.wait(next_step_at)
                if self.control.is_due(PANE, "curve", LOOKS_PER_SECOND):
                    self.look_at_training(own_functions)
                self.move()
                self.show()
                next_step_at = max(next_step_at, time.perf_counter() - 0.1) + STEP_SECONDS
            self.look_at_training(own_functions)
            self.show()
            raise error
        finally:
            self.training.end()

    def wait(self, until: float) -> None:
        """Answer messages until a moment."""
        early = 1.0
        while early > 0:
            early = until - time.perf_counter()
            for message in self.control.messages(max(early, 0)):
                self.answer(message)

    def answer(self, message: Message) -> None:
        """Do what a message says."""
        match message["do"]:
            case "pause":
                self.training.allow(lambda allowed: 0)
            case "resume":
                self.training.allow(lambda allowed: math.inf)
            case "step":
                self.training.allow(lambda allowed: 1 if math.isinf(allowed) else max(allowed, 0) + 1)
            case "target":
                self.player.move_target(message["x"], message["y"])
            case "policy":
                self.choose(message["policy"])

    def choose(self, policy: str) -> None:
        """Let another policy move the arm; the page is told if there is none."""
        is_there = policy in self.policies.choices
        self.control.show(PANE, "error", message="" if is_there else self.policies.problem)
        self.policy = policy if is_there else "controller"

    def look_at_training(self, own_functions: list[str]) -> None:
        """Show the curves, and let the policy that learns have the newest weights, if there is something new."""
        rows = list(self.training.rows)
        if len(rows) != self.shown_rows:
            self.shown_rows = len(rows)
            self.policies.load(self.training.weights)
            self.control.show(PANE, "curve", **progress(rows), **self.curve(rows, own_functions))

    def move(self) -> None:
        """Move the arm by one step of the environment."""
        self.player.policy = self.policies.choices[self.policy]
        self.player.starts_again = self.policy != "controller"
        self.player.step()

    def show(self) -> None:
        """Show the arm."""
        state = {
            "policy": self.policy,
            "has_learned": self.policies.weights is not None,
            "is_running": self.training.is_alive() and self.training.allowed > 0,
            "is_over": not self.training.is_alive(),
        }
        self.control.show(PANE, "state", **progress(self.training.rows), **state, **self.player.picture())

    def curve(self, rows: list[list[float]], own_functions: list[str]) -> dict[str, Any]:
        """Return what there is to see of the training: `arm_training.COLUMNS` of all iterations, and the baselines."""
        config = self.training.config
        return {
            "rows": rows,
            "iterations": config.num_iterations,
            "steps_per_iteration": config.steps_per_iter,
            "lines": self.lines,
            "own_functions": own_functions,
            "target": self.player.picture()["target"],
        }


def run(control: Control, message: Message) -> None:
    """Run the job of a start message."""
    with one_thread():
        job = ArmJob(control, message)
        with control.own_functions(SCRIPT) as own_functions:
            job.run(own_functions)
