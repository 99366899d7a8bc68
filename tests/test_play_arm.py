"""The arm pane without a browser: what the job shows equals what `ppo.train` yields, and the arm is Reacher's."""

import dataclasses
import itertools
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from play_browser import wait_until

from agent import load_agent
from controllers import inverse_kinematics_controller
from lab.devices import one_thread
from lab.errors import UserError
from lab.files import ROOT
from lab.play import arm_job
from lab.play.arm_job import ArmJob, Policies, reference_lines, run
from lab.play.arm_player import NEAR, REACH, Player
from lab.play.arm_training import row_of
from lab.play.messages import PPO_DETAILS, BadMessage, parse
from lab.play.session import CONTEXT, WorkerProcess
from lab.play.sources import lesson_page
from lab.play.worker import Control, Message, Replaced, finite, main
from ppo import train
from ppo_config import PPOConfig
from ppo_reports import baselines
from reacher_vec import MAX_EPISODE_STEPS, ReacherVectorEnv

START = {"pane": "arm", "do": "start", "seed": 3, "running": True, "policy": "learning", "without": ""}
Plan = Callable[["Page"], Iterator[Message | None]]


class Page(Control):
    """A page that sends what its plan yields, None for nothing, and keeps all frames; a newer job ends it."""

    def __init__(self, plan: Plan, own_files: tuple[Path, ...] = ()) -> None:
        super().__init__(None, own_files)  # pyright: ignore[reportArgumentType]
        self.plan = plan(self)
        self.frames: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def messages(self, wait: float | None = 0.0) -> Iterator[Message]:
        time.sleep(wait or 0.0)
        for message in self.plan:
            if message is None:
                return
            yield message
        raise Replaced(START)

    def show(self, pane: str, kind: str, **values: Any) -> None:
        assert pane == "arm"
        self.frames[kind].append(json.loads(json.dumps(finite(values))))

    def rows(self) -> list[list[float]]:
        """The newest curve."""
        return self.frames["curve"][-1]["rows"] if self.frames["curve"] else []

    def until_rows(self, number: int) -> Iterator[None]:
        """Send nothing until the training has done so many iterations."""
        started = time.monotonic()
        while len(self.rows()) < number:
            assert time.monotonic() - started < 60
            yield None


def do(name: str, **fields: Any) -> Message:
    return parse(json.dumps({"pane": "arm", "do": name, **fields}))


def run_job(plan: Plan, **changes: Any) -> Page:
    """Run a job with a page until the plan has ended."""
    page = Page(plan)
    with pytest.raises(Replaced):
        run(page, START | changes)
    return page


def direct_rows(number: int, **options: Any) -> list[list[float]]:
    """Rows of `ppo.train` with nobody watching."""
    with one_thread():
        return [row_of(record) for record in itertools.islice(train(PPOConfig(seed=3, **options)), number)]


def test_curve_equals_that_of_a_training_that_nobody_watches() -> None:
    """Exactly, whatever the user does with the arm meanwhile."""

    def plan(page: Page) -> Iterator[Message | None]:
        for number, policy in enumerate(("trained", "controller", "learning")):
            yield do("target", x=0.05 * number, y=0.1)
            yield do("policy", policy=policy)
            yield from page.until_rows(number + 1)

    page = run_job(plan)
    expected = direct_rows(3)
    assert page.rows()[:3] == expected
    assert len({tuple(row) for row in expected}) == 3
    state = page.frames["state"][-1]
    assert [state["iteration"], state["steps"], state["return"]] == page.rows()[-1][:3]


def test_details_can_be_left_out() -> None:
    page = run_job(lambda page: page.until_rows(2), without="normalize_observations")
    assert page.rows()[:2] == direct_rows(2, normalize_observations=False) != direct_rows(2)
    options = {field.name for field in dataclasses.fields(PPOConfig) if field.default is True}
    assert set(PPO_DETAILS) == options
    script = (ROOT / "lab/play/static/arm.js").read_text(encoding="utf-8")
    assert set(re.findall(r"^  (\w+): \"\d: ", script, re.MULTILINE)) == options


def test_the_arm_moves_with_the_newest_weights() -> None:
    page = Page(lambda page: itertools.chain(page.until_rows(2), [do("pause")], [None] * 30))
    job = ArmJob(page, START)
    with one_thread(), pytest.raises(Replaced):
        job.run([])
    with one_thread():
        *_, record = itertools.islice(train(PPOConfig(seed=3)), len(page.rows()))
    learner = dataclasses.replace(job.policies.learner, agent=record.agent)
    observations = np.random.default_rng(0).normal(size=(5, 10))
    expected = learner.policy()(observations)
    assert np.array_equal(job.policies.choices["learning"](observations), expected)
    assert np.abs(expected).max() > 0
    assert job.player.policy is job.policies.choices["learning"]


def test_pause_step_and_resume() -> None:
    seen = []

    def plan(page: Page) -> Iterator[Message | None]:
        yield from [None] * 15
        seen.append(len(page.rows()))
        yield do("step")
        yield from page.until_rows(1)
        yield from [None] * 30
        seen.append(len(page.rows()))
        yield do("step")
        yield do("step")
        yield from page.until_rows(3)
        yield from [None] * 30
        seen.append(len(page.rows()))
        assert not page.frames["state"][-1]["is_running"]
        yield do("resume")
        yield from page.until_rows(5)
        assert page.frames["state"][-1]["is_running"]
        yield do("pause")
        yield from [None] * 40
        seen.append(len(page.rows()))
        yield from [None] * 40
        seen.append(len(page.rows()))

    page = run_job(plan, running=False)
    assert seen[:3] == [0, 1, 3]
    assert seen[3] == seen[4]
    assert page.rows() == direct_rows(seen[4])


def test_the_player_is_reacher_and_draws_no_global_random_numbers() -> None:
    """Its joints equal those of the environment with the same policy, from the same state."""
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    player = Player()
    player.policy = inverse_kinematics_controller()
    env = ReacherVectorEnv(1)
    env.reset(seed=0)
    env.worlds[0].reset(0, player.world.qpos[0].copy(), player.world.qvel[0].copy())
    for _ in range(MAX_EPISODE_STEPS - 1):
        player.step()
        env.step(player.policy(env._observe()[0]))
        assert np.array_equal(player.picture()["joints"], env.worlds[0].qpos[0, :2])
    assert player.distance() < 0.001
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert all(map(np.array_equal, np.random.get_state(), numpy_state))  # noqa: NPY002


def test_a_picture_is_that_of_the_joints() -> None:
    player = Player()
    player.policy = lambda observations: np.ones((1, 2), dtype=np.float32)
    for _ in range(10):
        player.step()
    player.move_target(0.1, -0.05)  # computes the positions of the bodies from the joints
    picture = player.picture()
    shoulder, elbow = picture["joints"]
    middle = 0.1 * np.array([np.cos(shoulder), np.sin(shoulder)])
    fingertip = middle + 0.11 * np.array([np.cos(shoulder + elbow), np.sin(shoulder + elbow)])
    assert abs(shoulder) > 0.1
    assert picture["elbow"] == pytest.approx(middle.tolist(), abs=1e-9)
    assert picture["fingertip"] == pytest.approx(fingertip.tolist(), abs=1e-9)
    assert picture["target"] == [0.1, -0.05]
    assert picture["distance"] == pytest.approx(np.linalg.norm(fingertip - [0.1, -0.05]), abs=1e-9)


def test_a_step_observes_the_arm_once() -> None:
    player = Player()
    counted = Counter()
    observe = player.world.observe
    player.world.observe = lambda: counted.update(["observed"]) or observe()  # pyright: ignore[reportAttributeAccessIssue]
    for _ in range(40):
        player.step()
        player.picture()
    assert counted["observed"] == 40
    assert np.array_equal(player.observations, observe()[0])


@pytest.mark.parametrize(("given", "placed"), [((0.05, -0.1), (0.05, -0.1)), ((0.2, 0.2), (2**-0.5 * REACH,) * 2)])
def test_target_stays_within_reach(given: tuple[float, float], placed: tuple[float, float]) -> None:
    player = Player()
    assert player.wanders
    player.move_target(*given)
    for _ in range(300):
        player.step()
    assert player.picture()["target"] == pytest.approx(placed)
    assert not player.wanders


def test_trained_model_reaches_targets_and_starts_again_where_it_is_lost() -> None:
    player = Player()
    player.policy = load_agent(ROOT / "03_ppo_reacher/results/trained_model.pth").policy()
    distances, attempts = [], []
    for x, y in itertools.product((-0.12, 0.0, 0.12), repeat=2):
        player.move_target(x, y + 0.01)
        for _ in range(3 * MAX_EPISODE_STEPS):
            player.step()
        distances.append(player.distance())
        attempts.append(player.attempt)
    assert np.mean(np.array(distances) < NEAR) > 0.7
    assert max(attempts) > 1


def test_the_controller_never_starts_again() -> None:
    player = Player()
    player.starts_again = False
    player.move_target(0.1, 0.1)
    for _ in range(3 * MAX_EPISODE_STEPS):  # it rests
        player.step()
    assert player.attempt == 1
    player.starts_again = True
    for _ in range(MAX_EPISODE_STEPS):
        player.step()
    assert player.attempt == 2


def test_the_target_moves_by_itself_until_somebody_takes_it() -> None:
    player = Player()
    targets = set()
    for _ in range(600):
        player.step()
        targets.add(tuple(player.picture()["target"]))
    assert len(targets) == 5
    assert all(0.05 < np.hypot(*target) <= REACH + 1e-9 for target in targets)


def test_torques_that_are_no_numbers_are_none() -> None:
    player = Player()
    player.policy = lambda observations: np.full((1, 2), np.nan, dtype=np.float32)
    player.step()
    assert player.picture()["torques"] == [0.0, 0.0]
    assert np.isfinite(player.world.qpos).all()


def test_reference_lines_are_those_that_the_lesson_measures() -> None:
    measured = baselines("Reacher-v5")
    lines = reference_lines()
    assert lines.keys() == {"random policy", "inverse kinematics + PD"}
    assert lines == pytest.approx({name: measured[name] for name in lines}, rel=1e-4)


def test_results_of_another_task_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm_job, "RESULTS", tmp_path)
    assert reference_lines() == {}
    page = run_job(lambda page: iter([None] * 3), running=False, policy="trained")
    assert "no trained model" in page.frames["error"][-1]["message"]
    assert page.frames["state"][-1]["policy"] == "controller"
    (tmp_path / "train.json").write_text('{"config": {"ppo": {"env_id": "Pendulum-v1"}}}')
    assert reference_lines() == {}
    (tmp_path / "trained_model.pth").write_text("nonsense")
    assert "trained" not in Policies(PPOConfig()).choices


def test_links_lead_to_sections_of_the_lesson() -> None:
    script = (ROOT / "lab/play/static/arm.js").read_text(encoding="utf-8")
    anchors = re.findall(r'"/lesson/arm/#([^"]+)"', script)
    assert len(anchors) == 2
    assert all(f'id="{anchor}"' in lesson_page("arm") for anchor in anchors)


def own_file(folder: Path, body: str) -> tuple[Path]:
    header = "def compute_gae(rewards, values, next_values, terminated, truncated, discount, gae_lambda):\n"
    file = folder / "compute_gae.py"
    file.write_text(f"{header}    {body}\n")
    return (file,)


def test_own_functions_train_the_policy(tmp_path: Path) -> None:
    files = own_file(tmp_path, "return 0 * rewards, 0 * rewards + values")
    page = Page(lambda page: page.until_rows(1), files)
    with pytest.raises(Replaced):
        run(page, START)
    (line,) = page.frames["curve"][-1]["own_functions"]
    assert "compute_gae.py" in line
    assert "ppo.py, compute_gae" in line
    (row,) = page.rows()[:1]
    assert row[:3] == direct_rows(1)[0][:3]  # the rollout is the same, the update is not, and the lab's is back
    assert row[3] < direct_rows(1)[0][3]


def test_a_fault_of_an_own_function_ends_the_training(tmp_path: Path) -> None:
    page = Page(lambda page: itertools.repeat(None), own_file(tmp_path, "raise ZeroDivisionError('oh')"))
    with pytest.raises(UserError, match=r"compute_gae.*oh"):
        run(page, START)
    assert page.frames["state"][-1]["is_over"]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"do": "target", "x": 0.3, "y": 0}, "x must be"),
        ({"do": "target", "x": "0.1", "y": 0}, "x must be"),
        ({"do": "target", "x": 0.1}, "exactly"),
        ({"do": "policy", "policy": "best"}, "policy must be"),
        (START | {"without": "seed"}, "without must be"),
        (START | {"seed": -1}, "seed must be"),
        (START | {"num_iterations": 10}, "exactly"),
        ({"do": "weights"}, "no such"),
    ],
)
def test_messages_that_are_wrong_are_refused(message: Message, reason: str) -> None:
    with pytest.raises(BadMessage, match=reason):
        parse(json.dumps({"pane": "arm", **message}))


def test_a_closed_page_ends_the_worker_while_it_trains() -> None:
    frames = {}
    worker = WorkerProcess((), lambda key, frame: frames.update({key: json.loads(frame)}), lambda: None)
    try:
        worker.send(START)
        wait_until(lambda: frames.get("arm curve", {}).get("rows"))
        started = time.monotonic()
        worker.end()
        assert not worker.process.is_alive()
        assert time.monotonic() - started < 2
    finally:
        worker.process.kill()


def test_a_worker_ends_by_itself_while_it_trains_if_the_server_is_gone() -> None:
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=main, args=(theirs, ()), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.send(START)
        while not json.loads(ours.recv()[1]).get("rows"):
            assert ours.poll(60)
        ours.close()
        process.join(60)
        assert process.exitcode == 0
    finally:
        process.kill()
