# %% [markdown]
# # Q-learning in a maze
#
# A mouse that knows nothing learns a shortest path to the cheese. In about 15 minutes you see its
# table of values fill up, change how it learns, compare the result with the exact solution, and
# train a thousand mice at once. The code is that of [lesson 1](../01_q_learning_maze/README.md),
# which explains it; the equations have the numbers of Sutton & Barto (2018).
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
# ## The maze
#
# The state is the number of the cell that the mouse is in, row by row. The actions are 0 up, 1
# right, 2 down, 3 left. Every step costs 1, the step onto the cheese gives 10. A move into a wall
# leaves the mouse where it is.

# %%
from maze_drawing import draw_maze
from maze_env import SimpleMaze
from maze_layout import DEFAULT_LAYOUT, random_maze
from maze_training import make_env

size = 4  # @param {"type": "slider", "min": 4, "max": 10, "step": 1}

maze = SimpleMaze(DEFAULT_LAYOUT if size == 4 else random_maze(size, size, seed=0))
env = make_env(maze)  # with a time limit
print("a shortest path takes", maze.shortest_path_length, "steps")
draw_maze(maze.cells, mouse=maze.start)

# %% [markdown]
# ## A mouse that knows nothing
#
# The agent's Q-table is empty, and a pair of state and action that was never tried counts as 0.
# All four actions tie, so the agent chooses among them at random.

# %%
from q_learning_agent import QLearningAgent, run_episode

untrained = QLearningAgent(n_actions=4)
walk = run_episode(env, untrained.act, seed=0)
print(f"{walk.length} steps, total reward {sum(walk.rewards):.0f}; cells visited: {walk.states}")

assert untrained.q_values(maze.start) == [0.0, 0.0, 0.0, 0.0]
assert walk.length >= maze.shortest_path_length

# %% [markdown]
# ## One update
#
# This is all that happens in a step of learning:
#
# $$Q(S,A) \leftarrow Q(S,A) + \alpha \, \bigl[ R + \gamma \max_a Q(S',a) - Q(S,A) \bigr] \qquad
# \text{(eq. 6.8)}$$
#
# Take the step onto the cheese, reward 10, with the old value 0. The cheese is terminal, so
# nothing comes after it, and the target is 10. The value moves towards it by the fraction α, the
# learning rate. Then take the step before: its target is −1 plus the discounted value just
# learned. That is how values propagate from the cheese back to the start.

# %%
learning_rate = 0.5  # @param {"type": "slider", "min": 0.05, "max": 1, "step": 0.05}
discount = 0.95  # @param {"type": "slider", "min": 0, "max": 1, "step": 0.05}

agent = QLearningAgent(n_actions=4, learning_rate=learning_rate, discount=discount)
agent.update(state=11, action=2, reward=10.0, next_state=15, terminated=True)
last_step = agent.q_table[11, 2]
agent.update(state=7, action=2, reward=-1.0, next_state=11, terminated=False)
step_before = agent.q_table[7, 2]
print(f"Q(11, down) = {last_step:.3f}   Q(7, down) = {step_before:.3f}")

assert abs(last_step - learning_rate * 10) < 1e-12
assert abs(step_before - learning_rate * (-1 + discount * last_step)) < 1e-12

# %% [markdown]
# ## Learning
#
# With probability ε the mouse explores: it takes any action. Otherwise it takes the best one that
# it knows. After each episode ε is multiplied by its decay. Training is a loop that yields a
# record of each episode; here we only watch it, and keep the Q-table as it is before the first
# episode, after a few, and at the end.

# %% tags=["parameters"]
episodes = 300
mice = 1000

# %%
import numpy as np

from maze_drawing import draw_policies, q_array
from q_learning_agent import train

epsilon = 1.0  # @param {"type": "slider", "min": 0.05, "max": 1, "step": 0.05}
epsilon_decay = 0.98  # @param {"type": "slider", "min": 0.9, "max": 1, "step": 0.01}

agent = QLearningAgent(4, learning_rate, discount, epsilon, epsilon_decay, seed=0)
records = []
tables = {"before learning": q_array(agent.q_table, maze.cells.size)}
for record in train(agent, env, episodes, seed=0):
    records.append(record)
    if record.number in (5, 20, episodes):
        tables[f"after {record.number} episodes"] = q_array(agent.q_table, maze.cells.size)

assert np.isnan(tables["before learning"]).all()  # nothing was tried
draw_policies(maze.cells, tables)

# %% [markdown]
# The color and the number of a cell are the value of its best action, max Q(s,a); the arrows are
# the best actions. Values form at the cheese first. Cells that the mouse seldom visits stay
# vague, which does no harm.
#
# The dashed line is the reward of a shortest path. The curve stays just below it while the mouse
# still explores.

# %%
from IPython.display import Image

from maze_reports import draw_learning_curve

draw_learning_curve(Path("learning_curve.png"), records, maze.shortest_path_length)
Image("learning_curve.png", width=640)

# %% [markdown]
# Without exploring, does the mouse take a shortest path? The expected length comes from
# breadth-first search, which knows the maze. If you have chosen a small learning rate or a larger
# maze, it may need more `episodes`.

# %%
from functools import partial

path = run_episode(env, partial(agent.act, greedy=True), seed=1)
print(f"{path.length} steps: {path.states}")

assert path.length == maze.shortest_path_length, "not a shortest path: try more episodes"

# %% [markdown]
# ## The exact solution
#
# If the maze is known, no learning is needed: value iteration repeats the Bellman equation (eq.
# 4.2) until nothing changes. The mouse's values agree with the exact ones along its path, and it
# earns as much as is possible.

# %%
from value_iteration import value_iteration

best_q = value_iteration(maze.P, discount)
optimum = best_q[maze.start].max()
earned = sum(discount**step * reward for step, reward in enumerate(path.rewards))
learned = max(agent.q_values(maze.start))
print(f"value of the start: learned {learned:.3f}, exact {optimum:.3f}; earned {earned:.3f}")

assert abs(earned - optimum) < 1e-9
best_q[maze.is_absorbing] = np.nan  # no action is taken there
draw_policies(maze.cells, {"learned": q_array(agent.q_table, maze.cells.size), "exact": best_q})

# %% [markdown]
# ## A thousand mice in one tensor
#
# Was our mouse lucky? Instead of a dictionary, let `q` be a tensor with one Q-table for each
# mouse, and one tensor operation takes a step of all of them. They are independent and differ in
# their random numbers only.

# %%
import time

import torch

from batched_q_learning import BatchedQLearning
from maze_studies import greedy_policies_are_optimal, train_many
from maze_training import make_dynamics

torch.set_num_threads(1)  # for operations so short, a second thread costs more than it saves
dynamics = make_dynamics(maze)
agents = BatchedQLearning(dynamics, mice, learning_rate, discount, epsilon, epsilon_decay)
print("q has the shape", tuple(agents.q.shape), "= (mice, states, actions)")
started = time.perf_counter()
rewards = train_many(agents, episodes, seed=0)  # (episodes, mice)
optimal = greedy_policies_are_optimal(agents, maze.shortest_path_length)  # (mice,)
print(f"{mice} mice learned for {episodes} episodes in {time.perf_counter() - started:.1f} seconds")
print(f"{optimal.float().mean():.1%} of them know a shortest path")

assert agents.q.shape == (mice, maze.cells.size, 4)
assert optimal.float().mean() > 0.9, "most mice need more episodes with these settings"

# %%
from lab.plots import Curve, draw_curves, new_figure, save_figure

low, median, high = np.quantile(rewards, [0.1, 0.5, 0.9], axis=1)  # (episodes,) each
number = np.arange(1, episodes + 1)
curves = [
    Curve(f"{mice} mice: median, 10th to 90th percentile", number, median, low, high),
    Curve("our mouse", number, [record.total_reward for record in records]),
]
figure, (axes,) = new_figure()
draw_curves(axes, curves)
axes.set(title="Q-learning in the maze", xlabel="episode", ylabel="total reward per episode")
axes.legend()
save_figure(figure, Path("many_mice.png"))
Image("many_mice.png", width=640)

# %% [markdown]
# ## Change it
#
# - `learning_rate = 0.05`: values propagate slowly. How many episodes does the mouse need now?
# - `epsilon_decay = 1`: the mouse never stops exploring, so the curve stays low; yet its greedy
#   path is a shortest one. Q-learning is *off-policy*.
# - `discount = 0`: the cheese matters only in the cell next to it, and the mouse gets lost.
# - `size = 8`: values have farther to go.
#
# ## Do it yourself
#
# The first exercise of the lesson. Write the function, run its cell, which saves it to a file,
# and then the check: it runs your function, the right one and all known wrong ones, and says
# which of them yours equals.

# %% tags=["active-ipynb", "exercise"]
# %%writefile discounted_return.py
# """Exercise 1.1: discounted_return
#
# Add up the rewards of an episode, each weighted by how far ahead it lies: the discounted
# return that the mouse wants to be large.
#
# Check it: lab check discounted_return
# """
#
#
# def discounted_return(rewards: list[float], gamma: float) -> float:
#     """Return the discounted return of an episode: G = R₁ + γ R₂ + γ² R₃ + ...
#
#     `rewards` holds R₁, R₂, R₃, ... in the order in which they were received; it may be empty.
#     """
#     # The return of what comes after the last reward.
#     # From the last reward to the first: G of a step is its reward and γ times the G after it.
#     raise NotImplementedError("write your code here, and remove this line")

# %% tags=["active-ipynb"]
# !"{sys.executable}" -m lab check discounted_return --file discounted_return.py

# %% [markdown]
# To go on, open a terminal in the lab's folder: `lab exercises start` writes a file for every
# exercise, `lab check greedy --watch` checks yours at every save, and `lab hint greedy` gives a
# hint.
