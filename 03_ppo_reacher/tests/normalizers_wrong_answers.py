"""Wrong answers to the exercises on running statistics, each the right one with one mistake switched on."""

from collections.abc import Set
from typing import Any

import torch
from torch import Tensor

from lab.exercises.wrong_answers import Wrong, switches

NONE: Set[str] = frozenset()


class RunningMeanStd:
    """Running statistics with the given mistakes."""

    def __init__(self, dim: int, wrong: Set[str] = NONE) -> None:
        self.wrong = wrong
        dtype = torch.float32 if "float32" in wrong else torch.float64
        count = 1e-4 if "phantom_rows" in wrong else (1.0 if "one_phantom_row" in wrong else 0.0)
        squares = torch.full((dim,), count, dtype=dtype)
        zeros = torch.zeros(dim, dtype=dtype)
        self.state: dict[str, Any] = {"count": count, "mean": zeros, "squares": squares, "batches": 0}
        self.state |= {"sum": zeros, "sum_of_squares": zeros}
        self.dtype = dtype

    @property
    def mean(self) -> Tensor:
        """The mean so far."""
        return self.state["mean"]

    @property
    def std(self) -> Tensor:
        """The standard deviation so far."""
        wrong, state = self.wrong, self.state
        count = state["count"]
        variance = state["squares"] / (count - 1 if "n_minus_1" in wrong else count)
        if "n_minus_1_or_1" in wrong:
            variance = state["squares"] / max(count - 1, 1)
        if "not_divided" in wrong:
            variance = state["squares"]
        if "variance_for_std" in wrong:
            return variance
        return variance.sqrt()

    def update(self, batch: Tensor) -> None:
        """Merge a batch, with the given mistakes."""
        wrong, state = self.wrong, self.state
        original = batch
        if "dtype_of_batch" in wrong:
            self.dtype = batch.dtype
            state.update({name: each.to(self.dtype) for name, each in state.items() if torch.is_tensor(each)})
        batch = batch.to(self.dtype)
        if "forgets" in wrong:
            state.update(count=0.0, mean=state["mean"] * 0, squares=state["squares"] * 0)
        if "first_row_only" in wrong:
            batch = batch[:1]
        size = len(batch)
        batch_mean = batch.mean() if "over_all_features" in wrong else batch.mean(0)
        deviations = (batch - batch_mean).square()
        batch_squares = deviations.sum() if "over_all_features" in wrong else deviations.sum(0)
        if "batch_unbiased" in wrong:
            batch_squares = deviations.sum(0) / (size - 1) * size  # NaN for one row
        if "squares_not_summed" in wrong:
            batch_squares = deviations.mean(0)
        old_count = state["count"]
        added = batch.numel() if "count_per_feature" in wrong else (1 if "count_per_batch" in wrong else size)
        count = old_count + added
        delta = batch_mean - state["mean"]
        new_mean = state["mean"] + delta * added / count
        if "mean_weight" in wrong:
            new_mean = state["mean"] + delta + added / count
        if "mean_of_means" in wrong:
            new_mean = state["mean"] + delta / (state["batches"] + 1)
        if "mean_by_old_weight" in wrong:
            new_mean = state["mean"] + delta * old_count / count
        if "batch_mean" in wrong:
            new_mean = batch_mean
        if "new_mean_delta" in wrong:
            delta = batch_mean - new_mean
        between = delta.square() * old_count * added / count
        if "no_between" in wrong:
            between = torch.zeros_like(between)
        if "between_unweighted" in wrong:
            between = delta.square()
        if "between_not_squared" in wrong:
            between = delta * old_count * added / count
        if "between_not_divided" in wrong:
            between = delta.square() * old_count * added
        squares = state["squares"] + batch_squares + between
        if "distance_from_new_mean" in wrong:
            squares = state["squares"] + (batch - new_mean).square().sum(0)
        if "distance_from_old_mean" in wrong:
            squares = state["squares"] + (batch - state["mean"]).square().sum(0)
        if "overwritten" in wrong:
            squares = batch_squares + between
        if "squares" in wrong:
            state["sum"] = state["sum"] + batch.float().sum(0)
            state["sum_of_squares"] = state["sum_of_squares"] + batch.float().square().sum(0)
            variance = (state["sum_of_squares"] / count).float() - (state["sum"] / count).float().square()
            squares = variance.double() * count
        if "in_place" in wrong:
            original -= batch_mean.to(original.dtype)
        state.update(count=count, mean=new_mean, squares=squares, batches=state["batches"] + 1)


class RewardScaler:
    """Scaled rewards with the given mistakes."""

    def __init__(self, num_envs: int, discount: float, wrong: Set[str] = NONE) -> None:
        self.wrong = wrong
        self.discount = 1.0 if "undiscounted" in wrong else discount
        self.returns = torch.zeros(num_envs, dtype=torch.float64)
        self.values: list[Tensor] = []  # all that the deviation is computed of, (N,) each

    def update(self, rewards: Tensor, ended: Tensor) -> None:
        """Take in rewards and ends, with the given mistakes."""
        wrong = self.wrong
        rewards, ended = rewards.double(), ended.bool()
        if "backwards" in wrong:
            rewards, ended = rewards.flip(0), ended.flip(0)
            self.returns = torch.zeros_like(self.returns)
        if "forgets" in wrong:
            self.values = []
        if "restarted" in wrong:
            self.returns = torch.zeros_like(self.returns)
        for reward, end in zip(rewards, ended, strict=True):
            if "all_reset" in wrong:
                end = end.any().expand_as(end)
            if "inverted_reset" in wrong:
                end = ~end
            before = self.returns
            if "reset_too_early" in wrong or "backwards" in wrong:
                before = before * ~end
            returns = before * self.discount + reward
            if "reward_discounted_too" in wrong:
                returns = (before + reward) * self.discount
            if "reset_before_noting" in wrong:
                returns = returns * ~end
            noted = before if "noted_too_early" in wrong else returns
            self._note(reward if "of_rewards" in wrong else noted, end)
            self.returns = returns * ~end
            if "not_reset" in wrong or "reset_too_early" in wrong or "backwards" in wrong:
                self.returns = returns
            if "reset_to_reward" in wrong:
                self.returns = torch.where(end, reward, returns)

    def _note(self, returns: Tensor, end: Tensor) -> None:
        wrong = self.wrong
        if "of_finished_returns" in wrong:
            self.values += [returns[end]] if end.any() else []
        elif "summed_over_environments" in wrong:
            self.values.append(returns.sum(0, keepdim=True))
        elif "first_environment_only" in wrong:
            self.values.append(returns[:1])
        else:
            self.values.append(returns)

    def _deviation(self) -> Tensor:
        wrong = self.wrong
        values = torch.stack(self.values) if "per_environment" in wrong else torch.cat(self.values or [torch.ones(1)])
        size = len(values) - ("sample_deviation" in wrong)
        if "about_zero" in wrong:
            return values.square().mean(0).sqrt()
        if "by_variance" in wrong:
            return (values - values.mean(0)).square().sum(0) / size
        if "by_mean" in wrong:
            return values.abs().mean(0)
        if "by_largest" in wrong:
            return values.abs().amax(0)
        return ((values - values.mean(0)).square().sum(0) / size).sqrt()

    def __call__(self, rewards: Tensor) -> Tensor:
        """Return scaled rewards, with the given mistakes."""
        wrong = self.wrong
        deviation = self._deviation()
        given = rewards
        rewards = rewards.double()
        if "not_scaled" in wrong:
            return rewards
        if "centred" in wrong:
            rewards = rewards - torch.cat(self.values).mean()
        if "own_mean_subtracted" in wrong:
            rewards = rewards - rewards.mean()
        scaled = rewards * deviation if "multiplied" in wrong else rewards / deviation
        if "clipped" in wrong:
            scaled = scaled.clamp(-1, 1)
        if "in_place" in wrong:
            return given.copy_(scaled)
        return scaled


MEANS = {"mean_weight", "mean_of_means", "mean_by_old_weight", "batch_mean"}
BETWEEN = {
    "no_between",
    "between_unweighted",
    "between_not_squared",
    "between_not_divided",
    "new_mean_delta",
    "distance_from_new_mean",
    "distance_from_old_mean",
}
RESETS = {"not_reset", "reset_too_early", "reset_before_noting", "reset_to_reward", "inverted_reset"}
DEVIATIONS = {"about_zero", "by_variance", "by_mean", "by_largest"}
NOTED = {"of_rewards", "of_finished_returns", "summed_over_environments", "first_environment_only"}


class SumsByBatches:
    """Sums over rows, divided by the number of batches."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.sums = self.squares = torch.zeros(dim, dtype=torch.float64)

    def update(self, batch: Tensor) -> None:
        self.count += 1
        self.sums = self.sums + batch.double().sum(0)
        self.squares = self.squares + batch.double().square().sum(0)

    @property
    def mean(self) -> Tensor:
        return self.sums / self.count

    @property
    def std(self) -> Tensor:
        return (self.squares / self.count - self.mean.square()).clamp(min=0).sqrt()


class MeanOfDeviations:
    """Averages of the batches' means and variances."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = self.variance = torch.zeros(dim, dtype=torch.float64)

    def update(self, batch: Tensor) -> None:
        self.count += 1
        self.mean = self.mean + (batch.double().mean(0) - self.mean) / self.count
        self.variance = self.variance + (batch.double().var(0, correction=0) - self.variance) / self.count

    @property
    def std(self) -> Tensor:
        return self.variance.sqrt()


WRONG = {
    "RunningMeanStd": Wrong(
        {"RunningMeanStd": RunningMeanStd},
        switches(RunningMeanStd),
        exclusive=(
            MEANS,
            BETWEEN,
            {"batch_unbiased", "squares_not_summed", "over_all_features", "first_row_only", "squares"},
            {"count_per_feature", "count_per_batch"},
            {"phantom_rows", "one_phantom_row"},
            {"float32", "dtype_of_batch"},
            {"not_divided", "n_minus_1", "n_minus_1_or_1"},
            {"forgets", "overwritten"},
            *(
                {each, other}
                for each in ("distance_from_new_mean", "distance_from_old_mean")
                for other in ("overwritten", "batch_unbiased", "squares_not_summed", "over_all_features", "forgets")
            ),
            {"distance_from_old_mean", "count_per_feature"},
            {"forgets", "phantom_rows"},
            {"forgets", "one_phantom_row"},
            *({"forgets", other} for other in BETWEEN | MEANS),
            *(
                {"squares", other}
                for other in (
                    *BETWEEN,
                    "overwritten",
                    "forgets",
                    "count_per_feature",
                    "count_per_batch",
                    "phantom_rows",
                    "one_phantom_row",
                    "float32",
                )
            ),
        ),
        plain={
            "sums_by_batches": {"RunningMeanStd": SumsByBatches},
            "mean_of_deviations": {"RunningMeanStd": MeanOfDeviations},
        },
    ),
    "RewardScaler": Wrong(
        {"RewardScaler": RewardScaler},
        switches(RewardScaler),
        exclusive=(
            RESETS,
            DEVIATIONS,
            NOTED,
            {"not_scaled", "multiplied", "clipped", "in_place"},
            {"not_scaled", "centred", "own_mean_subtracted"},
            *(
                {"not_scaled", other}
                for other in (
                    *DEVIATIONS,
                    *NOTED,
                    *RESETS,
                    "per_environment",
                    "forgets",
                    "restarted",
                    "all_reset",
                    "undiscounted",
                    "backwards",
                    "reward_discounted_too",
                )
            ),
            *({"per_environment", other} for other in (*NOTED, "centred")),
            *(
                {"of_rewards", other}
                for other in (*RESETS, "restarted", "undiscounted", "all_reset", "reward_discounted_too", "backwards")
            ),
            *({"all_reset", other} for other in RESETS),
            {"of_finished_returns", "reset_before_noting"},
            {"of_finished_returns", "inverted_reset"},
            *({"backwards", other} for other in (*RESETS, "restarted", "all_reset", "noted_too_early")),
            *({"noted_too_early", other} for other in ("of_rewards", "reset_before_noting")),
        ),
        readings=("sample_deviation",),
    ),
}
