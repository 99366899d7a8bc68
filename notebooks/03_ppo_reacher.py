# %% [markdown]
# # PPO on a robot arm
#
# An arm with two joints learns to put its fingertip on a target. In about 15 minutes you see what
# a random policy and a hand-written controller achieve, compute advantages by hand, look at PPO's
# clipped objective, watch an agent learn, and film a trained one. The code is that of [lesson
# 3](../03_ppo_reacher/README.md), which explains it; equations have the numbers of Schulman et
# al. (2016, 2017).
#
# Run the cells from top to bottom with Shift+Enter. A line with `@param` holds a number that is
# yours to change: edit it (on Colab, move the slider), then run its cell and those below again.
# `assert` lines check what the text claims.

# %%
# On Colab this cell fetches the lab and installs it; elsewhere it is installed already.
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = "<this repository>"  # the address that `git clone` takes
CLONE = Path.home() / "pytorch-learning-lab"
if "google.colab" in sys.modules:
    if not CLONE.exists():
        if REPOSITORY.startswith("<"):
            raise RuntimeError(
                "set REPOSITORY to the address of the lab's repository, and try again"
            )
        subprocess.run(["git", "clone", "--depth", "1", REPOSITORY, CLONE], check=True)
    lines = (CLONE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if "==" in line and not line.startswith("torch==")]
    install = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *pins, "-e", CLONE], check=True)  # Colab has its own PyTorch
    sys.path.insert(0, str(CLONE))  # this process started before the installation

import lab.projects  # noqa: F401 - puts the folders of the lessons on the search path

os.chdir(tempfile.mkdtemp(prefix="lab_notebook_"))  # for the files that this notebook writes

# %% [markdown]
# ## The environment
#
# An observation of Reacher-v5 has 10 numbers: angles and velocities of the joints, the target,
# and the distance to it. An action is two torques in [-1, 1]. The reward of a step is minus the
# distance in meters minus the sum of the squared torques. An episode has 50 steps and ends by a
# time limit, never in a terminal state.

# %%
from lab.rendering import prepare_rendering

prepare_rendering()  # without a display MuJoCo renders off screen; before it is imported
import numpy as np
from gymnasium.spaces import Box

from controllers import inverse_kinematics_controller, random_policy
from environments import make_env
from lab.animations import side_by_side
from reacher_drawing import render_episodes

env = make_env("Reacher-v5")
observation, _ = env.reset(seed=0)
print("observation:", observation.round(2))
print("actions:", env.action_space)
torques = np.array([0.5, -0.2], dtype=np.float32)
next_observation, reward, terminated, truncated, _ = env.step(torques)
distance = np.linalg.norm(next_observation[8:10])  # from the fingertip to the target
print(f"reward of the torques {torques}: {reward:.4f}")

assert observation.shape == (10,)
assert isinstance(env.action_space, Box)
assert abs(reward - (-distance - (torques**2).sum())) < 1e-6

# %%
guessing = random_policy(env.action_space, seed=0)
controller = inverse_kinematics_controller()
random_frames = render_episodes(guessing, "Reacher-v5", seeds=[0])  # every second step
controller_frames = render_episodes(controller, "Reacher-v5", seeds=[0])
side_by_side([*random_frames[4:25:10], *controller_frames[4:25:10]])

# %% [markdown]
# Three moments of a random policy, then three of a controller that computes the joint angles from
# the target (inverse kinematics) and steers there (a PD controller). The yellow line is the path
# of the fingertip. Which returns do the two get, over the same held-out episodes?

# %%
from evaluation import evaluate_policy

baselines = {
    "random policy": evaluate_policy(guessing, "Reacher-v5", episodes=50).returns,
    "inverse kinematics + PD": evaluate_policy(controller, "Reacher-v5", episodes=50).returns,
}
for name, returns in baselines.items():
    print(f"{name:>24}: mean return {returns.mean():7.2f}, worst {returns.min():7.2f}")

assert baselines["inverse kinematics + PD"].min() > baselines["random policy"].mean()

# %% [markdown]
# ## Advantages by hand
#
# How much better was an action than the policy's average? Generalized advantage estimation (GAE)
# adds up all later TD errors, each weighted γλ times the one before, up to the end of the
# episode:
#
# $$\delta_t = r_t + \gamma V(s_{t+1}) - V(s_t) \qquad \text{(eq. 11)}$$
#
# $$A_t = \delta_t + \gamma\lambda \, \delta_{t+1} + (\gamma\lambda)^2 \, \delta_{t+2} + \dots
# \qquad \text{(eq. 16)}$$
#
# Take five steps of one environment. The time limit ends an episode after the third: the value of
# the next state still counts, but the sum stops there.

# %%
import torch

from ppo import compute_gae

discount = 0.95  # @param {"type": "slider", "min": 0, "max": 1, "step": 0.01}
gae_lambda = 0.99  # @param {"type": "slider", "min": 0, "max": 1, "step": 0.01}

rewards = torch.tensor([-1.0, -2.0, -0.5, -1.5, -1.0])  # (T,)
values = torch.tensor([-4.0, -3.0, -2.0, -3.5, -2.5])  # (T,)
next_values = torch.tensor([-3.0, -2.0, -1.5, -2.5, -2.0])  # (T,): of the true next observations
truncated = torch.tensor([False, False, True, False, False])  # (T,)

deltas = rewards + discount * next_values - values  # (T,)
by_hand = torch.tensor(
    [
        deltas[0] + gae_lambda * discount * deltas[1] + (gae_lambda * discount) ** 2 * deltas[2],
        deltas[1] + gae_lambda * discount * deltas[2],
        deltas[2],  # the episode ends here
        deltas[3] + gae_lambda * discount * deltas[4],
        deltas[4],
    ]
)
terminated = torch.zeros(5, dtype=torch.bool)  # (T,)
advantages, returns = compute_gae(
    rewards[:, None],  # (T,) -> (T, N), with N = 1
    values[:, None],
    next_values[:, None],
    terminated[:, None],
    truncated[:, None],
    discount,
    gae_lambda,
)  # (T, N) each
print("TD errors: ", deltas.numpy().round(3))
print("advantages:", by_hand.numpy().round(3))

torch.testing.assert_close(advantages[:, 0], by_hand)
torch.testing.assert_close(returns[:, 0], by_hand + values)

# %% [markdown]
# `gae_lambda = 0` leaves the TD error alone: it trusts the critic. `gae_lambda = 1` sums all
# rewards up to the end, and trusts them alone.
#
# ## The clipped objective
#
# The ratio r = π(a|s) / π_old(a|s) says how much more probable an action has become since the
# rollout. PPO maximizes the minimum of r·A and the same with r clipped to [1 − ε, 1 + ε] (eq. 7).
# So there is no incentive to move further than the clipping range: the gradient is zero there. If
# the policy went the wrong way, it can always come back.

# %%
from IPython.display import Image

from lab.plots import Curve, draw_curves, new_figure, save_figure
from ppo import policy_loss

clip_ratio = 0.1  # @param {"type": "slider", "min": 0.05, "max": 0.5, "step": 0.05}

ratios = torch.linspace(0.4, 1.6, 121)  # (R,)
curves = []
for advantage in (1.0, -1.0):
    log_probs = ratios.log().requires_grad_()  # (R,); the old log-probabilities are 0
    losses = [
        policy_loss(each, torch.zeros(()), torch.tensor(advantage), clip_ratio)
        for each in log_probs
    ]
    objective = -torch.stack(losses)  # (R,)
    (gradient,) = torch.autograd.grad(objective.sum(), log_probs)  # (R,)
    is_too_far = advantage * (ratios - 1) > clip_ratio + 1e-6  # (R,)
    assert (gradient[is_too_far] == 0).all()
    assert (gradient[~is_too_far] != 0).all()
    curves.append(Curve(f"advantage {advantage:+.0f}", ratios, objective.detach()))

figure, (axes,) = new_figure(height=3.2)
draw_curves(axes, curves)
axes.set(title="PPO's clipped objective", xlabel="new / old probability", ylabel="objective")
axes.legend()
save_figure(figure, Path("objective.png"))
Image("objective.png", width=560)

# %% [markdown]
# ## Watch it learn
#
# `train` is a generator: it collects a rollout, updates both networks, and yields a record of the
# iteration. The loop below only watches. The full training has 200 iterations; 50 take a few
# seconds and get it most of the way.

# %% tags=["parameters"]
num_iterations = 50

# %%
from IPython.display import DisplayHandle

from lab.plots import learning_curve
from ppo import train
from ppo_config import PPOConfig

learning_rate = 0.005  # @param {"type": "number"}
num_epochs = 4  # @param {"type": "slider", "min": 1, "max": 10, "step": 1}

torch.set_num_threads(1)  # for networks so small, a second thread costs more than it saves
config = PPOConfig(
    num_iterations=num_iterations,
    learning_rate=learning_rate,
    discount=discount,
    gae_lambda=gae_lambda,
    clip_ratio=clip_ratio,
    num_epochs=num_epochs,
)
reference_lines = {name: float(returns.mean()) for name, returns in baselines.items()}
steps, mean_returns = [], []
shown = DisplayHandle()
shown.display("the curve appears after a few iterations")
for record in train(config):
    steps.append(record.steps)
    mean_returns.append(np.mean(record.episode_returns))
    if record.iteration % 5 == 0 or record.iteration == num_iterations:
        learning_curve(
            Path("curve.png"),
            steps,
            mean_returns,
            title="PPO on Reacher-v5",
            x_label="environment steps",
            y_label="mean return per episode",
            y_name="PPO while exploring",
            reference_lines=reference_lines,
            y_scale="symlog",
        )
        shown.update(Image("curve.png", width=640))
print(f"mean return of the last iteration: {mean_returns[-1]:.2f}")

assert len(mean_returns) == num_iterations
assert mean_returns[-1] > mean_returns[0]

# %% [markdown]
# ## The trained arm
#
# The model in `results/` has trained for 200 iterations. Without exploring, it does about as well
# as the controller, which knows the geometry of the arm; the agent had to find it out.

# %%
from agent import load_policy
from lab.animations import save_gif
from lab.files import ROOT

first_episode = 0  # @param {"type": "slider", "min": 0, "max": 100, "step": 1}

trained = load_policy(ROOT / "03_ppo_reacher/results/trained_model.pth")
evaluation = evaluate_policy(trained, "Reacher-v5", episodes=50)
summary = evaluation.summary()
print(f"mean return {summary['mean_return']:.2f}, worst {summary['worst_return']:.2f}")
print(f"mean distance from the target at the end: {summary['mean_final_distance_mm']:.0f} mm")

assert abs(summary["mean_return"] - reference_lines["inverse kinematics + PD"]) < 0.5
frames = render_episodes(trained, "Reacher-v5", seeds=[first_episode, first_episode + 1])
save_gif(Path("arm.gif"), frames, frames_per_second=12)
Image("arm.gif")

# %% [markdown]
# ## Change it
#
# - `gae_lambda = 0`, then `1`: trust the critic alone, then the rewards alone. Which of them
#   learns faster?
# - `clip_ratio = 0.5` with `num_epochs = 10`: larger steps get further in 50 iterations. Do they
#   in 200?
# - `discount = 0.5`: the arm looks ahead for two steps only.
# - One run cannot tell whether a change helped. `lab repeat` and `lab compare` run several seeds,
#   in the terminal.
#
# ## Do it yourself
#
# The first exercise of the lesson. Write the function, run its cell, which saves it to a file,
# and then the check: it runs your function, the right one and all known wrong ones, and says
# which of them yours equals.

# %% tags=["active-ipynb", "exercise"]
# %%writefile log_prob.py
# """Exercise 3.1: log_prob
#
# Compute the log-density of each action under a Gaussian policy with one mean and one
# standard deviation for each joint.
#
# Check it: lab check log_prob
# """
#
# import torch
# from torch import Tensor
#
#
# def log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
#     """Log-density of actions under a Gaussian policy whose dimensions are independent.
#
#     mean (B, A), log_std (A,), the logarithm of the standard deviation, action (B, A) -> (B,).
#     """
#     # The distance of the action from the mean, measured in standard deviations.
#     # The logarithm of the normal density, for each dimension on its own.
#     # The dimensions are independent: the density of the action is the product of theirs.
#     raise NotImplementedError("write your code here, and remove this line")

# %% tags=["active-ipynb"]
# !"{sys.executable}" -m lab check log_prob --file log_prob.py

# %% [markdown]
# To go on, open a terminal in the lab's folder: `lab exercises start` writes a file for every
# exercise, `lab check td_errors --watch` checks yours at every save, and `lab hint td_errors`
# gives a hint.
