"""The server of the page: who is refused, what is refused, and that nothing is left behind."""

import asyncio
import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
import websockets
import websockets.exceptions
from play_browser import running_server, server, wait_until  # noqa: F401 - fixtures

from lab.errors import UserError
from lab.files import ROOT
from lab.play.browser import processes_of, workers
from lab.play.command import listen
from lab.play.messages import MAX_BYTES, MESSAGES, BadMessage, parse
from lab.play.security import cookie_of, hosts_of
from lab.play.server import MAX_SOCKETS
from lab.play.sources import CODE, LESSONS, code_of, lesson_page, lesson_pictures

START = {
    **{"pane": "maze", "do": "start", "layout": ["S.G"], "seed": 0, "running": False, "steps_per_second": 100},
    **{"learning_rate": 0.5, "discount": 0.9, "epsilon": 1, "epsilon_decay": 0.9, "slip": 0},
}


class Address:
    """The parts of the address that the server prints."""

    def __init__(self, text: str) -> None:
        parts = urlsplit(text)
        assert parts.port is not None
        self.port = parts.port
        self.host = f"127.0.0.1:{self.port}"
        self.token = parse_qs(parts.query)["token"][0]

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        """Return status, headers and text of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest("GET", path, skip_host=True)
        for name, value in ({"Host": self.host} | headers).items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read().decode("utf-8", "replace")

    def socket(self, token: str | None = None, **headers: str) -> Any:
        """Return a connection to the server's socket."""
        token = self.token if token is None else token
        uri = f"ws://{self.host}/socket?token={token}"
        return websockets.connect(uri, additional_headers=headers, max_size=None, open_timeout=30)


@pytest.fixture
def address(server: str) -> Address:  # noqa: F811
    return Address(server)


async def next_frame(connection: Any, kind: str) -> dict[str, Any]:
    """Return the next frame of a kind."""
    async with asyncio.timeout(60):
        while True:
            frame = json.loads(await connection.recv())
            if frame["kind"] == kind:
                return frame


# --- requests ---------------------------------------------------------------------------------------------------------


def test_the_page_and_its_files_are_served_to_the_printed_address(address: Address) -> None:
    status, headers, text = address.get(f"/?token={address.token}")
    assert status == 200
    assert "<title>PyTorch Learning Lab" in text
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers
    assert "httponly" in headers["set-cookie"].lower()
    assert "samesite=strict" in headers["set-cookie"].lower()
    cookie = headers["set-cookie"].partition(";")[0]
    for path in ("/static/app.js", "/code/maze", "/lesson/maze/"):
        assert address.get(path, Cookie=cookie)[0] == 200


@pytest.mark.parametrize(
    ("path", "headers"),
    {
        "evil host": ("/?token={token}", {"Host": "evil.example"}),
        "evil host with our port": ("/?token={token}", {"Host": "evil.example:{port}"}),
        "another port": ("/?token={token}", {"Host": "127.0.0.1:1"}),
        "host with a user": ("/?token={token}", {"Host": "evil@127.0.0.1:{port}"}),
        "evil origin": ("/?token={token}", {"Origin": "http://evil.example"}),
        "origin null": ("/?token={token}", {"Origin": "null"}),
        "another port of this machine": ("/?token={token}", {"Origin": "http://127.0.0.1:1"}),
        "https": ("/?token={token}", {"Origin": "https://127.0.0.1:{port}"}),
        "no token": ("/", {}),
        "empty token": ("/?token=", {}),
        "wrong token": ("/?token={token}x", {}),
        "token that is not ASCII": ("/?token=%C3%A4%FF", {}),
        "wrong cookie": ("/", {"Cookie": "lab_play_{port}=x"}),
        "cookie of a server at another port": ("/", {"Cookie": "lab_play_1={token}"}),
        "damaged cookie": ("/", {"Cookie": "lab_play_{port}=\x7f;;=;\\"}),
        "static file without token": ("/static/app.js", {}),
        "code without token": ("/code/maze", {}),
        "lesson without token": ("/lesson/maze/", {}),
    }.values(),
)
def test_requests_from_elsewhere_are_refused(address: Address, path: str, headers: dict[str, str]) -> None:
    def filled(text: str) -> str:
        return text.format(token=address.token, port=address.port)

    status, found, text = address.get(filled(path), **{name: filled(value) for name, value in headers.items()})
    assert status in (400, 403)
    assert "PyTorch" not in text
    assert "set-cookie" not in found


@pytest.mark.parametrize(
    "others",
    ["x=1", 'user={"a": 1}', "a b=c", "foo", "=bar", "n=\xe9", "p[0]=1", 'q="unclosed', "a@b=1", "lab_play_1=old", ";"],
)
def test_cookies_of_other_programs_do_not_hide_ours(address: Address, others: str) -> None:
    cookie = f"lab_play_{address.port}={address.token}"
    for given in (f"{others}; {cookie}", f"{cookie}; {others}"):
        assert address.get("/static/app.js", Cookie=given)[0] == 200


def test_the_page_may_also_be_opened_as_localhost(address: Address) -> None:
    host = f"localhost:{address.port}"
    status, headers, _ = address.get(f"/?token={address.token}", Host=host, Origin=f"http://{host}")
    assert status == 200
    cookie = headers["set-cookie"].partition(";")[0]
    assert address.get("/static/app.js", Host=host, Cookie=cookie)[0] == 200


@pytest.mark.parametrize("text", [None, "def compute_gae(:\n", "\x00", "x = 1\n"])
def test_a_learners_file_that_breaks_later_leaves_the_labs_code(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "compute_gae.py"
    file.write_text("def compute_gae():\n    return 0\n", encoding="utf-8")
    with running_server("--with", str(file)) as (printed, process):
        address = Address(printed)
        assert "return 0" in address.get(f"/code/arm?token={address.token}")[2]
        file.unlink()
        if text is not None:
            file.write_text(text, encoding="utf-8")
        status, _, shown = address.get(f"/code/arm?token={address.token}")
        assert status == 200
        assert [each["name"] for each in json.loads(shown)] == [entry.partition(":")[2] for entry in CODE["arm"]]
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[1] == ""


def test_at_port_80_browsers_send_the_name_alone() -> None:
    try:
        socket.create_server(("127.0.0.1", 80)).close()
    except OSError as error:
        pytest.skip(f"needs port 80: {error}")
    with running_server("--port", "80") as (printed, _):
        token = printed.partition("token=")[2]
        connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=30)
        connection.request("GET", f"/?token={token}", headers={"Origin": "http://127.0.0.1"})
        cookie = connection.getresponse().headers["set-cookie"].partition(";")[0]
        connection.close()
        connection.request("GET", "/static/app.js", headers={"Cookie": cookie})
        assert connection.getresponse().status == 200


def test_cookies_have_names_that_browsers_accept() -> None:
    hosts = hosts_of(["[::1]", "localhost"], 80) + hosts_of(["[::1]"], 8765)
    assert hosts == ["[::1]", "localhost", "[::1]:8765"]
    assert [cookie_of(host) for host in hosts] == ["lab_play_80", "lab_play_80", "lab_play_8765"]


@pytest.mark.parametrize("host", ["localhost", "::1", "127.0.0.2"])
def test_other_names_of_the_loopback_interface_are_not_warned_of(host: str) -> None:
    try:
        listen(host, 0).close()
    except UserError as error:
        pytest.skip(f"needs {host}: {error}")
    with running_server("--host", host) as (printed, process):
        connection = http.client.HTTPConnection(host, urlsplit(printed).port or 0, timeout=30)
        connection.request("GET", f"/?{urlsplit(printed).query}")
        assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[1] == ""


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_a_host_elsewhere_is_refused_by_its_own_flag(host: str) -> None:
    with pytest.raises(UserError, match=f"^--host {host}: .*; it must be an address of this machine"):
        listen(host, 0)


@pytest.mark.parametrize("length", [10_000, 200_000, 3_000_000])
def test_a_long_address_gets_an_answer(address: Address, length: int) -> None:
    assert address.get(f"/?token={address.token}&x={'x' * length}")[0] == 414
    assert address.get(f"/?token={address.token}&x={'x' * 5000}")[0] == 200


def test_without_a_host_a_request_is_refused(address: Address) -> None:
    with socket.create_connection(("127.0.0.1", address.port), timeout=30) as connection:
        connection.sendall(f"GET /?token={address.token} HTTP/1.0\r\n\r\n".encode())
        answer = connection.recv(4096)
    assert answer.split()[1] in (b"400", b"403")


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../server.py", "/static/..%2fserver.py", "/static/%2e%2e/server.py", "/static/%2Fetc%2Fpasswd"),
        *("/lesson/maze/../../README.md", "/lesson/maze/..%2f..%2fREADME.md", "/lesson/..%2f..%2fREADME.md/"),
        *("/lesson/maze//etc/passwd", "/lesson/maze/%2Fetc%2Fpasswd", "/code/..%2f..%2fpyproject", "/code/x"),
        *("/static/app.js%00.css", "/docs", "/static/", "/lesson/maze/q_learning_agent.py"),
    ],
)
def test_no_name_in_a_request_becomes_a_path(address: Address, path: str) -> None:
    status, _, text = address.get(f"{path}?token={address.token}")
    assert status in (400, 403, 404)
    assert len(text) < 100


def test_the_lessons_are_served_with_their_pictures(address: Address) -> None:
    for name in LESSONS:
        page = lesson_page(name)
        assert "<h1" in page
        assert "&lt;!--" not in page  # comments, such as where a number comes from, are not shown
        links = re.findall('<img src="([^"]+)"', page)
        assert links
        assert set(links) == set(lesson_pictures(name))
        for link in links:
            seen_by_browsers = urljoin(f"/lesson/{name}/", link)
            status, headers, _ = address.get(f"{seen_by_browsers}?token={address.token}")
            assert status == 200
            assert headers["content-type"].startswith("image/")


def test_the_code_beside_a_pane_is_that_of_the_file() -> None:
    for pane in CODE:
        for part in code_of(pane):
            lines = (ROOT / str(part["file"])).read_text(encoding="utf-8").splitlines()
            shown: Any = part["lines"]
            assert len(shown) >= 3
            assert all(lines[line["number"] - 1] == line["text"] for line in shown)


def test_the_server_imports_no_torch() -> None:
    code = (
        "import sys, lab.play.command, lab.play.server, uvicorn; print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


# --- messages ---------------------------------------------------------------------------------------------------------


def test_a_right_message_is_accepted() -> None:
    assert parse(json.dumps(START)) == START


WRONG = {
    "not JSON": "{",
    "no object": "[]",
    "a number": "1",
    "deeply nested": "[" * 20_000 + "]" * 20_000,
    "no message of this name": json.dumps({"pane": "maze", "do": "explode"}),
    "no pane of this name": json.dumps({"pane": "kitchen", "do": "start"}),
    "pane is a list": json.dumps({"pane": [], "do": "start"}),
    "field is missing": json.dumps({"pane": "maze", "do": "speed"}),
    "field too many": json.dumps({"pane": "maze", "do": "pause", "x": 1}),
    **{
        f"{name} is {value!r:.60}": json.dumps(START | {name: value})
        for name, values in {
            "seed": (-1, 1.5, "1", True, None, 2**31, [], 1e400),
            "discount": (-0.1, 1.1, "0.5", None, True, float("nan"), float("inf"), {}, -(10**300)),
            "epsilon": (10**400, -(10**400)),  # too large for a float
            "learning_rate": (0, 2),
            "running": (1, "true", None),
            "layout": ([], "S.G", [""], ["S.G", "."], ["S.Q"], [1], [["S"]], ["S" * 65], ["S"] * 65, None),
        }.items()
        for value in values
    },
}


@pytest.mark.parametrize("label", WRONG)
def test_wrong_messages_are_refused(label: str) -> None:
    with pytest.raises(BadMessage):
        parse(WRONG[label])


def test_every_field_of_every_message_refuses_what_it_cannot_be() -> None:
    for messages in MESSAGES.values():
        for fields in messages.values():
            for check in fields.values():
                refused = 0
                for value in (float("nan"), float("inf"), -(10.0**300), {}, object(), b"x", "\x00" * 10**6):
                    try:
                        check(value)
                    except ValueError:
                        refused += 1
                assert refused >= 6


# --- sockets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "headers"),
    {
        "evil host": (None, {"Host": "evil.example"}),
        "evil origin": (None, {"Origin": "http://evil.example"}),
        "origin null": (None, {"Origin": "null"}),
        "another port of this machine": (None, {"Origin": "http://127.0.0.1:1"}),
        "no token": ("", {}),
        "wrong token": ("x", {}),
    }.values(),
)
def test_sockets_from_elsewhere_are_refused(address: Address, token: str | None, headers: dict[str, str]) -> None:
    async def attack() -> None:
        async with address.socket(token, **headers):
            pytest.fail("the socket was opened")

    with pytest.raises(websockets.exceptions.WebSocketException):
        asyncio.run(attack())


def test_a_socket_answers_and_bad_messages_do_not_end_it(address: Address) -> None:
    async def talk() -> None:
        origin = f"http://{address.host}"
        async with address.socket(Origin=origin) as connection:
            for text in ("{", json.dumps({"pane": "maze", "do": "explode"}), json.dumps(START | {"seed": "x"})):
                await connection.send(text)
                assert (await next_frame(connection, "refused"))["message"]
            await connection.send(b"\xff\xfe")
            assert (await next_frame(connection, "refused"))["message"]
            await connection.send(json.dumps(START))
            frame = await next_frame(connection, "state")
            assert len(frame["q"]) == 3

    asyncio.run(talk())


def test_a_socket_that_sends_only_nonsense_is_closed(address: Address) -> None:
    async def attack() -> None:
        async with address.socket() as connection:
            for _ in range(200):
                await connection.send("nonsense")
            await asyncio.wait_for(connection.wait_closed(), 60)

    with contextlib.suppress(websockets.exceptions.ConnectionClosed):
        asyncio.run(attack())


def test_any_worker_answers_a_ping(address: Address) -> None:
    async def talk() -> None:
        async with address.socket() as connection:
            ping = json.dumps({"pane": "", "do": "ping"})
            await connection.send(ping)
            await next_frame(connection, "alive")  # no job
            await connection.send(json.dumps(START))
            await next_frame(connection, "state")
            await connection.send(ping)
            await next_frame(connection, "alive")  # a job that waits
            await connection.send(json.dumps({"pane": "maze", "do": "resume"}))
            await connection.send(ping)
            await next_frame(connection, "alive")

    asyncio.run(talk())


def test_an_oversized_message_closes_the_socket(address: Address) -> None:
    async def attack() -> int | None:
        async with address.socket() as connection:
            await connection.send("x" * (MAX_BYTES + 1))
            await asyncio.wait_for(connection.wait_closed(), 60)
            return connection.close_code

    assert asyncio.run(attack()) == 1009


def test_at_most_eight_sockets_are_open(address: Address) -> None:
    async def attack() -> None:
        async with contextlib.AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(address.socket()) for _ in range(50)]
            await asyncio.sleep(0.5)
            states = [connection.state.name for connection in connections]
            assert states.count("OPEN") <= MAX_SOCKETS
            assert {c.close_code for c in connections if c.state.name != "OPEN"} == {1013}
        for _ in range(100):  # and afterwards there is room again, as soon as the workers have ended
            with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                async with address.socket() as connection:
                    await next_frame(connection, "worker")
                    return
            await asyncio.sleep(0.2)
        pytest.fail("there is no room")

    asyncio.run(attack())


def test_a_slow_reader_gets_the_newest_frame_and_no_queue(address: Address) -> None:
    async def read_late() -> None:
        async with address.socket() as connection:
            await connection.send(json.dumps(START | {"running": True, "steps_per_second": 5000}))
            first = await next_frame(connection, "state")
            connection.transport.pause_reading()
            await asyncio.sleep(3)
            connection.transport.resume_reading()
            frames = [await next_frame(connection, "state") for _ in range(40)]
            steps = [frame["step"] for frame in frames]
            assert steps == sorted(steps)
            assert steps[-1] > first["step"] + 1000

    asyncio.run(read_late())


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_process_is_left_after_twenty_closed_tabs() -> None:
    with running_server() as (text, process):
        address = Address(text)

        async def visit(number: int) -> None:
            async with address.socket() as connection:
                await next_frame(connection, "worker")
                if number % 2:
                    await connection.send(json.dumps(START | {"running": True, "steps_per_second": 5000}))
                    await next_frame(connection, "state")

        for number in range(20):
            asyncio.run(visit(number))
        wait_until(lambda: len(processes_of(process.pid)) <= 1)  # Python's own resource tracker stays


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_worker_is_reported_and_replaced() -> None:
    with running_server() as (text, process):
        address = Address(text)

        async def talk() -> None:
            async with address.socket() as connection:
                before = set(processes_of(process.pid))
                assert (await next_frame(connection, "worker"))["state"] == "ready"
                await connection.send(json.dumps(START | {"running": True}))
                await next_frame(connection, "state")
                for worker in workers(process.pid) or before:
                    subprocess.run(["kill", "-9", str(worker)], check=True)
                assert (await next_frame(connection, "worker"))["state"] == "ended"
                assert (await next_frame(connection, "worker"))["state"] == "ready"
                await connection.send(json.dumps(START))
                assert (await next_frame(connection, "state"))["step"] == 0

        asyncio.run(talk())


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_and_its_workers(number: signal.Signals) -> None:
    with running_server() as (text, process):
        address = Address(text)

        async def talk() -> None:
            async with address.socket() as connection:
                await connection.send(json.dumps(START | {"running": True}))
                await next_frame(connection, "state")
                children = processes_of(process.pid)
                process.send_signal(number)
                await asyncio.to_thread(process.wait, 30)
                wait_until(lambda: not any(is_alive(child) for child in children), 30)

        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            asyncio.run(talk())
        assert process.returncode in (0, -number)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def is_alive(process: int) -> bool:
    """Return True if a process is there and has not ended."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lab", "play", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(sys.platform == "win32", reason="a browser that is a shell command")
@pytest.mark.parametrize(("browser", "opens"), [("sh -c 'sleep 60' %s", True), ("no_such_browser", False)])
def test_the_server_answers_whatever_the_browser_does(
    browser: str, opens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER", browser)
    monkeypatch.setenv("PATH", "/bin" if opens else "/nowhere")
    with running_server(opens=True) as (text, process):
        address = Address(text)
        assert address.get(f"/?token={address.token}")[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stdout is not None
        assert opens or "open the address yourself" in process.stdout.read()


def test_a_port_in_use_gives_one_line(taken_port: int) -> None:
    done = run("--port", str(taken_port), "--no_open")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --port {taken_port}: ")
    assert "--port 0" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "flags",
    [
        ("--port", "70000"),
        ("--port", "x"),
        ("--with", "no_such_file.py"),
        ("--with", "pyproject.toml"),
        ("--with", "lab/errors.py"),
        ("--host", "256.0.0.1", "--port", "0"),
        ("--host", "0.0.0.0", "--port", "0"),
        ("--host", "::", "--port", "0"),
        ("--prot", "1"),
    ],
)
def test_wrong_arguments_give_one_line(flags: tuple[str, ...]) -> None:
    done = run("--no_open", *flags)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_the_address_is_there_within_a_moment() -> None:
    """The bar is a second on an idle machine; here it is compared with Python's own start."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import tyro, uvicorn, starlette.applications"], check=True)
    libraries = time.perf_counter() - started
    started = time.perf_counter()
    with running_server() as (text, _):
        address = Address(text)
        assert address.get(f"/?token={address.token}")[0] == 200
        seconds = time.perf_counter() - started
    assert seconds < 6 * libraries
