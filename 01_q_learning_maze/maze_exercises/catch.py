"""The functions of lesson 1 whose mistakes one input can catch. Imports no torch; `lab catch` uses it.

# T rewards, A actions, S states
"""

from lab.exercises.catch import CatchTask
from lab.exercises.catch_inputs import Numbers, Outcomes

FRACTION = Numbers(float, low=0, high=1)

CATCH = {
    "discounted_return": CatchTask(
        {"rewards": Numbers(float, "(T,)", tensor=False), "gamma": FRACTION},
        start={"rewards": [0.0, 1.0], "gamma": 1.0},
        best={"rewards": [3.0, -1.0, -0.5], "gamma": 0.75},
    ),
    "td_target": CatchTask(
        {
            "reward": Numbers(float),
            "next_values": Numbers(float, "(A,)", tensor=False),
            "terminated": Numbers(bool),
            "truncated": Numbers(bool),
            "gamma": FRACTION,
        },
        start={"reward": 1.0, "next_values": [0.0, 2.0], "terminated": False, "truncated": False, "gamma": 1.0},
        best={"reward": -2.0, "next_values": [-3.0, -0.5, -1.0], "terminated": False, "truncated": True, "gamma": 0.25},
    ),
    "decayed_epsilon": CatchTask(
        {"epsilon": FRACTION, "decay": FRACTION, "minimum": FRACTION},
        start={"epsilon": 1.0, "decay": 0.5, "minimum": 0.0},
        best={"epsilon": 0.5, "decay": 0.125, "minimum": 0.25},
    ),
    "backup": CatchTask(
        {"outcomes": Outcomes("S"), "values": Numbers(float, "(S,)", tensor=False), "gamma": FRACTION},
        start={"outcomes": [(1.0, 0, 2.0, False)], "values": [4.0], "gamma": 0.5},  # a certain outcome
        best={"outcomes": [(0.25, 1, 2.0, False), (0.75, 0, -3.0, True)], "values": [4.0, 2.0], "gamma": 0.75},
    ),
    "td_loss": CatchTask(
        {"values": Numbers(float, "(...)"), "targets": Numbers(float, "(...)")},
        start={"values": [2.0], "targets": [2.0]},  # nothing to learn
        best={"values": [-2.0, -1.5], "targets": [-1.5, 3.0]},
        gradients=("values", "targets"),
    ),
}
