"""The transformer pane's sentiment: watch `attribution.explain` while it runs.

Shapes: B batch, T time (positions), H heads, C classes.
"""

import torch
from torch import Tensor

from lab.devices import one_thread
from lab.errors import UserError
from lab.play.transformer_job import MAX_SHOWN, PANE, bundled, shown_heads
from lab.play.worker import Control, Message
from models.hub import SENTIMENT
from sentiment.attribution import Explanation, explain

SCRIPT = "02_transformer_basics/sentiment_analysis.py"  # whose --with the learner's functions are


class SentimentJob:
    """One text that is classified and explained."""

    def __init__(self, control: Control, message: Message) -> None:
        self.control = control
        self.message = message
        self.heads: list[Message] = message["heads"]
        self.loaded = bundled(SENTIMENT)
        if not message["sentence"].strip():
            raise UserError("type a sentence: there is nothing to classify")
        self.explanation: Explanation | None = None
        self.own_functions: list[str] = []

    def run(self) -> None:
        """Classify at once, explain, then show the heads that the page wants until another job is wanted."""
        with self.control.own_functions(SCRIPT) as self.own_functions:
            self.encoding = self.loaded.tokenizer.encode(self.message["sentence"])
            self.classify()
            self.show()
            self.explanation = self.explain()
            while True:
                self.show()
                self.answer(None)

    @torch.inference_mode()
    def classify(self) -> None:
        """Keep the probability of the most likely label, and the attention weights."""
        input_ids = torch.tensor([self.encoding.ids])  # (1, T)
        output = self.loaded.model.forward_with_internals(input_ids)
        probability, label = output.logits.softmax(dim=-1)[0].max(dim=-1)  # (1, C) -> (C,) -> two scalars
        self.probability, self.label = float(probability), self.loaded.model.labels[int(label)]
        self.attentions: list[Tensor] = output.attentions

    def explain(self) -> Explanation:
        """Return the attributions. The page is answered before every block that the model runs for them."""
        blocks = self.loaded.model.blocks
        handles = [block.register_forward_pre_hook(lambda *_: self.answer(0.0)) for block in blocks]
        try:
            return explain(self.loaded, self.message["sentence"])
        finally:
            for handle in handles:
                handle.remove()

    def answer(self, wait: float | None) -> None:
        """Do what the messages say."""
        for message in self.control.messages(wait):
            if message["do"] == "heads":
                self.heads = message["heads"]

    def note(self) -> str:
        """Return a note if the text is longer than the model reads; else ""."""
        (ids,) = self.loaded.tokenizer([self.message["sentence"]])["input_ids"]
        read = len(self.encoding.ids)
        return f"Only the first {read} of {len(ids):,} tokens are read: the model's maximum." if read < len(ids) else ""

    def show(self) -> None:
        """Show the label, the words with their attributions once there are any, and the heads."""
        explanation = self.explanation
        both = {True: self.attentions, False: self.attentions}  # an encoder has no causal mask
        config = self.loaded.model.config
        self.control.show(
            PANE,
            "sentiment",
            number=self.message["number"],
            sentence=self.message["sentence"],
            label=self.label,
            probability=self.probability,
            baseline=None if explanation is None else explanation.baseline_score,
            words=None if explanation is None else explanation.attributions(),
            context=self.encoding.tokens[:MAX_SHOWN],
            context_ids=self.encoding.ids[:MAX_SHOWN],
            first=0,
            count=len(self.encoding.ids),
            heads=shown_heads(both, self.heads, slice(0, MAX_SHOWN)),
            num_layers=config.n_layers,
            num_heads=config.n_heads,
            note=self.note(),
            own_functions=self.own_functions,
        )


def classify(control: Control, message: Message) -> None:
    """Run the job of a message that asks for the sentiment of a text."""
    control.show(PANE, "error", message="")
    with one_thread():
        SentimentJob(control, message).run()
