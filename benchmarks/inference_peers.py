"""Speed of our GPT-2 and DistilBERT compared with the libraries that people use for inference on processors.

Every library has the same random weights at the official sizes, its own process and the same number of threads; only
one process computes at a time. The sides are interleaved in every round, and each is compared with our side of the same
round that is nearest to it in precision. Generation is greedy. The other libraries have their own virtual environment:

    make bench-setup
    python benchmarks/inference_peers.py --data FOLDER --peers_python runs/peers/bin/python
"""

if __name__ == "__main__":
    import lab.startup  # first: Ctrl-C works while the libraries load

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers

import lab.projects  # noqa: F401 - puts the projects on the search path
from lab.errors import UserError, require_at_least
from lab.files import ROOT, display_path, writable_folder
from lab.launch import launch
from lab.record import environment_info
from lab.results import Record, new_record, ratio_statistics, write_results
from transformer import MODELS, PROMPT, randomize, read_sentences
from worker_process import WorkerProcess

WORKER = Path(__file__).with_name("inference_peers_worker.py")
TARGETS = {("CTranslate2", "float32"): 1.1, ("CTranslate2", "int8"): 1.1}  # for generation; else as fast as every peer
PAUSE = 0.3  # seconds before each turn: the threads of the library before may still wait busily for more work


class Side(NamedTuple):
    """A library in one precision."""

    library: str
    precision: str
    compared_with: str = ""  # the precision of ours; empty for our own sides

    @property
    def name(self) -> str:
        """Name in results and tables."""
        return f"{self.library}, {self.precision}"


OURS = "ours"
MODULES = {
    OURS: "inference_ours",
    "transformers": "inference_transformers",
    "CTranslate2": "inference_ctranslate2",
    "ONNX Runtime": "inference_onnxruntime",
    "llama.cpp": "inference_llama",
}
GENERATION = (
    Side(OURS, "plain"),
    Side(OURS, "float32"),
    Side("transformers", "float32", "float32"),
    Side("transformers", "compiled", "float32"),
    Side("CTranslate2", "float32", "float32"),
    Side("ONNX Runtime", "float32", "float32"),
    Side("llama.cpp", "float32", "float32"),
    Side(OURS, "bfloat16"),
    Side(OURS, "float16"),
    Side("CTranslate2", "int16", "float16"),
    Side("llama.cpp", "float16", "float16"),
    Side(OURS, "int8"),
    Side("CTranslate2", "int8", "int8"),
    Side("ONNX Runtime", "int8", "int8"),
    Side("llama.cpp", "int8", "int8"),
)
CLASSIFICATION = (
    Side(OURS, "plain"),
    Side(OURS, "float32"),
    Side("transformers", "float32", "float32"),
    Side("CTranslate2", "float32", "float32"),
    Side("ONNX Runtime", "float32", "float32"),
    Side(OURS, "int8"),
    Side("CTranslate2", "int8", "int8"),
    Side("ONNX Runtime", "int8", "int8"),
)


@dataclass
class Config:
    """Compare the speed of our GPT-2 and DistilBERT with that of other libraries."""

    data: Path
    """Folder with `sentiment/stsa.binary.test`."""
    output: Path = ROOT / "benchmarks/results/inference_peers.json"
    """Results file."""
    repetitions: int = 5
    """Rounds per side."""
    new_tokens: int = 128
    """Tokens to generate."""
    sentences: int = 512
    """Sentences to classify, from the start of the file."""
    threads: int = 2
    """Threads of every side."""
    peers_python: Path = Path(sys.executable)
    """Python of an environment with the other libraries."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "repetitions", "new_tokens", "sentences", "threads")


@dataclass
class Measured:
    """The results of one side: seconds of every round, its output, and package versions; or why there are none."""

    seconds: list[float]
    output: Any = None
    versions: dict[str, str | None] | None = None
    failed: str = ""


def save_models(folder: Path) -> None:
    """Write GPT-2 and DistilBERT at their official sizes, with random weights."""
    settings = transformers.GPT2Config(bos_token_id=0, eos_token_id=0)
    randomize(transformers.GPT2LMHeadModel(settings), str(folder / "gpt2"))
    classifier = transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig())
    randomize(classifier, str(folder / "distilbert"))


def interleave(
    sides: Sequence[Side], workers: dict[str, WorkerProcess], task: str, arguments: list[Any], repetitions: int
) -> dict[Side, Measured]:
    """Run a task on all sides in interleaved rounds, after a warm-up round in which the models are loaded."""
    measured = {side: Measured([]) for side in sides}
    for repetition in range(-1, repetitions):
        for side, results in measured.items():
            if results.failed:
                continue
            time.sleep(PAUSE)
            try:
                request = {"task": task, "precision": side.precision, "arguments": arguments}
                answer: dict[str, Any] = workers[side.library].ask(request)
            except UserError as error:
                answer = {"failed": str(error)}
            results.failed = answer.get("failed", "")
            if results.failed:
                print(f"{side.name}: {results.failed}", file=sys.stderr)
                continue
            results.output, results.versions = answer["output"], answer["versions"]
            if repetition >= 0:
                results.seconds.append(answer["seconds"])
        print(f"{task}, round {repetition + 1} of {repetitions}", flush=True)
    return measured


def records_of(configuration: str, measured: dict[Side, Measured], environment: dict[str, Any]) -> list[Record]:
    """Return one record per side, with the speed of ours relative to it and the agreement of the outputs."""
    records = []
    for side, results in measured.items():
        where = environment | {"packages": environment["packages"] | (results.versions or {})}
        compared = {"compared_with": f"{OURS}, {side.compared_with}"} if side.compared_with else {}
        if results.failed:
            records.append(new_record(configuration, side.name, where, **compared, not_measured=results.failed))
            continue
        ours = measured[Side(OURS, side.compared_with or "float32")]  # of the same rounds
        values: dict[str, Any] = {
            "seconds": results.seconds,
            "median_seconds": round(statistics.median(results.seconds), 4),
            **agreement(results.output, measured[Side(OURS, "float32")].output),
            **compared,
        }
        target = TARGETS.get((side.library, side.precision), 1.0) if configuration != "sentiment" else 1.0
        if compared and ours.seconds:  # empty for a precision that ours does not have on this processor
            values |= ratio_statistics(results.seconds, ours.seconds) | {"target": target}
        records.append(new_record(configuration, side.name, where, **values))
        ratio = f", ours {values['median_ratio']:.2f} times as fast" if "median_ratio" in values else ""
        print(f"{configuration}, {side.name}: {values['median_seconds']} s{ratio}", flush=True)
    return records


def agreement(output: list[list[Any]], ours: list[list[Any]]) -> dict[str, Any]:
    """Return how far tokens, or class probabilities, agree with those of ours in float32."""
    pairs = list(zip(output, ours, strict=True))
    if all(isinstance(token, int) for row in output for token in row):
        return {"same_tokens": output == ours}
    largest = max(abs(a - b) for row, our_row in pairs for a, b in zip(row, our_row, strict=True))
    labels = [(row.index(max(row)), our_row.index(max(our_row))) for row, our_row in pairs]
    return {"same_labels": all(a == b for a, b in labels), "largest_score_difference": round(largest, 7)}


def measure(
    config: Config, workers: dict[str, WorkerProcess], sentences: list[str], environment: dict[str, Any]
) -> list[Record]:
    """Return the records of all configurations."""
    torch.manual_seed(0)
    records = []
    for configuration, size in (("one prompt", 1), ("batch of 8", 8)):
        prompts = torch.randint(1, 50257, (size, PROMPT)).tolist()  # (B, T)
        measured = interleave(GENERATION, workers, "generator", [prompts, config.new_tokens], config.repetitions)
        records += records_of(configuration, measured, environment)
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODELS / "sentiment")
    texts = tokenizer(sentences)["input_ids"]
    measured = interleave(CLASSIFICATION, workers, "classifier", [texts], config.repetitions)
    return records + records_of("sentiment", measured, environment)


def main(config: Config) -> None:
    """Measure, print and write the results."""
    writable_folder(config.output.parent)
    sentences = read_sentences(config.data, config.sentences)  # a missing file is refused before anything is measured
    environment = environment_info(("torch", "transformers"))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        save_models(folder)
        workers: dict[str, WorkerProcess] = {}
        for library, module in MODULES.items():
            python = Path(sys.executable) if library in (OURS, "transformers") else config.peers_python
            worker = WorkerProcess(python, WORKER, module, folder, config.threads, OMP_NUM_THREADS=str(config.threads))
            workers[library] = stack.enter_context(closing(worker))
        records = measure(config, workers, sentences, environment)
    write_results(
        config.output,
        "inference_peers",
        records,
        settings={name: getattr(config, name) for name in ("repetitions", "new_tokens", "sentences", "threads")},
        environment=environment | {"threads": config.threads},
        ratio="speed of ours relative to this side",
    )
    print(f"wrote {display_path(config.output)}")


if __name__ == "__main__":
    launch(Config, main)
