"""Joining torchrun's process group: its environment variables, complete or not."""

import pytest
import torch.distributed as dist

from lab.distributed import RENDEZVOUS, process_group, requested_processes, world_size
from lab.errors import UserError

COMPLETE = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in ("WORLD_SIZE", *RENDEZVOUS):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("variables", [{}, {"WORLD_SIZE": ""}, {"WORLD_SIZE": "1"}, {"RANK": "3"}])
def test_one_process_works_alone(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    set_variables(monkeypatch, variables)
    with process_group():
        assert world_size() == 1
        assert not dist.is_initialized()


def test_complete_variables_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, COMPLETE)
    assert requested_processes() == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"RANK": ""}, "WORLD_SIZE is 2, without RANK;"),
        ({"MASTER_ADDR": "", "MASTER_PORT": ""}, "WORLD_SIZE is 2, without MASTER_ADDR, MASTER_PORT;"),
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE is 'x'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE is '-1'"),
        ({"WORLD_SIZE": "2.0"}, "WORLD_SIZE is '2.0'"),
        ({"WORLD_SIZE": " "}, "WORLD_SIZE is ' '"),
        ({"RANK": "2"}, "RANK is 2"),
        ({"RANK": "first"}, "RANK is 'first'"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT is 'http'"),
        ({"MASTER_PORT": "99999999"}, "cannot reach each other .*99999999"),
    ],
)
def test_wrong_variables_give_one_line(monkeypatch: pytest.MonkeyPatch, change: dict[str, str], words: str) -> None:
    set_variables(monkeypatch, COMPLETE | change)
    with pytest.raises(UserError, match=words) as caught, process_group():
        pass
    assert "\n" not in str(caught.value)
    assert "torchrun" in str(caught.value)
    assert not dist.is_initialized()
