"""Continue texts with GPT-2: the Hugging Face pipeline's, or our own from scratch.

python text_generation.py                                      # built-in prompts
python text_generation.py "Once upon a time" --max_new_tokens 60 --temperature 0.7 --seed 3
python text_generation.py --file prompts.txt --json            # one prompt per line in, one JSON object per line out
echo "The old house" | python text_generation.py -
python text_generation.py --engine scratch                     # our own model: the code of the lesson
python text_generation.py --engine scratch --accelerate        # the same model, faster; --precision int8: in 8 bits
python text_generation.py "Once upon a" --show_probs 5 --max_new_tokens 8
python text_generation.py --compare --temperature 0            # both engines side by side
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.text import Text
from torch import Tensor

from engines import CheckLogits, EngineOptions, load_own, loader, note_form, padding_token, time_interleaved
from lab.devices import pick_device
from lab.errors import UserError, require_at_least
from lab.launch import launch, warn_once
from lab.record import FLAT, RunRecord
from lab.seeding import check_seed, seed_everything
from lab.texts import collect_texts, printable
from models.batching import check_ids, pad_left
from models.generation import Sampling, stream
from models.gpt2 import GPT2
from models.hub import GENERATION, LoadedModel, load_folder, load_model
from models.internals import check_layer_and_head
from models.settings import ignored_generation_settings
from step_probabilities import show_steps, step_probabilities, visible

EXAMPLES = ("Once upon a time", "The old man looked at the sea and", "It was a dark night, and")


@dataclass(frozen=True)
class Config:
    """Continue each prompt with a language model."""

    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Prompts; `-` reads them from standard input, one per line. Default: built-in examples."""
    file: Path | None = None
    """UTF-8 file with one prompt per line."""
    model: str | None = None
    """Folder or Hugging Face hub name of a model. Default: the official GPT-2, or the bundled one offline."""
    engine: Literal["pipeline", "scratch"] = "pipeline"
    """Hugging Face's pipeline, or our own GPT-2 (models/gpt2.py), which prints the text as it is generated."""
    own_model: EngineOptions = field(default_factory=EngineOptions, metadata=FLAT)
    compare: bool = False
    """Run the pipeline and our own model on the same prompts and show them side by side, with the time of each."""
    max_new_tokens: int = 40
    """Tokens to add to each prompt."""
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.8), metadata=FLAT)
    show_probs: int = 0
    """Show this many of the most likely tokens at each step, with their probabilities."""
    show_attention: bool = False
    """Draw the attention weights of one head of our own model over the first text."""
    layer: int = 0
    """Layer to draw, from 0."""
    head: int = 0
    """Head to draw, from 0."""
    seed: int = 0
    """Seed for sampling."""
    device: str = "auto"
    """auto (a GPU if available), cpu, cuda or mps."""
    batch_size: int = 8
    """Prompts per batch."""
    json: bool = False
    """Print one JSON object per line instead of text."""
    output_dir: Path = Path(__file__).parent / "results"
    """Folder for the plot and the record of the run."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "max_new_tokens", "batch_size")
        require_at_least(0, self, "show_probs")
        check_seed(self.seed)
        self.own_model.check(self.engine, self.compare)
        if (self.layer or self.head) and not self.show_attention:
            raise UserError("--layer and --head choose what --show_attention draws; add --show_attention")


def check_prompts(loaded: LoadedModel, prompts: list[str], max_new_tokens: int) -> None:
    """Raise UserError for a prompt that does not fit the model's context together with the new tokens, for one without
    tokens, and for ids that the model has no embeddings for.
    """
    context = loaded.tokenizer.model_max_length
    for number, ids in enumerate(loaded.tokenizer(prompts, verbose=False)["input_ids"], 1):
        if not ids:
            raise UserError(f"prompt {number} has no tokens; the model has nothing to continue")
        if len(ids) + max_new_tokens > context:
            raise UserError(
                f"prompt {number} has {len(ids)} tokens; with --max_new_tokens {max_new_tokens} that is more than the "
                f"model's context of {context}"
            )
        try:
            check_ids(torch.tensor([ids]), loaded.model.config.vocab_size, len(ids))
        except UserError as error:
            raise UserError(f"{loaded.name}: the tokenizer does not fit the model: prompt {number}: {error}") from None


def decode(loaded: LoadedModel, ids: Sequence[int]) -> str:
    """Return the text of new tokens, without the end-of-text token."""
    return loaded.tokenizer.decode(ids, skip_special_tokens=True)


def new_tokens(loaded: LoadedModel, prompts: list[str], config: Config, streaming: bool = False) -> list[list[int]]:
    """Return the new tokens for each prompt, up to the end-of-text token. Both engines sample the same from a seed.

    `streaming`: our own engine prints prompts and text as they are generated.
    """
    seed_everything(config.seed)
    rows, size = [], config.batch_size
    try:
        if not isinstance(loaded.model, GPT2):
            rows = _by_pipeline(loaded, prompts, config)
        else:
            torch.empty((), dtype=torch.long).random_()  # as the pipeline's data loader does before the first batch
            for start in range(0, len(prompts), size):
                rows += _by_scratch(loaded, prompts[start : start + size], config, streaming)
    except UserError as error:
        raise UserError(f"{loaded.name}: {error}") from None
    stop = loaded.tokenizer.eos_token_id
    return [row[: row.index(stop) + 1] if stop in row else row for row in rows]


def _by_pipeline(loaded: LoadedModel, prompts: list[str], config: Config) -> list[list[int]]:
    from transformers import GenerationConfig, pipeline  # here: it takes seconds, and our own model does not need it

    loaded.tokenizer.pad_token_id = padding_token(loaded)
    loaded.tokenizer.padding_side = "left"  # the new tokens follow the prompt's last one directly
    sampling = config.sampling
    greedy = sampling.temperature == 0
    settings = GenerationConfig(
        max_new_tokens=config.max_new_tokens,
        do_sample=not greedy,
        temperature=None if greedy else sampling.temperature,
        top_k=None if greedy else sampling.top_k or 0,  # 0: the whole distribution
        top_p=None if greedy else sampling.top_p,
        repetition_penalty=sampling.repetition_penalty,
        eos_token_id=loaded.tokenizer.eos_token_id,
        pad_token_id=loaded.tokenizer.pad_token_id,
    )
    device, size = pick_device(config.device), config.batch_size
    generator = pipeline("text-generation", model=loaded.model, tokenizer=loaded.tokenizer, device=device, prefix="")
    options: dict[str, Any] = {"generation_config": settings, "logits_processor": [CheckLogits()]}
    with torch.inference_mode():
        answers: Any = generator(prompts, batch_size=size, return_tensors=True, **options)
    lengths = [len(ids) for ids in loaded.tokenizer(prompts)["input_ids"]]
    padded = [max(lengths[i // size * size :][:size]) for i in range(len(prompts))]  # to the longest of the batch
    return [answer[0]["generated_token_ids"][length:] for answer, length in zip(answers, padded, strict=True)]


def _by_scratch(loaded: LoadedModel, prompts: list[str], config: Config, streaming: bool) -> list[list[int]]:
    """Return one batch of prompts, padded on the left, continued by our own GPT-2."""
    input_ids, attention_mask = pad_left(loaded.tokenizer(prompts)["input_ids"], pick_device(config.device))
    stop = loaded.tokenizer.eos_token_id
    steps = stream(
        loaded.model,
        input_ids,
        attention_mask,
        max_new_tokens=config.max_new_tokens,
        sampling=config.sampling,
        stop_tokens=None if stop is None else [stop],
    )
    tokens = list(print_while_generating(loaded, prompts, steps) if streaming else steps)
    return torch.stack(tokens, dim=1).tolist()  # N times (B,) -> (B, N)


def print_while_generating(loaded: LoadedModel, prompts: list[str], steps: Iterator[Tensor]) -> Iterator[Tensor]:
    """Pass `steps` (B,) on while printing the first text token by token, and the others at the end."""
    console, rows = Console(highlight=False, soft_wrap=True), [[] for _ in prompts]
    console.print(Text(printable(prompts[0]), "bold"), end="")
    printed, stop = "", loaded.tokenizer.eos_token_id
    for next_token in steps:
        for row, token in zip(rows, next_token.tolist(), strict=True):
            row += [] if stop in row else [token]
        text = decode(loaded, rows[0])
        if not text.endswith("\ufffd"):  # wait for the rest of a character
            print(printable(text[len(printed) :]), end="", flush=True)
            printed = text
        yield next_token
    print(printable(decode(loaded, rows[0])[len(printed) :]), end="\n\n")
    for prompt, row in zip(prompts[1:], rows[1:], strict=True):
        console.print(Text(printable(prompt), "bold"), Text(printable(decode(loaded, row))), "\n", sep="")


def compare(pipeline: LoadedModel, plain: LoadedModel, prompts: list[str], config: Config, record: RunRecord) -> None:
    """Run the pipeline and both forms of our model on `prompts`, print the texts, and record agreement and speed."""
    options = config.own_model if config.own_model.form != "plain" else EngineOptions(accelerate=True)
    accelerated = load_own(GENERATION, plain.folder, plain.name, options, pick_device(config.device))
    engines = {"pipeline": pipeline, "scratch": plain, options.form: accelerated}
    answers = time_interleaved({name: partial(new_tokens, each, prompts, config) for name, each in engines.items()})
    rows = {name: tokens for name, (tokens, _) in answers.items()}
    speeds = {name: sum(map(len, tokens)) / seconds for name, (tokens, seconds) in answers.items()}
    if not config.json:
        for number, prompt in enumerate(prompts):
            print(printable(prompt))
            for name in engines:
                print(f"  {name:<{max(map(len, engines))}}  {printable(decode(plain, rows[name][number]))!r}")
    record.results["tokens_per_second"] = speeds
    difference = max(
        largest_difference(pipeline, plain, prompt, new, config)
        for prompt, new in zip(prompts, rows["pipeline"], strict=True)
    )
    record.check("largest difference of a probability", difference, "at most 1e-4", difference <= 1e-4)
    same = _count_equal(rows["pipeline"], rows["scratch"])
    record.check("texts that are the same", f"{same} of {len(prompts)}", "all, unless rounding matters", same > 0)
    if options.precision != "float32":
        same = _count_equal(rows["pipeline"], rows[options.form])
        expected = f"may be fewer; {options.precision} rounds the weights"
        record.check(f"texts that are the same, {options.form}", f"{same} of {len(prompts)}", expected, True)
    ratio = speeds[options.form] / speeds["pipeline"]
    per_engine = ", ".join(f"{name} {speed:.0f}" for name, speed in speeds.items())
    expected = "accelerated is faster than the pipeline"
    record.check("tokens per second", f"{per_engine}, {ratio:.2f} times", expected, ratio > 1.0)


def _count_equal(texts: list[list[int]], others: list[list[int]]) -> int:
    """Return how many pairs of token sequences are equal."""
    return sum(a == b for a, b in zip(texts, others, strict=True))


@torch.inference_mode()
def largest_difference(pipeline: LoadedModel, plain: LoadedModel, prompt: str, new: list[int], config: Config) -> float:
    """Return the largest difference of the two models' next-token probabilities, over all tokens of a text."""
    start = plain.tokenizer([prompt])["input_ids"][0]
    tokens = torch.tensor([[*start, *new]], device=pick_device(config.device))  # (1, T)
    expected = pipeline.model(tokens).logits.softmax(dim=-1)  # (1, T) -> (1, T, V)
    return float((expected - plain.model(tokens).softmax(dim=-1)).abs().max())


def draw_attention_of(plain: LoadedModel, prompt: str, new: list[int], config: Config, path: Path) -> None:
    """Draw the chosen head of our own model over the tokens of a prompt and its continuation."""
    from lab.attention_plots import draw_head  # here: Matplotlib takes a second, and the text comes first

    ids = [*plain.tokenizer([prompt])["input_ids"][0], *new]
    input_ids = torch.tensor([ids], device=pick_device(config.device))  # (1, T)
    with torch.inference_mode():
        attentions = plain.model.forward_with_internals(input_ids).attentions
    labels = [visible(plain.tokenizer.decode([token])) for token in ids]
    draw_head(attentions, config.layer, config.head, labels, path, causal=True)


def show(results: list[dict[str, Any]], config: Config, name: str, streamed: bool) -> None:
    """Print prompt and continuation, and the table of the steps with --show_probs."""
    console = Console(highlight=False, soft_wrap=True)
    for result in results:
        if config.json:
            print(json.dumps({**result, "model": name}))
            continue
        prompt, new = printable(result["prompt"]), printable(result["continuation"])
        if not streamed:
            console.print(Text(prompt, "bold"), Text(new), "\n", sep="")
        if "steps" in result:
            print(f"step token  probability | the {config.show_probs} most likely after {prompt[-40:]!r}")
            show_steps(result["steps"])


def main(config: Config) -> None:
    """Load, continue, print, draw, record."""
    prompts = collect_texts(config.texts, config.file, EXAMPLES)
    note_form(config.own_model)
    device = pick_device(config.device)
    record = RunRecord(__file__, config.output_dir, config)
    load = loader(config.own_model, device) if config.engine == "scratch" else None
    loaded = load_model(GENERATION, config.model, load)
    if loaded.note:
        warn_once(loaded.note)
    own = loaded
    if config.engine == "pipeline" and (config.compare or config.show_probs or config.show_attention):
        own = load_own(GENERATION, loaded.folder, loaded.name, device=device)
    if config.show_attention:
        check_layer_and_head(own.model.config.n_layer, own.model.config.n_head, config.layer, config.head)
    if ignored := ignored_generation_settings(loaded.folder, loaded.tokenizer.eos_token_id):
        warn_once(f"{loaded.name}: its files set {', '.join(ignored)}; this is ignored, the flags decide")
    check_prompts(loaded, prompts, config.max_new_tokens)
    streamed = config.engine == "scratch" and sys.stdout.isatty() and not (config.json or config.compare)
    rows = new_tokens(loaded, prompts, config, streamed)
    results: list[dict[str, Any]] = [
        {"prompt": prompt, "continuation": decode(loaded, row)} for prompt, row in zip(prompts, rows, strict=True)
    ]
    if config.show_probs:
        for start in range(0, len(prompts), config.batch_size):
            batch = slice(start, start + config.batch_size)
            steps = step_probabilities(own, prompts[batch], rows[batch], config.sampling, config.show_probs, device)
            for result, its_steps in zip(results[batch], steps, strict=True):
                result["steps"] = its_steps
    form = config.own_model.form if config.engine == "scratch" else None
    record.results = {"model": loaded.name, "engine": config.engine, "form": form, "texts": results}
    plain = own  # the form that shows its attention weights
    if own.model is loaded.model and config.own_model.form != "plain" and (config.compare or config.show_attention):
        plain = load_own(GENERATION, loaded.folder, loaded.name, device=device)
    if config.compare:
        pipeline = loaded if config.engine == "pipeline" else load_folder(GENERATION, loaded.folder, loaded.name)
        compare(pipeline, plain, prompts, config, record)
    if config.json or not config.compare:
        show(results, config, loaded.name, streamed)
    if config.show_attention:
        draw_attention_of(plain, prompts[0], rows[0], config, record.file("generation_attention.png"))
        record.results["attention"] = {"text": prompts[0], "layer": config.layer, "head": config.head}
    preview = f"{prompts[0]} ...{' '.join(results[0]['continuation'].split())[:50]}"
    all_continued = all(result["continuation"].split() for result in results)
    if form and not config.json:
        print(f"engine: scratch, {form}")
    record.check("continuation", printable(preview), "some words for every prompt", all_continued)
    record.save(quiet=config.json)


if __name__ == "__main__":
    launch(Config, main)
