"""The table of `text_generation.py --show_probs`: the probability of each new token, and the most likely ones.

Shapes: B batch, T tokens of the longest prompt, N new tokens, V vocabulary.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.texts import printable
from models.batching import pad_left
from models.generation import Sampling, token_probabilities
from models.hub import LoadedModel

Steps = list[dict[str, Any]]  # of one text: each token, its probability, and the most likely tokens with theirs


@torch.inference_mode()
def step_probabilities(
    own: LoadedModel, prompts: list[str], rows: list[list[int]], sampling: Sampling, count: int, device: torch.device
) -> list[Steps]:
    """Return, for each new token of a batch of texts, its probability and the most likely ones when it was chosen.

    The steps of the generation are taken again with the same batch: int8 rounds the inputs of all texts together.

    Args:
        own: our own GPT-2.
        rows: the new tokens of each prompt.
        count: of the most likely tokens.
    """
    input_ids, mask = pad_left(own.tokenizer(prompts)["input_ids"], device)  # (B, T)
    prompt_length, num_steps = input_ids.shape[1], max(map(len, rows))
    new = [row + row[-1:] * (num_steps - len(row)) for row in rows]  # a row that is done repeats its stop token
    tokens = torch.cat([input_ids, torch.tensor(new, device=device)], dim=1)  # (B, T + N)
    cache = own.model.new_cache(len(prompts), tokens.shape[1])
    steps: list[Steps] = [[] for _ in prompts]
    for length in range(prompt_length, tokens.shape[1]):
        inputs = input_ids if length == prompt_length else tokens[:, length - 1 : length]
        seen = None if mask is None else F.pad(mask, (0, length - prompt_length), value=1)  # (B, length)
        logits = own.model(inputs, seen, cache, last_only=True)[:, -1].float()  # (B, V)
        probabilities = token_probabilities(logits, tokens[:, :length], seen, sampling)  # (B, V)
        for row, row_steps, row_probabilities in zip(rows, steps, probabilities, strict=True):
            if len(row_steps) < len(row):
                row_steps.append(describe_step(own, row[len(row_steps)], row_probabilities, count))
    return steps


def describe_step(own: LoadedModel, token: int, probabilities: Tensor, count: int) -> dict[str, Any]:
    """Return a token and its probability, and the `count` most likely of all probabilities (V,)."""
    top = probabilities.topk(min(count, len(probabilities)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    most_likely = [[own.tokenizer.decode([candidate]), p] for candidate, p in pairs if p > 0]
    return {
        "token": own.tokenizer.decode([token]),
        "probability": float(probabilities[token]),
        "likeliest": most_likely,
    }


def show_steps(steps: Steps) -> None:
    """Print a line for each step: the token that was chosen, then the most likely ones, spaces as `␣`."""
    for number, step in enumerate(steps, 1):
        most_likely = "  ".join(f"{visible(token):<10} {p:4.0%}" for token, p in step["likeliest"])
        print(f"{number:4} {visible(step['token']):<12} {step['probability']:4.0%} | {most_likely}")
    print()


def visible(token: str) -> str:
    """Return a token with its spaces and line breaks made visible."""
    return printable(token).replace(" ", "␣").replace("\n", "⏎")
