"""The claims about speed: ratios of interleaved rounds, from the results files of the benchmarks."""

from collections.abc import Callable, Iterator

from lab.evidence_claims import Claim, processor_text, ratio_text
from lab.results import LOWER_IS_BETTER, Record, read_runs

Wording = Callable[[Record], str]


def _maze(record: Record) -> str:
    side = record["side"]
    if " relative to " in side:
        return f"Batched Q-learning, steps per second: {side}"
    name = side if side.startswith("Numba") else f"Batched Q-learning ({side})"
    return f"{name}: steps per second relative to a dictionary"


def _inference(record: Record) -> str:
    model = "DistilBERT" if record["configuration"] == "sentiment" else f"GPT-2, {record['configuration']}"
    return f"Inference speed of {record.get('compared_with', 'ours')} relative to {record['side']}: {model}"


def _gpu(record: Record) -> str:
    side = record["side"]
    if record["part"] == "ppo":
        note = f" (meanwhile {record['note']})" if "note" in record else ""
        return f"On a GPU: training speed of PPO with {side} relative to the CPU{note}"
    model = "DistilBERT" if record["part"] == "sentiment" else f"GPT-2, {record['configuration']}"
    in_bfloat16 = side == "bfloat16" and record["part"] == "generation"
    reference = "`transformers` in bfloat16" if in_bfloat16 else "`transformers`"
    form = "itself in bfloat16" if side == "transformers, bfloat16" else FORMS.get(side, f"accelerated, {side}")
    return f"On a GPU: inference speed relative to {reference}: {model}, {form}"


FORMS = {"plain": "plain form", "ours": "accelerated"}  # of our models
SPEED: dict[str, tuple[Wording, set[tuple[str, str]]]] = {  # benchmark to its wording and the highlights
    "maze": (
        _maze,
        {("FrozenLake-v1, 4 x 4, slippery", "tensor, all processes")},
    ),
    "ppo_speed": (
        lambda record: (
            "Wall time relative to our PPO: "
            + (
                "one plain Gymnasium environment, no learning"
                if record["side"] == "one environment"
                else record["side"]
            )
        ),
        {("Reacher-v5", "Stable-Baselines3, our settings")},
    ),
    "transformer": (
        lambda record: (
            "Inference speed relative to `transformers`: "
            + ("DistilBERT" if record["configuration"] == "sentiment" else f"GPT-2, {record['configuration']}")
            + f", {FORMS.get(record['side'], record['side'])}"
        ),
        {("one prompt", "int8")},
    ),
    "inference_peers": (  # in the README the peer to beat, and the one that is furthest ahead
        _inference,
        {("one prompt", "CTranslate2, float32"), ("batch of 8", "ONNX Runtime, float32")},
    ),
    "gpu": (_gpu, {("one prompt", "float32")}),
    "training": (
        lambda record: (
            f"Training speed relative to `transformers`: {record['configuration']}"
            + (", with the same allocator setting on both sides" if "memory" in record["side"] else "")
        ),
        set(),
    ),
    "text_startup": (
        lambda record: (
            f"Time to {record['configuration']} relative to the Hugging Face pipeline, "
            f"{record['side']} form of our model"
        ),
        set(),
    ),
}


def speed() -> Iterator[Claim]:
    """Yield the claims about speed: medians of the ratios of interleaved rounds."""
    for name, (wording, highlights) in SPEED.items():
        for record in _records(name):
            if "not_measured" in record:
                yield Claim(wording(record), record["not_measured"], measured_on=processor_text(record))
            elif record.get("median_ratio") is not None:  # the reference side has no ratio
                highlight = (record["configuration"], record["side"]) in highlights
                lower_is_better = name in LOWER_IS_BETTER
                target, met = _target(record, lower_is_better)
                strength = record["median_ratio"] * (-1 if lower_is_better else 1)
                where = processor_text(record)
                result = ratio_text(record) + _peer_ahead(record)
                yield Claim(wording(record), result, target, met, where, highlight, strength)
    yield from _gpu_figures()
    yield from _page_speed()


def _peer_ahead(record: Record) -> str:
    """Return the words for a peer that is faster than ours; empty for other records."""
    _, relative, peer = record["side"].partition(", relative to ")
    return f": {peer} is ahead" if relative and record["median_ratio"] < 1 else ""


def _records(name: str) -> list[Record]:
    """Return the records of a benchmark from all processors."""
    return [record for run in read_runs(name) for record in run["records"]]


def _gpu_figures() -> Iterator[Claim]:
    """Yield the claims about a GPU that are no ratios."""
    for record in _records("gpu"):
        where = processor_text(record)
        if "median_steps_per_second" in record:
            claim = f"On a GPU: batched Q-learning, steps per second, {record['side']}"
            rate, target = record["median_steps_per_second"], record["target"]
            yield Claim(claim, f"{rate:.3g}", f"at least {target:.3g}", rate >= target, where, strength=rate)
        elif "target_loss" in record:
            claim = f"On a GPU: `--preset {record['configuration']}`, nats per character"
            loss, seconds, target = record["validation_loss"], record["seconds"], record["target_loss"]
            met = loss <= target and seconds <= record["target_seconds"]
            aim = f"at most {target:g} in {record['target_seconds']:.0f} s"
            yield Claim(claim, f"{loss:.3f} in {seconds:.0f} s", aim, met, where, strength=-loss)


def _page_speed() -> Iterator[Claim]:
    for record in _records("page"):
        claim, where = f"`lab play`: {record['configuration']}", processor_text(record)
        if "median_ratio" in record:
            claim += ", speed relative to the same training alone"
            met = record["median_ratio"] >= record["target"]
            yield Claim(claim, ratio_text(record), f"at least {record['target']:g}x", met, where)
        elif "frames" in record["configuration"].split()[0]:
            met = record["value"] >= record["target"]
            yield Claim(claim, f"{record['value']:.1f}", f"at least {record['target']:g}", met, where)
        else:
            met = record["value"] < record["target"]
            yield Claim(claim, f"{record['value']:.3f}", f"below {record['target']:g}", met, where)


def _target(record: Record, lower_is_better: bool) -> tuple[str, bool | None]:
    target = record.get("target")
    if target is None:
        return "", None
    if lower_is_better:
        return f"at most {target:.3g}x", record["median_ratio"] <= target
    return f"at least {target:.3g}x", record["median_ratio"] >= target
