"""Files of a learner's for every function that `--with` takes: right ones, and what makes them wrong."""

from lab.errors import UserError
from lab.exercises.catalog import find
from lab.exercises.stubs import solution

HEADER = "import math\n\nimport torch\n\n"
ANSWERS = {  # right answers; where the lab has an exercise, its solution is used instead
    "greedy": """
def greedy(values, rng):
    return rng.choice([action for action, value in enumerate(values) if value == max(values)])
""",
    "epsilon_greedy": """
def epsilon_greedy(values, epsilon, rng):
    if rng.random() < epsilon:
        return rng.randrange(len(values))
    return rng.choice([action for action, value in enumerate(values) if value == max(values)])
""",
    "td_target": "",
    "q_update": "",
    "decayed_epsilon": """
def decayed_epsilon(epsilon, decay, minimum):
    return max(minimum, epsilon * decay)
""",
    "play_and_learn": """
def play_and_learn(env, agent):
    state, _ = env.reset()
    total = 0.0
    ended = False
    while not ended:
        action = agent.act(state)
        next_state, reward, terminated, truncated, _ = env.step(action)
        agent.update(state, action, reward, next_state, terminated)
        state, ended = next_state, terminated or truncated
        total += reward
    agent.end_episode()
    return total
""",
    "value_iteration": """
def value_iteration(dynamics, gamma, tolerance):
    q = [[0.0] * len(actions) for actions in dynamics]
    while True:
        values = [max(row) for row in q]
        new = [
            [sum(p * (r + gamma * (0.0 if end else values[s])) for p, s, r, end in outcomes) for outcomes in actions]
            for actions in dynamics
        ]
        change = max(abs(a - b) for rows in zip(new, q) for a, b in zip(*rows))
        q = new
        if change <= tolerance:
            return q
""",
    "batched_act": """
def batched_act(values, epsilon, explore_draw, tie_break_draw):
    candidate = (values == values.amax(0)) | (explore_draw < epsilon)
    number = candidate.long().cumsum(0)
    return (number <= (tie_break_draw * number[-1]).long()).sum(0)
""",
    "batched_update": """
def batched_update(q, state, action, reward, next_state, nonterminal, alpha, gamma):
    agent = torch.arange(len(q))
    target = reward + gamma * (nonterminal * q[agent, next_state].amax(1))
    q[agent, state, action] += alpha * (target - q[agent, state, action])
""",
    "attention": "",
    "masked_attention": "",
    "causal_mask": """
def causal_mask(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
""",
    "split_heads": "",
    "merge_heads": "",
    "transformer_block": """
def transformer_block(x, attention, feed_forward, norm1, norm2, norm_first):
    if norm_first:
        x = x + attention(norm1(x))
        return x + feed_forward(norm2(x))
    x = norm1(x + attention(x))
    return norm2(x + feed_forward(x))
""",
    "layer_norm": """
def layer_norm(x, weight, bias, eps):
    centered = x - x.mean(-1, keepdim=True)
    return centered / (centered.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias
""",
    "embed": """
def embed(token_ids, token_table, position_table, past):
    return token_table[token_ids] + position_table[past : past + token_ids.shape[1]]
""",
    "KVCache": """
class KVCache:
    def __init__(self):
        self.keys, self.values = [], []

    def append(self, key, value):
        self.keys.append(key)
        self.values.append(value)
        return torch.cat(self.keys, 2), torch.cat(self.values, 2)
""",
    "top_p_filter": """
def top_p_filter(logits, p):
    ordered, order = logits.sort(dim=-1, descending=True)
    chances = ordered.softmax(-1)
    removed = chances.cumsum(-1) - chances >= p
    return logits.masked_fill(removed.scatter(-1, order, removed), -math.inf)
""",
    "sampling_probabilities": """
def sampling_probabilities(logits, temperature, top_k):
    logits = logits / temperature
    if top_k is not None:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -math.inf)
    return logits.softmax(-1)
""",
    "compute_gae": "",
    "td_errors": """
def td_errors(rewards, values, next_values, terminated, truncated, discount):
    return rewards + discount * torch.where(terminated, 0.0, next_values) - values
""",
    "value_targets": """
def value_targets(advantages, values):
    return advantages + values
""",
    "policy_loss": "",
    "value_loss": """
def value_loss(predictions, targets):
    return (predictions.reshape(-1) - targets.detach()).square().mean()
""",
    "normalize_advantages": """
def normalize_advantages(advantages):
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)
""",
    "log_prob": """
def log_prob(mean, log_std, action):
    z = (action - mean) / log_std.exp()
    return (-0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
""",
    "true_next_observations": """
def true_next_observations(next_observations, info):
    result = next_observations.copy()
    for number, ended in enumerate(info.get("_final_obs", ())):
        if ended:
            result[number] = info["final_obs"][number]
    return result
""",
    "RunningMeanStd": """
class RunningMeanStd:
    def __init__(self, dim):
        self.rows = torch.zeros(0, dim, dtype=torch.float64)

    def update(self, batch):
        self.rows = torch.cat([self.rows, batch.double()])
        self.mean = self.rows.mean(0)
        self.std = (self.rows.var(0, correction=0) + 1e-8).sqrt()
""",
    "RewardScaler": """
class RewardScaler:
    def __init__(self, num_envs, discount):
        self.discount, self.returns, self.history = discount, torch.zeros(num_envs, dtype=torch.float64), []

    def update(self, rewards, ended):
        for reward, end in zip(rewards, ended):
            self.returns = self.returns * self.discount + reward
            self.history.append(self.returns)
            self.returns = self.returns * ~end

    def __call__(self, rewards):
        return rewards / (torch.cat(self.history).var(correction=0) + 1e-8).sqrt()
""",
}


def _after(name: str, result: str) -> str:
    """Return code that replaces a function by one that returns `result`, an expression of r, the right one, and a."""
    return f"\n_right = {name}\n\n\ndef {name}(*a):\n    r = _right(*a)\n    return {result}\n"


def _method(name: str, method: str, result: str) -> str:
    """Return code that replaces a class by one with a method that returns `result`."""
    head = f"\n_right = {name}\n\n\nclass {name}(_right):\n"
    return f"{head}    def {method}(self, *a):\n        r = super().{method}(*a)\n        return {result}\n"


SPOILED = {  # what is appended to an answer to make it wrong
    "greedy": _after("greedy", "0"),
    "epsilon_greedy": _after("epsilon_greedy", "0"),
    "td_target": _after("td_target", "2 * r"),
    "q_update": _after("q_update", "a[0].update({(a[1], a[2]): a[3]})"),
    "decayed_epsilon": _after("decayed_epsilon", "a[0]"),
    "play_and_learn": _after("play_and_learn", "r + 1"),
    "value_iteration": _after("value_iteration", "[[0.0] * len(row) for row in r]"),
    "batched_act": _after("batched_act", "(r + 1) % 4"),
    "batched_update": _after("batched_update", "a[0].mul_(0.5)"),
    "attention": _after("attention", "(2 * r[0], r[1])"),
    "masked_attention": _after("masked_attention", "(2 * r[0], r[1])"),
    "causal_mask": _after("causal_mask", "torch.ones_like(r)"),
    "split_heads": _after("split_heads", "r.flip(1)"),
    "merge_heads": _after("merge_heads", "r.flip(1)"),
    "transformer_block": _after("transformer_block", "2 * r"),
    "layer_norm": _after("layer_norm", "2 * r"),
    "embed": _after("embed", "2 * r"),
    "KVCache": _method("KVCache", "append", "(r[0], -50 * r[1])"),
    "top_p_filter": _after("top_p_filter", "a[0]"),
    "sampling_probabilities": _after("sampling_probabilities", "a[0].softmax(-1)"),
    "compute_gae": _after("compute_gae", "(2 * r[0], 2 * r[1])"),
    "td_errors": _after("td_errors", "2 * r"),
    "value_targets": _after("value_targets", "2 * r"),
    "policy_loss": _after("policy_loss", "-r"),
    "value_loss": _after("value_loss", "-r"),
    "normalize_advantages": _after("normalize_advantages", "-r"),
    "log_prob": _after("log_prob", "2 * r"),
    "true_next_observations": _after("true_next_observations", "2 * r"),
    "RunningMeanStd": _method("RunningMeanStd", "update", "setattr(self, 'mean', self.mean + 1)"),
    "RewardScaler": _method("RewardScaler", "__call__", "2 * r"),
}


def answer(name: str) -> str:
    """Return a file with a right answer: the lab's solution if there is such an exercise."""
    try:
        return solution(find(name)) + "\n"
    except UserError:
        return HEADER + ANSWERS[name]
