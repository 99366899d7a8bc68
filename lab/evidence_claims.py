"""The evidence: every claim about correctness, learning results and speed, with its result, target and processor."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from lab.results import Record, Run, read_json, read_runs, select


class Claim(NamedTuple):
    """One claim, measured on one processor; the evidence table has one row for the same claim on all processors."""

    claim: str
    result: str
    target: str = ""
    met: bool | None = None  # None: there is no target
    measured_on: str = "not recorded"
    highlight: bool = False  # also shown in the short table of the front page, on the processor where it is weakest
    strength: float = 0.0  # compares the results of a claim on several processors: higher is stronger


FLOAT_ROUNDING, EXACT = "float rounding", "exact"
EVERY_TEST_RUN = "every test run"
RUNS_WITH_TEST_DATA = "test runs with the test data"  # which is not in the repository


class Proof(NamedTuple):
    """A claim that a test verifies."""

    claim: str
    result: str
    target: str
    test: str
    runs: str = EVERY_TEST_RUN


BLOCK_TEST = "test_block_equals_torch_for_all_sizes"
PROOFS = (
    Proof(
        "Attention, multi-head attention and encoder block match `torch.nn`",
        "equal within rounding",
        FLOAT_ROUNDING,
        BLOCK_TEST,
    ),
    Proof(
        "GPT-2 and DistilBERT match `transformers` at the official sizes",
        "equal within rounding",
        FLOAT_ROUNDING,
        "test_equal_at_the_official_size",
    ),
    Proof(
        "Byte-level BPE matches GPT-2's token ids",
        EXACT,
        EXACT,
        "test_ids_equal_the_librarys_with_gpt2s_vocabulary",
        RUNS_WITH_TEST_DATA,
    ),
    Proof(
        "Byte-level BPE matches `tokenizers` with the bundled vocabulary",
        EXACT,
        EXACT,
        "test_ids_equal_the_librarys_with_the_bundled_vocabulary",
    ),
    Proof(
        "Batched Q-learning matches the dictionary version",
        EXACT,
        EXACT,
        "test_with_the_same_random_choices_it_equals_the_dictionary_exactly",
    ),
    Proof("Vectorized Reacher matches Gymnasium", EXACT, EXACT, "test_equal_to_gymnasium_over_a_thousand_episodes"),
    Proof(
        "Generalized advantage estimates match Stable-Baselines3",
        "equal within rounding",
        FLOAT_ROUNDING,
        "test_gae_equals_stable_baselines3_where_episodes_terminate",
    ),
    Proof(
        "PPO updates match Stable-Baselines3",
        "equal within rounding",
        FLOAT_ROUNDING,
        "test_three_steps_of_learning_equal_stable_baselines3",
    ),
)
SENTENCES = (("sst2_test", "SST-2 test", 0.84), ("uci_amazon", "Amazon", 0.82), ("uci_imdb", "IMDb", 0.82))


def interval(mean: float, low: float, high: float, digits: int = 2, sign: str = "") -> str:
    """Return a value with its 95% interval as text."""
    return f"{mean:{sign}.{digits}f} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"


def ratio_text(record: Record) -> str:
    """Return the median ratio of a record with its interquartile range, or its range if quartiles are unknown."""
    median = f"{record['median_ratio']:.3g}x"
    if record.get("q1_ratio") is not None:
        return f"{median} ({record['q1_ratio']:.3g} to {record['q3_ratio']:.3g})"
    return f"{median} (range {record['lowest_ratio']:.3g} to {record['highest_ratio']:.3g})"


def short_processor(name: str | None) -> str:
    """Return a processor's name without trademarks, core count and clock rate."""
    if not name:
        return "not recorded"
    short = re.sub(r"\((R|TM)\)|\s*@\s*[\d.]+\s*GHz|\bCPU\b|\b\d+-Core\b|\bProcessor\b", "", name)
    return " ".join(short.split())


def processor_text(source: Any) -> str:
    """Return the processor of a results file, a benchmark record or a run record."""
    return short_processor(source.get("processor") or source.get("environment", {}).get("processor"))


# --- correctness ------------------------------------------------------------------------------------------------------


def correctness() -> Iterator[Claim]:
    """Yield the claims about agreement with reference implementations."""
    block = read_json("02_transformer_basics/results/transformer_block.json")
    for proof in PROOFS:
        if proof.test == BLOCK_TEST and block:
            check = block["figures"][0]
            result = f"max difference {check['value']:.1e}"
            yield Claim(proof.claim, result, proof.target, check["ok"], proof.runs, highlight=True)
        else:
            yield Claim(proof.claim, proof.result, proof.target, True, proof.runs)
    if maze := read_json("01_q_learning_maze/results/train.json"):
        check = maze["figures"][0]
        shortest = f"{maze['results']['shortest_path_length']} steps (search)"
        result = f"{check['value']} steps"
        yield Claim("Q-learning finds a shortest path in the maze", result, shortest, check["ok"], processor_text(maze))
    agreement = (
        ("same_tokens", "one prompt", "float32", "GPT-2 generates the same tokens as `transformers`"),
        ("same_labels", "sentiment", "ours", "DistilBERT predicts the same labels as `transformers`"),
    )
    for run in read_runs("transformer"):
        for key, configuration, side, claim in agreement:
            for record in select(run["records"], configuration=configuration, side=side):
                result = EXACT if record[key] else "different"
                yield Claim(claim, result, EXACT, record[key], processor_text(record))


# --- learning results -------------------------------------------------------------------------------------------------


def learning_results() -> Iterator[Claim]:
    """Yield the claims about returns, accuracies and losses."""
    yield from _ppo_returns()
    yield from _sentiment_accuracies()
    yield from _language_losses()


def _ppo_returns() -> Iterator[Claim]:
    for ppo in read_runs("ppo"):
        (ours,) = select(ppo["summary"], side="ours")
        (controller,) = select(ppo["summary"], side="inverse kinematics + PD")
        mean, where = ours["mean"], processor_text(ppo)
        result = interval(mean, ours["low"], ours["high"])
        threshold = "at least -3.75 (reward threshold)"
        claim = f"PPO on Reacher-v5: return, {ours['seeds']} seeds"
        yield Claim(claim, result, threshold, mean >= -3.75, where, highlight=True, strength=mean)
        gain = mean - controller["mean"]
        claim = "PPO minus inverse-kinematics controller"
        yield Claim(claim, f"{gain:+.2f}", "at least +0.12", gain >= 0.12, where)
        gain = ours["worst"] - controller["mean"]
        claim = "PPO minus inverse-kinematics controller, worst seed"
        yield Claim(claim, f"{gain:+.2f}", "at least -0.10", gain >= -0.10, where)
    for run in read_runs("ppo_peers"):
        yield from _peer_returns(run)


def _peer_returns(run: Run) -> Iterator[Claim]:
    peers = [row for row in run.get("summary", ()) if "mean" in row and row["side"] != "ours"]
    if peers:
        best, worst = (choose(peers, key=lambda row: row["mean"]) for choose in (max, min))
        for name, row in (("Best", best), ("Worst", worst)):
            claim = f"{name} of {len(peers)} other PPO setups: {row['side']}"
            yield Claim(claim, interval(row["mean"], row["low"], row["high"]), measured_on=processor_text(run))


def _accuracy(claim: str, value: float, ends: list[float], target: float, source: Any) -> Claim:
    result = f"{value:.1%} ({ends[0]:.1%} to {ends[1]:.1%})"
    return Claim(claim, result, f"at least {target:.0%}", value >= target, processor_text(source))


def _sentiment_accuracies() -> Iterator[Claim]:
    if model := read_json("assets/models/sentiment/metrics.json"):
        for name, title, target in SENTENCES:
            if f"{name}_accuracy" in model:
                value, ends = model[f"{name}_accuracy"], model[f"{name}_interval"]
                claim = f"Bundled sentiment model: accuracy, {title}"
                yield _accuracy(claim, value, ends, target, model)
    comparison = read_json("02_transformer_basics/results/compare_sentiment.json") or {}
    methods = comparison.get("results", {})
    seeds = methods.get("finetune", {}).get("seeds")
    claims = {
        "finetune": f"MiniLM fine-tuned, {seeds} seeds: accuracy, SST-2 test",
        "average": f"MiniLM, average of {seeds} models' weights: accuracy, SST-2 test",
    }
    for method, claim in claims.items():
        if test := methods.get(method, {}).get("sst2_test"):  # absent for the reader's own sentences
            yield _accuracy(claim, test["accuracy"], test["interval"], 0.89, comparison)


def _language_losses() -> Iterator[Claim]:
    if language := read_json("assets/models/language/metrics.json"):
        bits, books = language["bits_per_byte_in_all"], len(language["bits_per_byte"])
        claim = f"Bundled language model: bits per byte, {books} held-out books"
        yield Claim(claim, f"{bits:.3f}", "at most 1.75", bits <= 1.75, processor_text(language))
    if run := read_json("02_transformer_basics/results/shakespeare/train_language_model.json"):
        loss, seconds = run["results"]["validation_loss"], run["seconds"]
        met = loss <= 1.58 and seconds <= 180
        result = f"{loss:.3f} in {seconds:.0f} s"
        yield Claim("Tiny Shakespeare: nats per character", result, "at most 1.58 in 180 s", met, processor_text(run))


# --- exercises --------------------------------------------------------------------------------------------------------

GRADERS = (  # what is counted, of how many, the smallest share, and the claim
    ("mistakes_caught", "mistakes", 1.0, "Exercises: known wrong answers that fail"),
    ("mistakes_named", "mistakes", 0.95, "Exercises: known wrong answers that are named"),
    ("pairs_caught", "pairs", 1.0, "Exercises: pairs of mistakes that fail"),
    ("pairs_named", "pairs", 0.9, "Exercises: pairs named with at least one of the two"),
    ("right_answers_passed", "right_answers", 1.0, "Exercises: right answers in other styles that pass"),
    ("empty_answers_caught", "empty_answers", 1.0, "Exercises: files without an answer that fail"),
    ("unseen_caught", "unseen", 1.0, "Exercises: wrong answers by somebody who has not seen the known ones that fail"),
    ("unseen_named", "unseen", 0.5, "Exercises: such answers that are named, or told the right kind of mistake"),
    ("mutants_caught", "mutants_different", 0.98, "Exercises: automatic mutants that fail, without equivalent ones"),
)
SECONDS = (  # what is timed, whether torch is imported (None: either), the most seconds, and the claim
    ("seconds_numbers", None, 0.2, "Exercises: seconds for the numbers alone, slowest exercise"),
    ("seconds_cold", "", 1.0, "Exercises: seconds for a check without torch, slowest exercise"),
    ("seconds_cold", "torch", 4.0, "Exercises: seconds for a check with torch, slowest exercise"),
    ("seconds_warm", None, 0.6, "Exercises: seconds from a save to the verdict once loaded, slowest exercise"),
)


def graders() -> Iterator[Claim]:
    """Yield the claims about the exercises: which answers fail, pass and are named, and how fast."""
    for run in read_runs("exercises"):
        yield from _graders(run)


def _graders(run: Run) -> Iterator[Claim]:
    (total,) = run["summary"]
    where = processor_text(run)
    total = total | {"mutants_different": total["mutants"] - total["mutants_equivalent"]}
    for part, whole, share, claim in GRADERS:
        target = "all" if share == 1 else f"at least {share:.0%}"
        met = total[part] >= share * total[whole]
        yield Claim(claim, f"{total[part]:,} of {total[whole]:,}", target, met, where)
    idle = total["num_idle_probes"]
    claim = "Exercises: probes without which nothing is lost"
    yield Claim(claim, f"{idle} of {total['num_probes']}", "0", not idle, where)
    checks, failed = total["repeated_checks"], len(total["repeated_checks_failed"])
    yield Claim(
        "Exercises: repeated checks of right answers that fail", f"{failed} of {checks}", "0", not failed, where
    )
    for name, imports, most, claim in SECONDS:
        slowest = max(row[name] for row in run["records"] if imports in (None, row["imports"]))
        yield Claim(claim, f"{slowest:.2f}", f"below {most:g}", slowest < most, where)
    seconds = total["seconds_endless_loop"]
    claim = "Exercises: seconds until an endless loop is reported"
    yield Claim(claim, f"{seconds:.1f}", "at most 6", seconds <= 6, where)
