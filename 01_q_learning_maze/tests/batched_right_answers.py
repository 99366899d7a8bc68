"""Right answers to the exercises on many agents at once in other styles than the lab's: all must pass."""

import torch
from torch import Tensor
from torch.nn import functional as F


def act_by_loop(values: Tensor, epsilon: Tensor, explore_draw: Tensor, tie_break_draw: Tensor) -> Tensor:
    actions = []
    for agent in range(values.shape[1]):
        column = values[:, agent].tolist()
        candidates = list(range(len(column)))
        if explore_draw[agent] >= epsilon[agent]:
            candidates = [action for action in candidates if column[action] == max(column)]
        actions.append(candidates[int(tie_break_draw[agent].item() * len(candidates))])
    return torch.tensor(actions)


def act_by_sorting(values: Tensor, epsilon: Tensor, explore_draw: Tensor, tie_break_draw: Tensor) -> Tensor:
    candidates = torch.where(explore_draw < epsilon, True, values == values.max(dim=0).values)
    order = torch.sort(candidates.int(), dim=0, descending=True, stable=True).indices
    number = torch.floor(tie_break_draw * candidates.sum(0)).long()
    return order.gather(0, number[None]).squeeze(0).int()


def act_by_argmax(values: Tensor, epsilon: Tensor, explore_draw: Tensor, tie_break_draw: Tensor) -> Tensor:
    columns = values.T
    mask = (columns == columns.max(1, keepdim=True)[0]) | (explore_draw < epsilon).unsqueeze(1)
    number = (tie_break_draw * mask.sum(1)).floor()
    return (mask & (mask.cumsum(1) == number[:, None] + 1)).int().argmax(1)


def act_in_two_branches(values: Tensor, epsilon: Tensor, explore_draw: Tensor, tie_break_draw: Tensor) -> Tensor:
    explored = (tie_break_draw * values.size(0)).to(torch.int32)
    mask = values.eq(values.amax(0))
    number = (tie_break_draw * mask.sum(0)).to(torch.int32)
    exploited = (mask.cumsum(0) <= number).sum(0).to(torch.int32)
    return torch.where(explore_draw < epsilon, explored, exploited)


def update_by_loop(
    q: Tensor, state: Tensor, action: Tensor, reward: Tensor, next_state: Tensor, nonterminal: Tensor,
    alpha: float, gamma: float,
) -> None:  # fmt: skip
    for agent in range(q.shape[0]):
        best = max(q[agent, next_state[agent]].tolist()) if nonterminal[agent] else 0.0
        entry = agent, int(state[agent]), int(action[agent])
        q[entry] = (1 - alpha) * q[entry] + alpha * (reward[agent] + gamma * best)


def update_by_gather(
    q: Tensor, state: Tensor, action: Tensor, reward: Tensor, next_state: Tensor, nonterminal: Tensor,
    alpha: float, gamma: float,
) -> None:  # fmt: skip
    n_actions = q.shape[2]
    rows = q.gather(1, next_state.view(-1, 1, 1).expand(-1, 1, n_actions)).squeeze(1)
    target = reward + gamma * rows.max(1).values * nonterminal.to(q.dtype)
    flat = q.view(len(q), -1)
    index = (state * n_actions + action)[:, None]
    old = flat.gather(1, index)
    flat.scatter_(1, index, old + alpha * (target[:, None] - old))


def update_by_put(
    q: Tensor, state: Tensor, action: Tensor, reward: Tensor, next_state: Tensor, nonterminal: Tensor,
    alpha: float, gamma: float,
) -> None:  # fmt: skip
    agents = torch.arange(q.size(0))
    target = torch.where(nonterminal.bool(), reward + gamma * q.amax(2)[agents, next_state], reward)
    error = target - q[agents, state, action]
    q.index_put_((agents, state, action), alpha * error, accumulate=True)


def update_by_gradient(
    q: Tensor, state: Tensor, action: Tensor, reward: Tensor, next_state: Tensor, nonterminal: Tensor,
    alpha: float, gamma: float,
) -> None:  # fmt: skip
    table = q.clone().requires_grad_()
    agents = torch.arange(len(q))
    target = reward + gamma * nonterminal * q[agents, next_state].amax(-1)
    loss = (table[agents, state, action] - target).pow(2).sum() / 2
    q -= alpha * torch.autograd.grad(loss, table)[0]


def update_by_mask(
    q: Tensor, state: Tensor, action: Tensor, reward: Tensor, next_state: Tensor, nonterminal: Tensor,
    alpha: float, gamma: float,
) -> None:  # fmt: skip
    _, n_states, n_actions = q.shape
    one_hot = F.one_hot(next_state, n_states).to(q.dtype)
    target = reward + gamma * nonterminal * torch.einsum("ns,nsa->na", one_hot, q).max(1)[0]
    entry = (F.one_hot(state, n_states)[:, :, None] * F.one_hot(action, n_actions)[:, None]).bool()
    q.copy_(torch.where(entry, q + alpha * (target[:, None, None] - q), q))


def loss_by_mse(values: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(values, targets.detach(), reduction="sum") / 2


def loss_without_grad(values: Tensor, targets: Tensor) -> Tensor:
    with torch.no_grad():
        fixed = targets.clone()
    return ((values - fixed) ** 2 * 0.5).sum()


def loss_by_dot(values: Tensor, targets: Tensor) -> Tensor:
    errors = (values - targets.data).flatten()
    return errors @ errors / 2


def loss_by_algebra(values: Tensor, targets: Tensor) -> Tensor:
    fixed = targets.detach()
    return (values**2 / 2 - values * fixed + fixed**2 / 2).sum()


def loss_by_loop(values: Tensor, targets: Tensor) -> Tensor:
    total = torch.zeros((), dtype=values.dtype)
    for value, target in zip(values.flatten(), targets.flatten().tolist(), strict=True):
        total = total + 0.5 * (target - value) ** 2
    return total


RIGHT = {
    "batched_act": {
        "loop": {"batched_act": act_by_loop},
        "sorting": {"batched_act": act_by_sorting},
        "argmax": {"batched_act": act_by_argmax},
        "two branches": {"batched_act": act_in_two_branches},
    },
    "batched_update": {
        "loop": {"batched_update": update_by_loop},
        "gather": {"batched_update": update_by_gather},
        "put": {"batched_update": update_by_put},
        "gradient": {"batched_update": update_by_gradient},
        "mask": {"batched_update": update_by_mask},
    },
    "td_loss": {
        "mse": {"td_loss": loss_by_mse},
        "without gradient": {"td_loss": loss_without_grad},
        "dot": {"td_loss": loss_by_dot},
        "algebra": {"td_loss": loss_by_algebra},
        "loop": {"td_loss": loss_by_loop},
    },
}
