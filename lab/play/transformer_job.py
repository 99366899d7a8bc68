"""The transformer pane's generation: watch `generation.stream` while it runs. `sentiment_job.py` is the other task.

There is no second loop: the tokens come from the generator of the lesson, and the numbers that are shown next to them
from the same model and the same functions.

Shapes: B batch, T time (positions), H heads, V vocabulary.
"""

import functools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engines import load_own
from lab.devices import one_thread
from lab.errors import UserError
from lab.play.worker import Control, Message
from models import generation  # the module, since its functions may be replaced by a learner's
from models.generation import Sampling, window_start
from models.hub import GENERATION, LoadedModel, Task
from models.internals import ModelOutput

PANE = "transformer"
SCRIPT = "02_transformer_basics/text_generation.py"  # whose --with the learner's functions are
MAX_CANDIDATES = 12  # next tokens in the table
MAX_SHOWN = 24  # tokens in the table of attention weights
MAX_NEW_TOKENS = 500


@functools.cache
def bundled(task: Task) -> LoadedModel:
    """Return the bundled model of a task, in our own form, loaded once."""
    return load_own(task, task.bundled, f"the lab's own {task.name} model")


@contextmanager
def without_causal_mask(model: Any) -> Iterator[None]:
    """Let every position of a GPT-2 attend to all others, later ones too, during the block."""
    vars(model)["mask"] = lambda *_: None
    try:
        yield
    finally:
        del vars(model)["mask"]


def shown_heads(attentions: dict[bool, list[Tensor]], heads: Sequence[Message], shown: slice) -> list[dict[str, Any]]:
    """Return the weights of the `heads` between the `shown` tokens; a layer or head that is too high is the last one.

    `attentions`: with the causal mask (True) and without, L times (1, H, T, T).
    """
    views = []
    for wanted in heads:
        layers = attentions[wanted["causal"]]
        layer = min(wanted["layer"], len(layers) - 1)
        head = min(wanted["head"], layers[layer].shape[1] - 1)
        weights = layers[layer][0, head, shown, shown]  # (1, H, T, T) -> (shown, shown)
        views.append({"layer": layer, "head": head, "causal": wanted["causal"], "weights": weights.tolist()})
    return views


def sampling_of(message: Message) -> Sampling:
    """Return the sampling options of a message, in which 0 as top-k and 1 as top-p are off."""
    top_p = message["top_p"]
    return Sampling(message["temperature"], message["top_k"] or None, top_p if top_p < 1 else None)


class GenerationJob:
    """One text that grows: the tokens so far, what the model makes of them, and what comes next."""

    def __init__(self, control: Control, message: Message) -> None:
        self.control = control
        self.message = message
        loaded = bundled(GENERATION)
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self.prompt: list[int] = self.tokenizer([message["sentence"]])["input_ids"][0]
        if not self.prompt:
            raise UserError("type a sentence: the model needs at least one token to continue")
        self.new: list[int] = []
        self.sampling = sampling_of(message)
        self.heads: list[Message] = message["heads"]
        self.is_running: bool = message["running"]
        self.tokens_per_second: float = message["tokens_per_second"]
        self.next_token_at = time.perf_counter()
        self.generator = torch.Generator().manual_seed(message["seed"])
        self.steps: Iterator[Tensor] | None = None  # of `stream`, None when it has to start again
        self.outputs: dict[bool, ModelOutput] = {}  # with the causal mask (True) and without
        self.own_functions: list[str] = []

    @property
    def ids(self) -> list[int]:
        """The tokens so far."""
        return [*self.prompt, *self.new]

    def run(self) -> None:
        """Continue the text as the page wants, until another job is wanted."""
        with self.control.own_functions(SCRIPT) as self.own_functions:
            self.show()
            while True:
                if self.answer(self.seconds_to_wait()):
                    self.show()
                if self.is_running and self.seconds_to_wait() == 0:
                    self.next_token_at = time.perf_counter() + 1 / self.tokens_per_second
                    self.take_next()
                    if not self.is_running or self.control.is_due(PANE, "generation"):
                        self.show()

    def seconds_to_wait(self) -> float | None:
        """Return the time until the next token is due; None if none is."""
        return max(0.0, self.next_token_at - time.perf_counter()) if self.is_running else None

    def answer(self, wait: float | None) -> bool:
        """Do what the messages say; return True if there were any."""
        is_changed = False
        for message in self.control.messages(wait):
            is_changed = True
            match message["do"]:
                case "pause":
                    self.is_running = False
                case "resume":
                    self.is_running = len(self.new) < MAX_NEW_TOKENS
                    self.next_token_at = time.perf_counter()
                case "step":
                    self.is_running = False
                    self.take_next()
                case "take":
                    self.is_running = False
                    self.append(message["id"])
                    self.steps = None
                case "sampling":
                    self.sampling = sampling_of(message)
                    self.steps = None
                case "heads":
                    self.heads = message["heads"]
                case "speed":
                    self.tokens_per_second = message["tokens_per_second"]
                    self.next_token_at = time.perf_counter()
        return is_changed

    def take_next(self) -> None:
        """Append the next token of `stream`; at the end of the text there is a pause."""
        room = MAX_NEW_TOKENS - len(self.new)
        if not room:
            return
        if self.steps is None:
            self.steps = generation.stream(
                self.model,
                torch.tensor([self.ids]),  # (1, T)
                max_new_tokens=room,
                sampling=self.sampling,
                generator=self.generator,
                slide=True,
            )
        token = int(next(self.steps))
        self.append(token)
        if token == self.tokenizer.eos_token_id:
            self.is_running = False

    def append(self, token: int) -> None:
        """Append a token while there is room."""
        if len(self.new) < MAX_NEW_TOKENS:
            self.new.append(token)
            self.outputs.clear()
        if len(self.new) == MAX_NEW_TOKENS:
            self.is_running = False

    def window(self) -> Tensor:
        """Return the tokens that the model reads, (1, T): the last ones, where all are more than its context."""
        ids = self.ids
        return torch.tensor([ids[window_start(len(ids), self.model.config.n_positions) :]])

    @torch.inference_mode()
    def output(self, causal: bool) -> ModelOutput:
        """Return logits and attention weights, with the causal mask or without."""
        if causal not in self.outputs and causal:
            self.outputs[causal] = self.model.forward_with_internals(self.window())
        elif causal not in self.outputs:
            with without_causal_mask(self.model):
                self.outputs[causal] = self.model.forward_with_internals(self.window())
        return self.outputs[causal]

    def loss(self, causal: bool) -> float | None:
        """Return the mean nats that the text's own tokens cost the model; None for a single token."""
        targets = self.window()[0, 1:]  # (1, T) -> (T - 1,)
        if not len(targets):
            return None
        return float(F.cross_entropy(self.output(causal).logits[0, :-1], targets))  # (1, T, V) -> (T - 1, V)

    def candidates(self) -> dict[str, Any]:
        """Return the most likely next tokens, with their probabilities before and after all that sampling does."""
        logits = self.output(True).logits[:, -1]  # (1, T, V) -> (1, V)
        tokens = self.window()
        before = generation.token_probabilities(logits, tokens, None, Sampling(temperature=1.0))[0]  # (V,)
        after = generation.token_probabilities(logits, tokens, None, self.sampling)[0]  # (V,)
        top = before.topk(MAX_CANDIDATES).indices  # (V,) -> (MAX_CANDIDATES,)
        return {
            "ids": top.tolist(),
            "tokens": [self.tokenizer.decode([token]) for token in top.tolist()],
            "model_probabilities": before[top].tolist(),
            "probabilities": after[top].tolist(),
            "others": {
                "count": len(before) - len(top),
                "model_probability": max(0.0, 1 - float(before[top].sum())),
                "probability": max(0.0, 1 - float(after[top].sum())),
            },
        }

    def text(self) -> str:
        """Return the text so far, without a last character of which bytes are still missing."""
        new = self.tokenizer.decode(self.new, skip_special_tokens=True)
        return self.message["sentence"] + new.rstrip("\ufffd")

    def note(self) -> str:
        """Return what has to be said about the text; "" if nothing has."""
        count, read = len(self.ids), self.window().shape[1]
        notes = []
        if read < count:
            context = self.model.config.n_positions
            notes.append(
                f"Only the last {read} of {count:,} tokens are read: the model's context is {context}, "
                "and it moves on by half its length at a time."
            )
        if len(self.new) == MAX_NEW_TOKENS:
            notes.append(f"{MAX_NEW_TOKENS} tokens were added, which is the most; Reset takes them away.")
        elif self.new and self.new[-1] == self.tokenizer.eos_token_id:
            notes.append("The last token says that the text ends here.")
        return " ".join(notes)

    @torch.inference_mode()
    def show(self) -> None:
        """Show the text, the next token and the heads."""
        ids = self.ids
        shown = slice(-min(MAX_SHOWN, self.window().shape[1]), None)
        attentions = {causal: self.output(causal).attentions for causal in {head["causal"] for head in self.heads}}
        config = self.model.config
        self.control.show(
            PANE,
            "generation",
            number=self.message["number"],
            sentence=self.message["sentence"],
            text=self.text(),
            context=[self.tokenizer.decode([token]) for token in ids[shown]],
            context_ids=ids[shown],
            first=len(ids[: shown.start]),  # position of the first token that is shown
            count=len(ids),
            new=len(self.new),
            **self.candidates(),
            heads=shown_heads(attentions, self.heads, shown),
            losses=[self.loss(True), self.loss(False)] if False in attentions else None,
            num_layers=config.n_layer,
            num_heads=config.n_head,
            is_running=self.is_running,
            is_greedy=self.sampling.temperature == 0,
            note=self.note(),
            own_functions=self.own_functions,
        )


def generate(control: Control, message: Message) -> None:
    """Run the job of a message that starts a text."""
    control.show(PANE, "error", message="")
    with one_thread():
        GenerationJob(control, message).run()
