"""Text that goes on from a prompt, with GPT-2 and the Hugging Face pipeline.

python text_generation.py                                      # built-in prompts
python text_generation.py "Once upon a time" --max_new_tokens 60 --temperature 0.7 --seed 3
python text_generation.py --file prompts.txt --json            # one prompt a line in, one JSON object a line out
echo "The old house" | python text_generation.py -
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.text import Text
from transformers import GenerationConfig, pipeline

from lab.errors import UserError, require_at_least
from lab.launch import launch, note
from lab.record import RunRecord
from lab.seeding import check_seed, seed_everything
from lab.texts import collect_texts, printable
from pretrained import GENERATION, LoadedModel, load_model

EXAMPLES = ("Once upon a time", "The old man looked at the sea and", "It was a dark night, and")


@dataclass(frozen=True)
class Config:
    """Continue each prompt with a language model."""

    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Prompts; `-` reads them from standard input, one a line. Built-in examples if there are none."""
    file: Path | None = None
    """UTF-8 file with one prompt a line."""
    model: str | None = None
    """Folder or Hugging Face hub name of a model. Default: the official GPT-2, or the lab's own offline."""
    max_new_tokens: int = 40
    """Tokens to add to each prompt."""
    temperature: float = 0.8
    """Divides the logits before sampling: below 1 plays safe, above 1 dares; 0 always takes the likeliest token."""
    seed: int = 0
    """Seed of the sampling."""
    batch_size: int = 8
    """Prompts that go through the model together."""
    json: bool = False
    """Print one JSON object a line instead of text."""
    output_dir: Path = Path(__file__).parent / "results"
    """Folder for the record of the run."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "max_new_tokens", "batch_size")
        require_at_least(0, self, "temperature")
        if 0 < self.temperature < 1e-6:
            raise UserError(f"--temperature is {self.temperature}; that overflows: 0 always takes the likeliest token")
        check_seed(self.seed)


def check_lengths(loaded: LoadedModel, prompts: list[str], max_new_tokens: int) -> None:
    """Raise UserError for a prompt that does not fit the model's context together with the new tokens."""
    context = loaded.tokenizer.model_max_length
    for number, ids in enumerate(loaded.tokenizer(prompts, verbose=False)["input_ids"], 1):
        if len(ids) + max_new_tokens > context:
            raise UserError(
                f"prompt {number} has {len(ids)} tokens; with --max_new_tokens {max_new_tokens} that is more than the "
                f"{context} that the model can see"
            )


def continue_prompts(loaded: LoadedModel, prompts: list[str], config: Config) -> list[str]:
    """The new text for each prompt, without the prompt."""
    loaded.tokenizer.pad_token = loaded.tokenizer.pad_token or loaded.tokenizer.eos_token
    loaded.tokenizer.padding_side = "left"  # the new tokens follow the prompt's last one directly
    greedy = config.temperature == 0
    settings = GenerationConfig(
        max_new_tokens=config.max_new_tokens,
        do_sample=not greedy,
        temperature=None if greedy else config.temperature,
        top_k=None if greedy else 0,  # the whole distribution
        eos_token_id=loaded.tokenizer.eos_token_id,
        pad_token_id=loaded.tokenizer.pad_token_id,
    )
    generator = pipeline("text-generation", model=loaded.model, tokenizer=loaded.tokenizer, device="cpu")
    seed_everything(config.seed)
    with torch.inference_mode():
        answers: Any = generator(
            prompts, batch_size=config.batch_size, generation_config=settings, return_full_text=False
        )
    return [answer[0]["generated_text"] for answer in answers]


def main(config: Config) -> None:
    """Load, continue, print, record."""
    prompts = collect_texts(config.texts, config.file, EXAMPLES)
    record = RunRecord(__file__, config.output_dir, config)
    loaded = load_model(GENERATION, config.model)
    if loaded.note:
        note(loaded.note)
    check_lengths(loaded, prompts, config.max_new_tokens)
    continuations = continue_prompts(loaded, prompts, config)
    results = [{"prompt": prompt, "continuation": new} for prompt, new in zip(prompts, continuations, strict=True)]
    console = Console(highlight=False, soft_wrap=True)
    for result in results:
        if config.json:
            print(json.dumps({**result, "model": loaded.name}))
        else:
            console.print(
                Text(printable(result["prompt"]), "bold"), Text(printable(result["continuation"])), "\n", sep=""
            )
    record.results = {"model": loaded.name, "texts": results}
    shown = f"{prompts[0]} ...{' '.join(continuations[0].split())[:50]}"
    record.check("continuation", printable(shown), "some words for every prompt", all(c.split() for c in continuations))
    record.save(quiet=config.json)


if __name__ == "__main__":
    launch(Config, main)
