"""Train a small GPT-2 (`models/gpt2.py`) from random weights on any text: command line, progress, files.

python train_language_model.py --data tiny_shakespeare.txt                 # characters; minutes on two cores
python train_language_model.py --preset shakespeare_gpu --data tiny_shakespeare.txt  # a larger model, on a GPU
python train_language_model.py --preset books --data BOOKS_FOLDER          # trains the bundled language model
python train_language_model.py --data tiny_shakespeare.txt --resume        # continue an interrupted run
torchrun --nproc_per_node 2 train_language_model.py --data FILE_OR_FOLDER  # data-parallel, two processes

The model is written in the Hugging Face layout, with its tokenizer, metrics, samples, learning curve and model card.
The lesson is language_model/README.md.
"""

if __name__ == "__main__":
    import lab.startup  # noqa: F401 - first: Ctrl-C works while the libraries load

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from lab.devices import pick_device, threads_on
from lab.distributed import process_group, rank
from lab.files import write_json, write_text
from lab.launch import launch, warn_once
from lab.markdown import escape_markdown, shell_command
from lab.memory import keep_freed_memory
from lab.metrics import METRICS, write_metrics
from lab.progress import track
from lab.record import RunRecord
from lab.seeding import seed_everything
from lab.texts import printable
from lab.training import (
    CHECKPOINT,
    MODEL_FILES,
    Run,
    atomic_model,
    check_model_folder,
    checkpointed,
    fingerprint,
    restoring_state,
    start_run,
)
from language_model.data import (
    TextSplit,
    byte_pair_tokenizer,
    character_tokenizer,
    encode_texts,
    read_texts,
    tokenizer_from_json,
)
from language_model.presets import PRESETS, SOURCES, TRAINING, Config, download_shakespeare
from language_model.reports import (
    OURS,
    compare_bits_per_byte,
    compute_metrics,
    evaluated_texts,
    markdown_table,
    model_card,
    plot_learning_curve,
    sample_notes,
    sample_text,
    sampled_sentences,
)
from language_model.training import StepRecord, new_model, train
from models.checkpoints import round_to_half
from models.gpt2 import GPT2

REPORT_FILES = (METRICS, "metrics.json", "samples.txt", "learning_curve.png", "README.md", "train_language_model.json")
NUM_SAMPLES = 4
SAMPLE_TOKENS = 200
LONG_TEXT = 10_000_000  # characters, which take some seconds to tokenize
PREVIEW_TOKENS = 80  # of the samples during training
MetricRows = list[dict[str, Any]]  # one per step, the rows of metrics.csv


def start_tokenizer(config: Config, texts: TextSplit, run: Run) -> PreTrainedTokenizerFast:
    """Return the tokenizer that the run keeps; in a new run one that is trained on the training texts."""
    if "tokenizer" in run.kept:
        with restoring_state():
            return tokenizer_from_json(run.kept["tokenizer"], config.context)
    tokenizer = train_tokenizer(config, texts)
    run.kept["tokenizer"] = tokenizer.backend_tokenizer.to_str()
    return tokenizer


def train_tokenizer(config: Config, texts: TextSplit) -> PreTrainedTokenizerFast:
    """Return a tokenizer of the training texts: byte-level BPE, or characters if the vocabulary size is 0."""
    training = list(texts.training.values())
    if config.vocab_size:
        return byte_pair_tokenizer(training, config.vocab_size, config.context)
    return character_tokenizer(training, config.context)


def describe(record: StepRecord, started: float, tokens_before: int) -> str:
    """Return one progress line; the run began at time `started`, after `tokens_before` tokens."""
    speed = (record.tokens - tokens_before) / max(time.perf_counter() - started, 1e-9)
    return f"loss {record.loss:.3f}  learning rate {record.learning_rate:.1e}  {speed:,.0f} tokens/s"


def run_training(config: Config, model: GPT2, tokenizer: PreTrainedTokenizerFast, texts: TextSplit, run: Run) -> int:
    """Train `model` in place, with checkpoints and samples; return the number of training tokens.

    Appends a row of metrics per step to the rows of `run`.
    """
    rows = run.rows
    ids = encode_texts(tokenizer, list(texts.training.values()))  # (N,)
    validation_ids = encode_texts(tokenizer, list(texts.validation.values()))  # (N,)
    validation_ids = validation_ids[: config.evaluation_tokens + 1]
    settings = config.training()
    stream = train(settings, model, ids, validation_ids, run.state, config.device)
    if rank() == 0:
        started = time.perf_counter()
        tokens_before = len(rows) * config.batch_size * config.context
        steps_left = config.num_steps - len(rows)
        stream = track(stream, steps_left, "step", lambda record: describe(record, started, tokens_before))

    def is_due(record: StepRecord) -> bool:
        return record.step % config.checkpoint_every == 0 or record.step == config.num_steps

    for record in checkpointed(stream, run, is_due=is_due):
        rows.append(
            {
                "step": record.step,
                "loss": record.loss,
                "learning_rate": record.learning_rate,
                "validation_loss": record.validation_loss,
            }
        )
        if record.validation_loss is not None and rank() == 0:
            print(f"--- step {record.step}: validation loss {record.validation_loss:.4f} nats per token")
            sample = sample_text(model, tokenizer, config.prompt, seed=record.step, length=PREVIEW_TOKENS)
            print(printable(sample), flush=True)
    return len(ids)


def final_metrics(
    model: GPT2, tokenizer: PreTrainedTokenizerFast, texts: TextSplit, training_tokens: int
) -> dict[str, Any]:
    """Return the contents of `metrics.json`; of long texts it evaluates the beginning."""
    evaluated = evaluated_texts(texts.validation)
    metrics = compute_metrics(model, tokenizer, evaluated)
    return metrics | {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": len(tokenizer),
        "training_tokens": training_tokens,
        "comparison": compare_bits_per_byte(metrics["bits_per_byte"], texts.training, evaluated),
        **sample_notes(texts.training, texts.validation),
    }


def training_command(config: Config) -> str:
    """Return the command that trains this model: the preset and the flags that differ from it."""
    preset = PRESETS[config.preset]
    words = ["python", Path(__file__).name, "--preset", config.preset, "--data", "DATA"]
    for name, value in vars(config).items():
        same = value == getattr(preset, name)
        if same or name in ("preset", "data", "output_dir", "resume", "device"):
            continue
        if str(value).startswith("-"):
            words.append(f"--{name}={value}")
        else:
            words += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return shell_command(words)


def text_source(config: Config, texts: TextSplit) -> str:
    """Return the source of the preset's text, recognized by its file names; "" for other texts."""
    expected = set(config.held_out) or {"tiny_shakespeare"}
    is_preset_text = set(texts.validation) == expected and config.held_out == PRESETS[config.preset].held_out
    return SOURCES[config.preset] if is_preset_text else ""


def card_texts(config: Config, texts: TextSplit) -> dict[str, str]:
    """Return the parts of the model card that do not come from the metrics."""
    training = escape_markdown(", ".join(sorted(texts.training)))
    validation = escape_markdown(", ".join(sorted(texts.validation)))
    if not config.held_out:
        training = f"the first nine tenths of {training}"
        validation = f"the last tenth of {validation}"
    byte_level = "a byte-level BPE tokenizer that decodes to exactly the text that was encoded"
    return {
        "tokenizer": byte_level if config.vocab_size else "one token per character",
        "training": training,
        "validation": validation,
        "source": text_source(config, texts),
        "prompt": config.prompt,
        "command": training_command(config),
    }


def save_model(config: Config, model: GPT2, tokenizer: PreTrainedTokenizerFast, rows: MetricRows) -> list[str]:
    """Write the model and its learning curve to a temporary folder, then put them in place; return the files' names."""
    special_ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    with atomic_model(config.output_dir) as folder:
        model.save_pretrained(folder, torch.float16, **special_ids)
        tokenizer.save_pretrained(folder)
        write_metrics(folder / METRICS, rows)
        plot_learning_curve(folder / "learning_curve.png", rows, len(tokenizer))
        return sorted(path.name for path in folder.iterdir())


def write_report(
    config: Config, model: GPT2, tokenizer: PreTrainedTokenizerFast, metrics: dict[str, Any], about: dict[str, str]
) -> list[str]:
    """Write metrics, samples and card next to the saved model; return the files' names."""
    samples = [sample_text(model, tokenizer, config.prompt, seed, SAMPLE_TOKENS) for seed in range(NUM_SAMPLES)]
    card = model_card(metrics, samples, about, dataclasses.asdict(config.training()))
    write_json(config.output_dir / "metrics.json", metrics)
    contents = {"samples.txt": "\n\n".join(samples) + "\n", "README.md": card}
    for name, content in contents.items():
        write_text(config.output_dir / name, content)
    return ["metrics.json", *contents]


def check_metrics(record: RunRecord, metrics: dict[str, Any]) -> None:
    """Check that the model beats a uniform guess and the baselines."""
    loss = metrics["validation_loss"]
    uniform = math.log(metrics["vocabulary"])
    expected = f"below {uniform:.2f}, a uniform guess"
    record.check("validation loss, nats per token", round(loss, 4), expected, loss < uniform)
    bits = metrics["bits_per_byte_in_all"]
    best = min(row["all"] for row in metrics["comparison"] if row["name"] != OURS)
    record.check("bits per byte", round(bits, 3), f"below {best:.3f}, the best baseline", bits < best)


def main(config: Config) -> None:
    """Read the text, train, evaluate on the validation text, save."""
    keep_freed_memory()
    with process_group():
        names = (*MODEL_FILES, *REPORT_FILES, CHECKPOINT)
        output_dir = check_model_folder(config.output_dir, names, data=config.data)
        device = pick_device(config.device)
        run = start_run(TRAINING, output_dir, config.settings(), config.resume, device.type, threads_on(device))
        config = dataclasses.replace(config, **run.settings)  # a resumed run has the settings that it began with
        if config.preset == "shakespeare_gpu" and device.type == "cpu" and rank() == 0:
            warn_once("--preset shakespeare_gpu takes hours on a CPU; --preset shakespeare takes minutes")
        seed_everything(config.seed)
        texts = read_texts(config.data, config.held_out) if config.data else download_shakespeare(config)
        run.check_input("data", config.data, fingerprint([*texts.training.values(), *texts.validation.values()]))
        num_characters = sum(map(len, texts.training.values()))
        if rank() == 0 and num_characters >= LONG_TEXT:
            warn_once(f"tokenizing {num_characters:,} characters; the first step follows")
        tokenizer = start_tokenizer(config, texts, run)
        model = new_model(config, len(tokenizer))
        if rank() != 0:  # only the first process shows progress and writes files
            run_training(config, model, tokenizer, texts, run)
            return
        data_name = Path(config.data.name) if config.data else None
        record = RunRecord(__file__, output_dir, dataclasses.replace(config, data=data_name))
        training_tokens = run_training(config, model, tokenizer, texts, run)
    round_to_half(model.cpu())
    names = save_model(config, model, tokenizer, run.rows)
    warn_once("the model is saved; now it is evaluated")  # which may be interrupted
    metrics = final_metrics(model, tokenizer, texts, training_tokens)
    names += write_report(config, model, tokenizer, metrics, card_texts(config, texts))
    print(markdown_table(metrics["comparison"]))
    print(sampled_sentences(metrics), end="")
    record.files += [output_dir / name for name in sorted(names)]
    record.results = metrics
    check_metrics(record, metrics)
    record.save()


if __name__ == "__main__":
    launch(Config, main)
