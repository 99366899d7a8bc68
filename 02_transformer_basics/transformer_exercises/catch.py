"""The functions of lesson 2 whose mistakes one input can catch. Imports no torch; `lab catch` uses it.

Shapes: B batch, T time, Tq queries, Tk keys, D head size, Dv size of a value, E embedding, V vocabulary, P positions.
"""

from lab.exercises.catch import CatchTask
from lab.exercises.catch_inputs import Numbers

LOGITS = Numbers(float, "(B, V)")
ATTENTION = {
    "query": Numbers(float, "(..., Tq, D)"),
    "key": Numbers(float, "(..., Tk, D)"),
    "value": Numbers(float, "(..., Tk, Dv)"),
}

CATCH = {
    "softmax": CatchTask(
        {"x": Numbers(float, "any"), "dim": Numbers(int)},
        start={"x": [0.0, 1.0], "dim": 0},
        best={"x": [[[120.0], [4000.0]], [[-0.5], [20.0]], [[-2.0], [0.0]]], "dim": -2},
    ),
    "attention": CatchTask(
        ATTENTION,
        start={"query": [[1.0]], "key": [[0.0], [1.0]], "value": [[2.0], [4.0]]},
        best={
            "query": [[[[0.0, 1.0, 128.0]], [[-1.0, 0.0, 1.0]]]],
            "key": [[[[-2.0, 192.0, 64.0], [-1.0, 4.0, -256.0]], [[0.5, -1.0, 1.0], [-3.0, 1.0, 1.0]]]],
            "value": [[[[1.0], [1.5]], [[-3.0], [-3.0]]]],
        },
    ),
    "causal_mask": CatchTask(
        {"queries": Numbers(int, low=1, high=20), "keys": Numbers(int, low="queries", high=2000)},
        start={"queries": 1, "keys": 1},
        best={"queries": 2, "keys": 1500},
    ),
    "masked_attention": CatchTask(
        ATTENTION | {"mask": Numbers(bool, "any")},
        start={"query": [[1.0]], "key": [[0.0], [1.0]], "value": [[2.0], [4.0]], "mask": [[True, True]]},
        best={
            "query": [[[0.5, -256.0], [-256.0, 64.0], [1.0, 192.0]], [[0.0, -3.0], [0.0, 2.0], [0.0, -1.0]]],
            "key": [[[0.0, -2.0], [-3.0, 2.0], [128.0, -1.0]], [[0.0, 1.5], [-3.0, 0.5], [0.0, 2.0]]],
            "value": [[[-3.0], [0.5], [2.0]], [[1.0], [-2.0], [-2.0]]],
            "mask": [[True, True, True], [False, False, True], [False, False, False]],
        },
    ),
    "layer_norm": CatchTask(
        {
            "x": Numbers(float, "(..., E)"),
            "weight": Numbers(float, "(E,)"),
            "bias": Numbers(float, "(E,)"),
            "eps": Numbers(float, low=0),
        },
        start={"x": [[1.0, -1.0]], "weight": [1.0, 1.0], "bias": [0.0, 0.0], "eps": 0.0},
        best={
            "x": [[[-2.0, -3.0, -1.5], [-2.0, -3.0, 2.0]]],
            "weight": [-0.5, -1.5, 1.5],
            "bias": [1.0, -3.0, 0.5],
            "eps": 0.25,
        },
    ),
    "embed": CatchTask(
        {
            "token_ids": Numbers(int, "(B, T)", below="V"),
            "token_table": Numbers(float, "(V, E)"),
            "position_table": Numbers(float, "(P, E)"),
            "past": Numbers(int, low=0, high=1000),
        },
        start={"token_ids": [[0]], "token_table": [[1.0]], "position_table": [[2.0]], "past": 0},
        best={
            "token_ids": [[0, 1], [0, 1]],
            "token_table": [[-1.0, 1.0], [1.0, -3.0]],
            "position_table": [[-3.0, -3.0], [1.5, 0.5], [-3.0, -2.0], [-1.0, -1.0], [-1.0, -3.0], [1.0, 1.0]],
            "past": 1,
        },
    ),
    "sampling_probabilities": CatchTask(
        {
            "logits": LOGITS,
            "temperature": Numbers(float, low=0),
            "top_k": Numbers(int, low=1, optional=True),
        },
        start={"logits": [[0.0, 1.0, 2.0]], "temperature": 1.0, "top_k": None},
        best={
            "logits": [[-996.0, -999.0, -998.0], [-1000.0, -999.0, -1003.0]],
            "temperature": 0.25,
            "top_k": 2,
        },
    ),
    "top_p_filter": CatchTask(
        {"logits": LOGITS, "p": Numbers(float, low=0.001, high=1)},
        start={"logits": [[0.0, 1.0, 2.0]], "p": 1.0},
        best={"logits": [[998.0, 997.0, 1001.0], [1002.0, 1001.0, 1004.0]], "p": 0.875},
    ),
    "next_token_loss": CatchTask(
        {
            "logits": Numbers(float, "(B, T, V)"),
            "token_ids": Numbers(int, "(B, T)", below="V"),
            "attention_mask": Numbers(int, "(B, T)", low=0, high=1),
        },
        start={"logits": [[[0.0, 1.0], [0.0, 1.0]]], "token_ids": [[1, 1]], "attention_mask": [[1, 1]]},
        best={
            "logits": [
                [[1000.5, 1001.5], [1000.0, 1004.0], [1000.5, 1004.0]],
                [[1000.0, 999.0], [1004.0, 999.5], [998.0, 1000.0]],
                [[1000.0, 999.0], [1000.0, 1000.0], [1004.0, 1003.0]],
            ],
            "token_ids": [[1, 0, 1], [1, 1, 0], [1, 0, 0]],
            "attention_mask": [[1, 0, 1], [0, 0, 1], [1, 1, 1]],
        },
    ),
}
