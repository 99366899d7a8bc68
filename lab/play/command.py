"""`lab play`: start the server, print its address, open the browser. Imports no torch."""

import contextlib
import errno
import ipaddress
import secrets
import socket
import sys
import threading
import webbrowser
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from lab.errors import UserError
from lab.exercises import own
from lab.exercises.own_files import names_in
from lab.launch import launch, warn_once

LOOPBACK = "127.0.0.1"
EVERYWHERE = ("", "0.0.0.0", "::")  # all addresses of the machine: no name that a browser could send
MAX_REQUEST = 4 * 1024 * 1024  # bytes; longer than any address that a browser sends, so that it gets an answer


@dataclass(frozen=True)
class Play:
    """See the lab's own code at work: one page in the browser, without a network."""

    port: int = 8765
    """Port of the server; 0 takes a free one."""
    host: str = LOOPBACK
    """Address to listen on. One that is not this machine's own loopback lets other machines use this one."""
    no_open: bool = False
    """Print the address and open no browser."""
    own_functions: Annotated[
        tuple[Path, ...], tyro.conf.arg(name=own.FLAG, metavar="FILE"), tyro.conf.UseAppendAction
    ] = field(default=())
    """Python file with functions of yours that do the work of the lab's; several: repeat it."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port is {self.port}; it must be from 0 to 65535")
        if self.host in EVERYWHERE:
            raise UserError(f"--host {self.host}: give one address of this machine; the page answers to that name only")
        for file in self.own_functions:
            if not names_in(file):
                raise UserError(f"{file}: holds no function of an exercise; `lab exercises` lists them")


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises UserError for a host elsewhere, and a port that is in use or not allowed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two servers share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise UserError(
                f"--host {host}: {reason}; it must be an address of this machine, as 127.0.0.1 is"
            ) from None
        raise UserError(f"--port {port}: {reason} at {host}; --port 0 takes a free one") from None
    return listening


def is_loopback(listening: socket.socket) -> bool:
    """Return True if only this machine can reach a socket."""
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


def play(config: Play) -> None:
    """Serve the page until Ctrl-C."""
    import uvicorn

    from lab.play.messages import MAX_BYTES
    from lab.play.security import hosts_of
    from lab.play.server import create_app

    with contextlib.closing(listen(config.host, config.port)) as listening:
        port = listening.getsockname()[1]
        token = secrets.token_urlsafe(24)
        shown = f"[{config.host}]" if ":" in config.host else config.host
        names = {shown, "localhost"} if is_loopback(listening) else {shown}
        if not is_loopback(listening):
            warn_once(f"--host {config.host}: other machines may reach this server; the token is its only lock")
        app = create_app(hosts_of(names, port), token, [file.resolve() for file in config.own_functions])
        address = f"http://{shown}:{port}/?token={token}"
        settings = uvicorn.Config(
            app,
            log_level="error",
            ws="websockets-sansio",
            ws_max_size=MAX_BYTES,
            ws_max_queue=8,
            ws_per_message_deflate=False,  # on one machine it costs more than it saves
            h11_max_incomplete_event_size=MAX_REQUEST,
            lifespan="off",
            timeout_graceful_shutdown=1,  # a page that does not answer cannot hold up Ctrl-C
        )
        print(address, flush=True)
        print("Ctrl-C ends it.", flush=True)
        # The socket listens already: the browser waits for the answer. Some browsers end only when they are closed.
        threading.Thread(target=open_browser, args=(config, address), daemon=True).start()
        run_server(uvicorn.Server(settings), listening)


def run_server(server: Any, listening: socket.socket) -> None:
    """Run the server until Ctrl-C, which ends the workers and is no error."""
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


def open_browser(config: Play, address: str) -> None:
    """Open the page, if that is wanted and there is a browser; it is no error if there is none."""
    if config.no_open:
        return
    with contextlib.suppress(Exception):  # of whatever the system's browser does
        if webbrowser.open(address):
            return
    print("no browser could be opened: open the address yourself", flush=True)


def main() -> None:
    """Run the command that `sys.argv` holds."""
    launch(Play, play, sys.argv[2:])
