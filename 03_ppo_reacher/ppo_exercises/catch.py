"""The functions of lesson 3 whose mistakes one input can catch. Imports no torch; `lab catch` uses it.

# T steps of a rollout, N environments, B batch, A action_dim
"""

from lab.exercises.catch import CatchTask
from lab.exercises.catch_inputs import Numbers

FRACTION = Numbers(float, low=0, high=1)
STEPS = Numbers(float, "(T, N)")
FLAGS = Numbers(bool, "(T, N)")
ACTIONS = Numbers(float, "(B, A)")
DEVIATIONS = Numbers(float, "(A,)", low=-10, high=10)
BATCH = Numbers(float, "(B,)")
ROLLOUT = {"rewards": STEPS, "values": STEPS, "next_values": STEPS, "terminated": FLAGS, "truncated": FLAGS}

CATCH = {
    "log_prob": CatchTask(
        {"mean": ACTIONS, "log_std": DEVIATIONS, "action": ACTIONS},
        start={"mean": [[0.0]], "log_std": [0.0], "action": [[1.0]]},
        best={"mean": [[4.0, -2.0]], "log_std": [1.0, 0.0], "action": [[-1.0, 38.0]]},
    ),
    "sample_action": CatchTask(
        {
            "mean": ACTIONS,
            "log_std": DEVIATIONS,
            "noise": ACTIONS,
            "low": Numbers(float, "(A,)"),
            "high": Numbers(float, "(A,)"),
        },
        start={"mean": [[0.0]], "log_std": [0.0], "noise": [[0.5]], "low": [-1.0], "high": [1.0]},
        best={
            "mean": [[-2.0, 0.5], [-3.0, -1.5]],
            "log_std": [1.0, -0.5],
            "noise": [[-0.5, -3.0], [1.5, 1.0]],
            "low": [-0.5, -1.0],
            "high": [0.5, 0.75],
        },
    ),
    "td_errors": CatchTask(
        ROLLOUT | {"discount": FRACTION},
        start={
            "rewards": [[1.0]],
            "values": [[2.0]],
            "next_values": [[3.0]],
            "terminated": [[False]],
            "truncated": [[False]],
            "discount": 0.5,
        },
        best={
            "rewards": [[-3.0, 2.0], [-2.0, -3.0]],
            "values": [[-1.5, 1.5], [-1.5, -1.0]],
            "next_values": [[4.0, 2.0], [0.5, -0.5]],
            "terminated": [[True, False], [True, False]],
            "truncated": [[False, False], [True, True]],
            "discount": 0.25,
        },
    ),
    "compute_gae": CatchTask(
        ROLLOUT | {"discount": FRACTION, "gae_lambda": FRACTION},
        start={  # no episode ends, and the critic expects nothing
            "rewards": [[1.0], [2.0]],
            "values": [[0.0], [0.0]],
            "next_values": [[0.0], [0.0]],
            "terminated": [[False], [False]],
            "truncated": [[False], [False]],
            "discount": 1.0,
            "gae_lambda": 1.0,
        },
        best={
            "rewards": [[0.0, -3.0, -1.5, -3.0], [-3.0, 0.5, 3.0, 0.0]],
            "values": [[-1.5, 3.0, 4.0, -2.0], [3.0, -1.0, -3.0, -1.5]],
            "next_values": [[-1.0, -1.5, -1.0, 0.5], [1.5, -1.5, -1.5, -1.0]],
            "terminated": [[False, True, False, True], [False, False, True, False]],
            "truncated": [[True, True, False, False], [False, False, False, False]],
            "discount": 0.875,
            "gae_lambda": 0.75,
        },
    ),
    "value_targets": CatchTask(
        {"advantages": STEPS, "values": STEPS},
        start={"advantages": [[1.0]], "values": [[0.0]]},
        best={"advantages": [[0.5], [1.5]], "values": [[4.0], [-0.5]]},
    ),
    "normalize_advantages": CatchTask(
        {"advantages": BATCH},
        start={"advantages": [1.0, -1.0]},
        best={"advantages": [-2.0, -0.5, -2.0]},
    ),
    "policy_loss": CatchTask(
        {
            "log_probs": BATCH,
            "old_log_probs": BATCH,
            "advantages": BATCH,
            "clip_ratio": Numbers(float, low=0.001, high=1),
        },
        start={"log_probs": [-1.0], "old_log_probs": [-1.125], "advantages": [1.0], "clip_ratio": 0.25},  # no clipping
        best={
            "log_probs": [-0.25, -1.5, -2.0],
            "old_log_probs": [-0.5, -2.0, -1.25],
            "advantages": [0.5, -1.0, -0.5],
            "clip_ratio": 0.25,
        },
        gradients=("log_probs",),
    ),
    "value_loss": CatchTask(
        {"predictions": Numbers(float, "(B,) or (B, 1)"), "targets": BATCH},
        start={"predictions": [2.0], "targets": [2.0]},  # nothing to learn
        best={"predictions": [-3.0, 0.5], "targets": [4.0, -1.5]},
        gradients=("predictions", "targets"),
    ),
}
