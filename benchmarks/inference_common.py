"""What the libraries of benchmarks/inference_peers.py share."""

from collections.abc import Callable

from models.batching import TOKENS_PER_BATCH, batches_by_length

Tokens = list[list[int]]  # token ids of several prompts or texts
Rows = list[list[float]]  # class probabilities of several texts
Generator = Callable[[Tokens, int], Tokens]  # prompts, number of new tokens -> the new tokens
Classifier = Callable[[Tokens], Rows]


def in_batches(classify: Classifier) -> Classifier:
    """Return a function that classifies any number of texts, in the batches by length that our models use."""

    def run(texts: Tokens) -> Rows:
        rows: Rows = [[]] * len(texts)
        for numbers in batches_by_length([len(text) for text in texts], TOKENS_PER_BATCH):
            for number, row in zip(numbers, classify([texts[number] for number in numbers]), strict=True):
                rows[number] = row
        return rows

    return run
