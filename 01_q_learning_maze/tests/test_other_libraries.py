"""The maze as other libraries see it: deep reinforcement learning solves it, too."""

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO

import maze_env  # noqa: F401 - registers the environment
from q_learning_agent import run_episode


def test_ppo_of_stable_baselines3_learns_the_maze() -> None:
    env = gym.make("SimpleMaze-v0")
    model = PPO("MlpPolicy", env, n_steps=512, batch_size=64, learning_rate=3e-3, gamma=0.95, seed=0, device="cpu")
    model.learn(total_timesteps=8192)
    trajectory = run_episode(env, lambda state: int(model.predict(np.array(state), deterministic=True)[0]))
    assert trajectory.reached_goal
    assert trajectory.length == 6
