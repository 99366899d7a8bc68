"""Who may talk to the server: ASGI middleware before every request and every socket.

A page of another site can send requests to a server on this machine, by its name or by one that it resolves to
127.0.0.1 (DNS rebinding), and can open sockets to it. So the names in Host and Origin must be the server's own, and a
random token, which only the printed address holds, must be in the address or in the cookie that the page gets.
"""

import hmac
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_ADDRESS = 8 * 1024  # bytes of a request's path and query
HTTP_PORT = "80"  # which browsers leave out
HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Refuse requests and sockets from elsewhere, and add the headers that protect the page."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str], token: str) -> None:
        """`hosts`: the server's own names with the port, such as "127.0.0.1:8765"."""
        self.app = app
        self.hosts = frozenset(hosts)
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with status 403, or 414 if its address is too long."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        is_long = len(scope["raw_path"]) + len(scope["query_string"]) > MAX_ADDRESS
        reason = "the address is too long" if is_long else self.refusal(scope)
        if reason is None:
            await self.app(scope, receive, with_headers(send))
        elif scope["type"] == "http":
            answer = PlainTextResponse(f"refused: {reason}\n", status_code=414 if is_long else 403)
            await answer(scope, receive, with_headers(send))
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": reason})  # the handshake gets status 403

    def refusal(self, scope: Scope) -> str | None:
        """Return why a request is refused, or None."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value for name, value in headers if name == "host"]
        origins = [value for name, value in headers if name == "origin"]
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            return "this server has another name"
        if origins and origins != [f"http://{hosts[0].lower()}"]:
            return "the request comes from another site"
        if not any(self.is_token(given) for given in given_tokens(scope, headers, cookie_of(hosts[0]))):
            return "the token is missing or wrong; open the address that `lab play` has printed"
        return None

    def is_token(self, given: str) -> bool:
        """Return True for the token, in a time that does not depend on where it differs."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())


def hosts_of(names: Iterable[str], port: int) -> list[str]:
    """Return what browsers send as the Host of a server with these names, such as "127.0.0.1" or "[::1]"."""
    return [(name if str(port) == HTTP_PORT else f"{name}:{port}").lower() for name in names]


def cookie_of(host: str) -> str:
    """Return the name of the cookie of one server, "host:port": browsers share cookies between all ports of a host."""
    port = re.search(r":(\d+)$", host)
    return f"lab_play_{port[1] if port else HTTP_PORT}"


def given_tokens(scope: Scope, headers: Iterable[tuple[str, str]], cookie: str) -> list[str]:
    """Return the tokens in the address and in the cookie of a request.

    Cookies of other programs on this machine, however damaged, come along, so each is looked at on its own.
    """
    tokens = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
    pairs = [pair.strip().partition("=") for name, value in headers if name == "cookie" for pair in value.split(";")]
    return [*tokens, *(value for name, _, value in pairs if name == cookie)]


def with_headers(send: Send) -> Send:
    """Return `send` that adds the protecting headers to every answer."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            added: list[Any] = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return wrapped
