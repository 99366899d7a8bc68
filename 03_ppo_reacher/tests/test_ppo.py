"""The parts of PPO against references: textbook sums, closed forms, autograd, Stable-Baselines3."""

import dataclasses
import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO as StableBaselines3PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from torch import Tensor
from torch.distributions import MultivariateNormal

import ppo
from environments import make_envs
from lab.errors import UserError
from networks import PolicyNetwork, ValueNetwork
from normalization import ObservationNormalizer, RewardScaler, RunningMeanStd
from ppo import Agent, PPOConfig, compute_gae, explained_variance, make_agent, normalized, policy_loss

SMALL = PPOConfig(num_iterations=3, steps_per_iter=256, num_envs=4, num_epochs=2, hidden_sizes=(16,))


# --- networks ---------------------------------------------------------------------------------------------------------


def test_policy_log_prob_and_entropy_equal_a_diagonal_multivariate_normal() -> None:
    torch.manual_seed(0)
    policy = PolicyNetwork(5, 3, (8, 8), initial_log_std=-0.7)
    observations, actions = torch.randn(7, 5), torch.randn(7, 3)
    distribution = policy(observations)
    reference = MultivariateNormal(policy.mean(observations), torch.eye(3) * np.exp(-0.7) ** 2)
    torch.testing.assert_close(distribution.log_prob(actions), reference.log_prob(actions))
    torch.testing.assert_close(distribution.entropy(), reference.entropy())
    torch.testing.assert_close(policy.log_prob(observations, actions), reference.log_prob(actions))
    torch.testing.assert_close(policy.entropy().expand(7), reference.entropy())
    assert distribution.log_prob(actions).shape == (7,)


def test_networks_start_as_the_paper_trail_says() -> None:
    torch.manual_seed(0)
    policy, value = PolicyNetwork(10, 2, (64, 64)), ValueNetwork(10, (64, 64))
    hidden = policy.mean.get_parameter("2.weight")
    torch.testing.assert_close(hidden @ hidden.T, 2 * torch.eye(64), atol=1e-4, rtol=0)
    assert policy(torch.randn(100, 10)).mean.abs().max() < 0.05
    assert value(torch.randn(6, 10)).shape == (6,)
    shared = {id(p) for p in policy.parameters()} & {id(p) for p in value.parameters()}
    assert not shared


# --- advantages -------------------------------------------------------------------------------------------------------


def gae_by_definition(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    lam: float,
) -> Tensor:
    """The double sum of Schulman et al. 2016, eq. 16, written out for each step."""
    steps, envs = rewards.shape
    result = torch.zeros_like(rewards)
    for t, n in itertools.product(range(steps), range(envs)):
        weight = 1.0
        for k in range(t, steps):
            follows = 0.0 if terminated[k, n] else 1.0
            result[t, n] += weight * (rewards[k, n] + gamma * follows * next_values[k, n] - values[k, n])
            if terminated[k, n] or truncated[k, n]:
                break
            weight *= gamma * lam
    return result


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10_000))
def test_gae_equals_the_sum_of_its_definition(steps: int, envs: int, gamma: float, lam: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rewards, values, next_values = torch.randn(3, steps, envs, generator=generator, dtype=torch.float64)
    terminated, truncated = torch.rand(2, steps, envs, generator=generator) < 0.2
    arguments = (rewards, values, next_values, terminated, truncated, gamma, lam)
    advantages, returns = compute_gae(*arguments)
    torch.testing.assert_close(advantages, gae_by_definition(*arguments))
    torch.testing.assert_close(returns, advantages + values)


def test_gae_equals_stable_baselines3_where_episodes_terminate() -> None:
    steps, envs, gamma, lam = 40, 3, 0.97, 0.9
    generator = np.random.default_rng(0)
    rewards, values = generator.normal(size=(2, steps + 1, envs)).astype(np.float32)
    ends = generator.random((steps, envs)) < 0.15
    box: Any = gym.spaces.Box(-1, 1, (1,))
    buffer = RolloutBuffer(steps, box, box, device="cpu", gae_lambda=lam, gamma=gamma, n_envs=envs)
    starts = np.concatenate([np.ones((1, envs), bool), ends[:-1]])
    nothing = np.zeros((envs, 1))
    for t in range(steps):
        buffer.add(nothing, nothing, rewards[t], starts[t], torch.as_tensor(values[t]), torch.zeros(envs))
    buffer.compute_returns_and_advantage(torch.as_tensor(values[steps]), ends[-1])
    tensors = [torch.as_tensor(x) for x in (rewards[:steps], values[:steps], values[1:], ends, ends & False)]
    advantages, returns = compute_gae(*tensors, discount=gamma, gae_lambda=lam)
    np.testing.assert_allclose(advantages, buffer.advantages, atol=1e-5)
    np.testing.assert_allclose(returns, buffer.returns, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 0.9, 0.99])
def test_reward_one_under_a_time_limit_is_worth_the_geometric_sum(gamma: float) -> None:
    """With the true value V = 1 / (1 - gamma) everywhere, nothing is left to be learned, at a cut least of all."""
    shape = (20, 2)
    value = torch.full(shape, 1 / (1 - gamma), dtype=torch.float64)
    cut = torch.zeros(shape, dtype=torch.bool)
    cut[4::5] = True
    never = torch.zeros_like(cut)
    advantages, _ = compute_gae(torch.ones_like(value), value, value, never, cut, gamma, 0.95)
    assert advantages.abs().max() < 1e-9
    as_death, _ = compute_gae(torch.ones_like(value), value, value, cut, never, gamma, 0.95)
    assert as_death[4].max() < -0.9, "a time limit treated as death must show"


# --- the loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "moves"),
    [
        (1.0, 2.0, -2.0, True),
        (1.5, 1.0, -1.2, False),  # a good action is already likelier by more than the clip: no further
        (0.5, 1.0, -0.5, True),  # a good action became unlikelier: back
        (1.5, -1.0, 1.5, True),  # a bad action became likelier: back
        (0.5, -1.0, 0.8, False),  # a bad action is already unlikelier by more than the clip: no further
    ],
)
def test_clipped_objective_and_its_gradient(ratio: float, advantage: float, loss: float, moves: bool) -> None:
    log_prob = torch.tensor([np.log(ratio)], requires_grad=True)
    value = policy_loss(log_prob, torch.zeros(1), torch.tensor([advantage]), clip_ratio=0.2)
    value.backward()
    assert value.item() == pytest.approx(loss, abs=1e-6)
    assert log_prob.grad is not None
    assert bool(log_prob.grad.abs() > 1e-6) is moves


# our parameters, policy's and value's, and where Stable-Baselines3 has the like
OURS_TO_THEIRS = {
    "log_std": "log_std",
    "mean.0": "mlp_extractor.policy_net.0",
    "mean.2": "mlp_extractor.policy_net.2",
    "mean.4": "action_net",
    "value.0": "mlp_extractor.value_net.0",
    "value.2": "mlp_extractor.value_net.2",
    "value.4": "value_net",
}


def parameter_pairs(agent: Agent, reference: StableBaselines3PPO) -> list[tuple[str, Tensor, Tensor]]:
    theirs = dict(reference.policy.named_parameters())
    pairs = []
    for name, parameter in [*agent.policy.named_parameters(), *agent.value.named_parameters()]:
        layer, _, kind = name.rpartition(".") if name != "log_std" else (name, "", "")
        pairs.append((name, parameter, theirs[f"{OURS_TO_THEIRS[layer]}.{kind}".rstrip(".")]))
    return pairs


def stable_baselines3_agent(config: PPOConfig, steps: int) -> StableBaselines3PPO:
    reference = StableBaselines3PPO(
        "MlpPolicy",
        gym.make("Reacher-v5"),
        n_steps=steps,
        batch_size=steps,
        n_epochs=config.num_epochs,
        learning_rate=config.learning_rate,
        clip_range=config.clip_ratio,
        ent_coef=config.entropy_coefficient,
        vf_coef=config.value_coefficient,
        max_grad_norm=config.max_grad_norm,
        policy_kwargs={"net_arch": list(config.hidden_sizes), "activation_fn": torch.nn.ReLU},
        device="cpu",
    )
    reference.set_logger(Logger(folder=None, output_formats=[]))
    return reference


def test_three_steps_of_learning_equal_stable_baselines3() -> None:
    """One shared batch, the same weights: the losses, the clipping of ratios and gradients, and Adam lead both sides to
    the same weights. The whole batch is one minibatch, so its order does not matter; ratios differ from 1 from the
    second step on."""
    steps = 64
    config = PPOConfig(num_epochs=3, num_minibatches=1, hidden_sizes=(16, 8), entropy_coefficient=0.01, clip_ratio=0.05)
    torch.manual_seed(0)
    agent, reference = make_agent(config, 10, 2), stable_baselines3_agent(config, steps)
    with torch.no_grad():
        for _, ours, theirs in parameter_pairs(agent, reference):
            theirs.copy_(ours)
    observations, actions = torch.randn(steps, 10), torch.randn(steps, 2)
    advantages, returns = 3 * torch.randn(steps) + 1, 5 * torch.randn(steps)
    with torch.no_grad():
        values, log_probs, _ = reference.policy.evaluate_actions(observations, actions)
    buffer: Any = reference.rollout_buffer
    buffer.reset()
    for t in range(steps):
        buffer.add(
            observations[t, None].numpy(),
            actions[t, None].numpy(),
            np.zeros(1),
            np.zeros(1),
            values[t],
            log_probs[t, None],
        )
    buffer.advantages[:, 0], buffer.returns[:, 0] = advantages.numpy(), returns.numpy()
    reference.train()

    learned = ppo.as_one_vector(agent.parameters())
    before = learned.detach().clone()
    optimizer = torch.optim.Adam([learned], lr=config.learning_rate, eps=1e-5)
    stats = ppo.update(agent, optimizer, observations, actions, advantages, returns, config)
    assert (learned - before).abs().max() > 1e-3
    assert reference.logger.name_to_value["train/clip_fraction"] > 0
    for name, ours, theirs in parameter_pairs(agent, reference):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4, msg=name)

    reference.n_epochs = 1  # what it logs now is measured where both sides have come to
    reference.train()
    logged = reference.logger.name_to_value
    assert stats.policy_loss == pytest.approx(logged["train/policy_gradient_loss"], rel=1e-3)
    assert stats.value_loss == pytest.approx(logged["train/value_loss"], rel=1e-3)
    assert stats.entropy == pytest.approx(-logged["train/entropy_loss"], rel=1e-3)
    assert stats.approx_kl == pytest.approx(logged["train/approx_kl"], rel=1e-3)
    assert stats.clip_fraction == pytest.approx(logged["train/clip_fraction"], abs=1e-6)


def test_first_minibatch_sees_the_policy_that_acted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratio is exactly 1 before the first step: old log-probabilities that are not the policy's show here."""
    seen = []

    def spy(log_probs: Tensor, old: Tensor, advantages: Tensor, clip_ratio: float) -> Tensor:
        seen.append((log_probs - old).exp().detach())
        return policy_loss(log_probs, old, advantages, clip_ratio)

    monkeypatch.setattr(ppo, "policy_loss", spy)
    config = dataclasses.replace(SMALL, initial_log_std=1.0)  # wide: most actions are clipped by the bounds
    list(ppo.train(config))
    calls = config.num_epochs * config.num_minibatches + 1  # the last one measures the whole rollout
    for iteration in range(config.num_iterations):
        torch.testing.assert_close(seen[iteration * calls], torch.ones(64), atol=1e-5, rtol=0)
    assert (seen[calls - 1] - 1).abs().max() > 1e-3


def test_update_gets_the_actions_and_means_of_the_policy_that_acted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was drawn, less the mean that the update computes, is the very noise of the rollout: clipping what is
    stored, or changing the statistics between rollout and update, would show here."""
    noise, seen, drawn = [], [], []
    collect, update = ppo.RolloutCollector.collect, ppo.update

    def spy_collect(self: Any, policy: PolicyNetwork, normalizer: Any, num_steps: int) -> Any:
        with torch.random.fork_rng():
            noise.append(policy.log_std.detach().exp() * torch.randn(num_steps * self.envs.num_envs, 2))
        return collect(self, policy, normalizer, num_steps)

    def spy_update(agent: Agent, optimizer: Any, observations: Tensor, actions: Tensor, *rest: Any, **more: Any) -> Any:
        seen.append(actions - agent.policy.mean(observations).detach())
        drawn.append(actions)
        return update(agent, optimizer, observations, actions, *rest, **more)

    monkeypatch.setattr(ppo.RolloutCollector, "collect", spy_collect)
    monkeypatch.setattr(ppo, "update", spy_update)
    list(ppo.train(dataclasses.replace(SMALL, initial_log_std=1.0)))  # wide: most actions lie out of bounds
    assert len(seen) == 3
    for ours, theirs in zip(seen, noise, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert min(actions.abs().max() for actions in drawn) > 2


def test_normalized_advantages() -> None:
    result = normalized(torch.tensor([1.0, 2.0, 3.0, 10.0]))
    assert result.mean().abs() < 1e-6
    assert result.std() == pytest.approx(1.0)


def test_explained_variance() -> None:
    actual = torch.randn(100, generator=torch.Generator().manual_seed(0))
    assert explained_variance(actual, actual) == pytest.approx(1.0)
    assert explained_variance(torch.zeros(100), actual) == pytest.approx(0.0, abs=1e-6)
    assert explained_variance(-actual, actual) < -2


# --- normalisation ----------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 1000))
def test_running_statistics_equal_those_of_all_data(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    batches = [5 + 3 * torch.randn(size, 2, generator=generator, dtype=torch.float64) for size in sizes]
    statistics = RunningMeanStd(2)
    for batch in batches:
        statistics.update(batch)
    everything = torch.cat(batches)
    torch.testing.assert_close(statistics.mean, everything.mean(0))
    torch.testing.assert_close(statistics.variance, everything.var(0, unbiased=False))
    copy = RunningMeanStd(2)
    copy.load_state_dict(statistics.state_dict())
    assert torch.equal(copy.std, statistics.std)
    assert copy.count == statistics.count


def test_observations_are_normalised_and_cut_off() -> None:
    normalizer = ObservationNormalizer(1)
    raw = torch.tensor([[3.0]], dtype=torch.float64)
    assert normalizer(raw).item() == 3.0  # nothing seen yet: nothing changed
    normalizer.statistics.update(torch.tensor([[0.0], [2.0]]))
    assert normalizer(raw).item() == pytest.approx(2.0)
    assert normalizer(raw * 1e6).item() == 10.0
    assert normalizer(raw).dtype == torch.float32


def test_reward_scale_is_that_of_the_discounted_return_and_starts_anew_at_ends() -> None:
    scaler = RewardScaler(num_envs=1, discount=0.5)
    rewards = torch.tensor([[1.0], [1.0], [1.0]], dtype=torch.float64)
    scaler.update(rewards, torch.tensor([[False], [True], [False]]))
    torch.testing.assert_close(scaler.statistics.mean.item(), np.mean([1.0, 1.5, 1.0]))
    assert scaler(rewards).std() == 0
    assert scaler(rewards)[0].item() == pytest.approx(1 / np.std([1.0, 1.5, 1.0]), rel=1e-3)


# --- the whole --------------------------------------------------------------------------------------------------------


def test_same_seed_same_run_and_other_seed_another() -> None:
    def final_weights(seed: int) -> Tensor:
        *_, last = ppo.train(dataclasses.replace(SMALL, seed=seed))
        return torch.cat([p.detach().flatten() for p in last.agent.policy.parameters()])

    assert torch.equal(final_weights(3), final_weights(3))
    assert not torch.equal(final_weights(3), final_weights(4))


def test_rollout_equals_stepping_single_environments_and_holds_the_true_next_observation() -> None:
    torch.manual_seed(0)
    agent = make_agent(SMALL, 10, 2)
    envs = make_envs("Reacher-v5", 3)
    rollout = ppo.RolloutCollector(envs, seed=7).collect(agent.policy, agent.normalizer, num_steps=60)
    assert not rollout.terminated.any()
    assert rollout.truncated.nonzero()[:, 0].tolist() == [49, 49, 49]
    assert not torch.equal(rollout.next_observations[49], rollout.observations[50])
    for n in range(3):
        env = gym.make("Reacher-v5")
        observation, _ = env.reset(seed=7 + n)
        total = 0.0
        for t in range(50):
            assert torch.equal(torch.as_tensor(observation), rollout.observations[t, n])
            observation, reward, *_ = env.step(rollout.actions[t, n].clamp(-1, 1).numpy())
            total += float(reward)
            assert float(reward) == rollout.rewards[t, n].item()
            assert torch.equal(torch.as_tensor(observation), rollout.next_observations[t, n])
        assert total == pytest.approx(rollout.episode_returns[n])


@pytest.mark.parametrize(
    ("env_id", "says"),
    [("CartPole-v1", "Discrete"), ("FrozenLake-v1", "observations"), ("Nonsense-v7", "Nonsense"), ("a:b", "a")],
)
def test_environments_that_do_not_fit_are_refused_in_one_line(env_id: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        make_envs(env_id, 2)
    assert "\n" not in str(caught.value)
    assert "--env_id" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"num_iterations": 0},
        {"steps_per_iter": 100, "num_envs": 16},
        {"discount": 1.5},
        {"gae_lambda": -0.1},
        {"learning_rate": 0.0},
        {"clip_ratio": float("nan")},
        {"seed": -1},
        {"hidden_sizes": (64, 0)},
        {"num_minibatches": 2000},
    ],
)
def test_impossible_settings_are_refused_by_name(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(change))}"):
        PPOConfig(**change)


def test_divergence_stops_with_a_word() -> None:
    with pytest.raises(UserError, match="diverged"):
        list(ppo.train(dataclasses.replace(SMALL, learning_rate=1e30, max_grad_norm=1e30)))


def test_agent_is_what_the_record_carries() -> None:
    *_, last = ppo.train(SMALL)
    assert isinstance(last.agent, Agent)
    assert last.agent.normalizer.statistics.count == SMALL.num_iterations * SMALL.steps_per_iter
    assert last.steps == 768
    assert last.learning_rate == pytest.approx(SMALL.learning_rate / 3)
