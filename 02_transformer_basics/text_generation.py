"""Text that goes on from a prompt, with GPT-2: the Hugging Face pipeline's, or our own from scratch.

python text_generation.py                                      # built-in prompts
python text_generation.py "Once upon a time" --max_new_tokens 60 --temperature 0.7 --seed 3
python text_generation.py --file prompts.txt --json            # one prompt a line in, one JSON object a line out
echo "The old house" | python text_generation.py -
python text_generation.py --engine scratch --precision int8    # our own model, in 8 bits
python text_generation.py "Once upon a" --show_probs 5 --max_new_tokens 8
python text_generation.py --compare --temperature 0            # both engines side by side
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.text import Text
from torch import Tensor

from engines import reader, time_interleaved
from lab.devices import pick_device
from lab.errors import UserError, require_at_least
from lab.launch import launch, warn_once
from lab.record import RunRecord
from lab.seeding import check_seed, seed_everything
from lab.texts import collect_texts, printable
from models.batching import check_ids, pad_left
from models.generation import Sampling, token_probabilities
from models.gpt2 import GPT2
from models.hub import GENERATION, LoadedModel, load_folder, load_model
from models.internals import check_layer_and_head

EXAMPLES = ("Once upon a time", "The old man looked at the sea and", "It was a dark night, and")
Steps = list[dict[str, Any]]  # of one text: each token, its probability, and the likeliest with theirs


@dataclass(frozen=True)
class Config:
    """Continue each prompt with a language model."""

    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Prompts; `-` reads them from standard input, one a line. Built-in examples if there are none."""
    file: Path | None = None
    """UTF-8 file with one prompt a line."""
    model: str | None = None
    """Folder or Hugging Face hub name of a model. Default: the official GPT-2, or the lab's own offline."""
    engine: Literal["pipeline", "scratch"] = "pipeline"
    """Hugging Face's pipeline, or our own GPT-2 (gpt2.py, generation.py), which shows the text as it comes."""
    compare: bool = False
    """Run both engines on the same prompts and show them side by side."""
    precision: Literal["float32", "float16", "bfloat16", "int8"] = "float32"
    """Precision of our own engine's weights: fewer bits, more tokens a second (quantization.py)."""
    max_new_tokens: int = 40
    """Tokens to add to each prompt."""
    temperature: float = 0.8
    """Divides the logits before sampling: below 1 plays safe, above 1 dares; 0 always takes the likeliest token."""
    top_k: int | None = None
    """Draw from the k likeliest tokens only."""
    top_p: float | None = None
    """Draw from the fewest tokens that together have this probability."""
    repetition_penalty: float | None = None
    """Above 1: makes tokens that are there already less likely."""
    show_probs: int = 0
    """Show so many of the likeliest tokens at each step, with their probabilities."""
    show_attention: bool = False
    """Draw where the tokens of the first text look, in one head of our own model with the same weights."""
    layer: int = 0
    """Layer to draw, from 0."""
    head: int = 0
    """Head to draw, from 0."""
    seed: int = 0
    """Seed of the sampling."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or mps."""
    batch_size: int = 8
    """Prompts that go through the model together."""
    json: bool = False
    """Print one JSON object a line instead of text."""
    output_dir: Path = Path(__file__).parent / "results"
    """Folder for the picture and the record of the run."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "max_new_tokens", "batch_size")
        require_at_least(0, self, "show_probs")
        check_seed(self.seed)
        try:
            self.sampling()
        except UserError as error:  # its message begins with the field's name
            raise UserError(f"--{error}") from None
        if self.precision != "float32" and self.engine == "pipeline" and not self.compare:
            raise UserError(f"--precision {self.precision} is for our own engine; add --engine scratch or --compare")
        if (self.layer or self.head) and not self.show_attention:
            raise UserError("--layer and --head say what --show_attention draws; give that too")

    def sampling(self) -> Sampling:
        """How tokens are chosen. Raises UserError for values out of range."""
        return Sampling(self.temperature, self.top_k, self.top_p, self.repetition_penalty)


def check_prompts(loaded: LoadedModel, prompts: list[str], max_new_tokens: int) -> None:
    """Raise UserError for a prompt that does not fit the model's context together with the new tokens, for one without
    tokens, and for ids that the model has no embeddings for.
    """
    context = loaded.tokenizer.model_max_length
    for number, ids in enumerate(loaded.tokenizer(prompts, verbose=False)["input_ids"], 1):
        if not ids:
            raise UserError(f"prompt {number} has no tokens; the model has nothing to go on from")
        if len(ids) + max_new_tokens > context:
            raise UserError(
                f"prompt {number} has {len(ids)} tokens; with --max_new_tokens {max_new_tokens} that is more than the "
                f"{context} that the model can see"
            )
        try:
            check_ids(torch.tensor([ids]), loaded.model.config.vocab_size, len(ids))
        except UserError as error:
            raise UserError(f"{loaded.name}: its tokenizer does not belong to it: prompt {number}: {error}") from None


def continue_prompts(loaded: LoadedModel, prompts: list[str], config: Config) -> list[str]:
    """The new text for each prompt, without the prompt."""
    return [decode(loaded, ids) for ids in new_tokens(loaded, prompts, config)]


def decode(loaded: LoadedModel, ids: Sequence[int]) -> str:
    """The text of new tokens, without the one that ends a text."""
    return loaded.tokenizer.decode(ids, skip_special_tokens=True)


def new_tokens(loaded: LoadedModel, prompts: list[str], config: Config, streaming: bool = False) -> list[list[int]]:
    """The new tokens for each prompt, up to and with the one that ends a text. Both engines draw the same from a seed.

    `streaming`: our own engine shows prompts and text as they come.
    """
    seed_everything(config.seed)
    if not isinstance(loaded.model, GPT2):
        rows = _by_pipeline(loaded, prompts, config)
    else:
        torch.empty((), dtype=torch.long).random_()  # the pipeline's data loader draws a number before the first batch
        batches = (prompts[i : i + config.batch_size] for i in range(0, len(prompts), config.batch_size))
        rows = [row for batch in batches for row in _by_scratch(loaded, batch, config, streaming)]
    stop = loaded.tokenizer.eos_token_id
    return [row[: row.index(stop) + 1] if stop in row else row for row in rows]


def _by_pipeline(loaded: LoadedModel, prompts: list[str], config: Config) -> list[list[int]]:
    from transformers import GenerationConfig, pipeline  # here: it takes seconds, and our own model does without it

    loaded.tokenizer.pad_token = loaded.tokenizer.pad_token or loaded.tokenizer.eos_token
    loaded.tokenizer.padding_side = "left"  # the new tokens follow the prompt's last one directly
    greedy = config.temperature == 0
    settings = GenerationConfig(
        max_new_tokens=config.max_new_tokens,
        do_sample=not greedy,
        temperature=None if greedy else config.temperature,
        top_k=None if greedy else config.top_k or 0,  # 0: the whole distribution
        top_p=None if greedy else config.top_p,
        repetition_penalty=config.repetition_penalty,
        eos_token_id=loaded.tokenizer.eos_token_id,
        pad_token_id=loaded.tokenizer.pad_token_id,
    )
    device, size = pick_device(config.device), config.batch_size
    generator = pipeline("text-generation", model=loaded.model, tokenizer=loaded.tokenizer, device=device)
    with torch.inference_mode():
        answers: Any = generator(prompts, batch_size=size, generation_config=settings, return_tensors=True)
    lengths = [len(ids) for ids in loaded.tokenizer(prompts)["input_ids"]]
    padded = [max(lengths[i // size * size :][:size]) for i in range(len(prompts))]  # to the longest of the batch
    return [answer[0]["generated_token_ids"][length:] for answer, length in zip(answers, padded, strict=True)]


def _by_scratch(loaded: LoadedModel, prompts: list[str], config: Config, streaming: bool) -> list[list[int]]:
    """One batch of prompts, padded on the left, through our own GPT-2."""
    input_ids, attention_mask = pad_left(loaded.tokenizer(prompts)["input_ids"], pick_device(config.device))
    stop = loaded.tokenizer.eos_token_id
    steps = loaded.model.stream(
        input_ids,
        attention_mask,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        repetition_penalty=config.repetition_penalty,
        stop_tokens=None if stop is None else [stop],
    )
    chosen = list(show_while_it_comes(loaded, prompts, steps) if streaming else steps)
    return torch.stack(chosen, dim=1).tolist()  # N times (B,) -> (B, N)


def show_while_it_comes(loaded: LoadedModel, prompts: list[str], steps: Iterator[Tensor]) -> Iterator[Tensor]:
    """Pass `steps` (B,) on while printing the first text token by token; the others have come too when it ends."""
    console, rows = Console(highlight=False, soft_wrap=True), [[] for _ in prompts]
    console.print(Text(printable(prompts[0]), "bold"), end="")
    shown, stop = "", loaded.tokenizer.eos_token_id
    for chosen in steps:
        for row, token in zip(rows, chosen.tolist(), strict=True):
            row += [] if stop in row else [token]
        text = decode(loaded, rows[0])
        if not text.endswith("\ufffd"):  # half a character is no text
            print(printable(text[len(shown) :]), end="", flush=True)
            shown = text
        yield chosen
    print(printable(decode(loaded, rows[0])[len(shown) :]), end="\n\n")
    for prompt, row in zip(prompts[1:], rows[1:], strict=True):
        console.print(Text(printable(prompt), "bold"), Text(printable(decode(loaded, row))), "\n", sep="")


@torch.inference_mode()
def probabilities_of_steps(inside: LoadedModel, prompt: str, new: list[int], config: Config) -> Steps:
    """For each new token: its probability, and those of the `show_probs` likeliest, as they were when it was chosen."""
    start = inside.tokenizer([prompt])["input_ids"][0]
    tokens = torch.tensor([[*start, *new]], device=pick_device(config.device))  # (1, T)
    logits = inside.model(tokens)[0].float()  # (1, T, V) -> (T, V)
    steps = []
    for place in range(len(start), tokens.shape[1]):
        row = token_probabilities(logits[place - 1 : place], tokens[:, :place], None, config.sampling())[0]  # (V,)
        likeliest = row.topk(min(config.show_probs, len(row)))
        pairs = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        chosen = int(tokens[0, place])
        named = [[inside.tokenizer.decode([token]), p] for token, p in pairs if p > 0]
        steps.append(
            {"token": inside.tokenizer.decode([chosen]), "probability": float(row[chosen]), "likeliest": named}
        )
    return steps


def show_steps(steps: Steps) -> None:
    """A line for each step: the token that was chosen, then the likeliest, spaces shown as `␣`."""
    for number, step in enumerate(steps, 1):
        likeliest = "  ".join(f"{visible(token):<10} {p:4.0%}" for token, p in step["likeliest"])
        print(f"{number:4} {visible(step['token']):<12} {step['probability']:4.0%} | {likeliest}")
    print()


def visible(token: str) -> str:
    """A token with its spaces and line breaks to be seen."""
    return printable(token).replace(" ", "␣").replace("\n", "⏎")


def compare(engines: dict[str, LoadedModel], prompts: list[str], config: Config, record: RunRecord) -> None:
    """Run both engines on `prompts`, show them side by side, and note the difference."""
    answers = time_interleaved({name: partial(new_tokens, loaded, prompts, config) for name, loaded in engines.items()})
    speeds = {name: sum(map(len, rows)) / seconds for name, (rows, seconds) in answers.items()}
    theirs, ours = answers["pipeline"][0], answers["scratch"][0]
    if not config.json:
        for prompt, *pair in zip(prompts, theirs, ours, strict=True):
            print(printable(prompt))
            for name, row in zip(engines, pair, strict=True):
                print(f"  {name:<9}{printable(decode(engines[name], row))!r}")
    difference = max(
        largest_difference(engines, prompt, new, config) for prompt, new in zip(prompts, theirs, strict=True)
    )
    same, exact = sum(a == b for a, b in zip(theirs, ours, strict=True)), config.precision == "float32"
    bound = "at most 1e-4" if exact else f"what {config.precision} costs"
    record.results["tokens_per_second"] = speeds
    record.check("largest difference of a probability", difference, bound, difference <= 1e-4 or not exact)
    record.check("texts that are the same", f"{same} of {len(prompts)}", "all, but for rounding", same > 0 or not exact)
    ratio = speeds["scratch"] / speeds["pipeline"]
    shown = f"pipeline {speeds['pipeline']:.0f}, scratch {speeds['scratch']:.0f}, {ratio:.2f} times"
    record.check("tokens a second", shown, "scratch is faster", ratio > 1.0)


@torch.inference_mode()
def largest_difference(engines: dict[str, LoadedModel], prompt: str, new: list[int], config: Config) -> float:
    """How far the two models' probabilities of the next token are apart, after every token of a text."""
    start = engines["scratch"].tokenizer([prompt])["input_ids"][0]
    tokens = torch.tensor([[*start, *new]], device=pick_device(config.device))  # (1, T)
    theirs, ours = engines["pipeline"].model(tokens).logits, engines["scratch"].model(tokens)  # (1, T, V) each
    return float((theirs.softmax(dim=-1) - ours.softmax(dim=-1)).abs().max())


def draw_attention_of(inside: LoadedModel, prompt: str, new: list[int], config: Config, path: Path) -> None:
    """The chosen head of our own model over the tokens of a prompt and its continuation."""
    from models.attention_plots import draw_head  # here: Matplotlib takes a second, and the text comes first

    ids = [*inside.tokenizer([prompt])["input_ids"][0], *new]
    with torch.inference_mode():
        attentions = inside.model.look_inside(torch.tensor([ids], device=pick_device(config.device))).attentions
    labels = [visible(inside.tokenizer.decode([token])) for token in ids]
    draw_head(attentions, config.layer, config.head, labels, path, causal=True)


def show(results: list[dict[str, Any]], config: Config, name: str, streamed: bool) -> None:
    """Prompt and continuation, and the table of the steps where it was asked for."""
    console = Console(highlight=False, soft_wrap=True)
    for result in results:
        if config.json:
            print(json.dumps({**result, "model": name}))
            continue
        prompt, new = printable(result["prompt"]), printable(result["continuation"])
        if not streamed:
            console.print(Text(prompt, "bold"), Text(new), "\n", sep="")
        if "steps" in result:
            print(f"step token       chance | the {config.show_probs} likeliest after {prompt[-40:]!r}")
            show_steps(result["steps"])


def main(config: Config) -> None:
    """Load, continue, print, draw, record."""
    prompts = collect_texts(config.texts, config.file, EXAMPLES)
    own = reader(config.precision, pick_device(config.device))
    record = RunRecord(__file__, config.output_dir, config)
    loaded = load_model(GENERATION, config.model, own if config.engine == "scratch" else None)
    if loaded.note:
        warn_once(loaded.note)
    inside = loaded  # our own model, where something is asked that only it can tell
    if config.engine != "scratch" and (config.compare or config.show_probs or config.show_attention):
        inside = own(GENERATION, loaded.folder, loaded.name)
    if config.show_attention:
        check_layer_and_head(inside.model.config.n_layer, inside.model.config.n_head, config.layer, config.head)
    check_prompts(loaded, prompts, config.max_new_tokens)
    streamed = config.engine == "scratch" and sys.stdout.isatty() and not (config.json or config.compare)
    rows = new_tokens(loaded, prompts, config, streamed)
    results: list[dict[str, Any]] = [
        {"prompt": prompt, "continuation": decode(loaded, row)} for prompt, row in zip(prompts, rows, strict=True)
    ]
    for result, row in zip(results, rows, strict=True):
        if config.show_probs:
            result["steps"] = probabilities_of_steps(inside, result["prompt"], row, config)
    record.results = {"model": loaded.name, "engine": config.engine, "texts": results}
    if config.compare:
        theirs = loaded if config.engine == "pipeline" else load_folder(GENERATION, loaded.folder, loaded.name)
        compare({"pipeline": theirs, "scratch": inside}, prompts, config, record)
    if config.json or not config.compare:
        show(results, config, loaded.name, streamed)
    if config.show_attention:
        draw_attention_of(inside, prompts[0], rows[0], config, record.file("generation_attention.png"))
        record.results["attention"] = {"text": prompts[0], "layer": config.layer, "head": config.head}
    shown = f"{prompts[0]} ...{' '.join(results[0]['continuation'].split())[:50]}"
    words = all(result["continuation"].split() for result in results)
    record.check("continuation", printable(shown), "some words for every prompt", words)
    record.save(quiet=config.json)


if __name__ == "__main__":
    launch(Config, main)
