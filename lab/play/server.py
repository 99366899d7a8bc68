"""The server of the page. It never imports torch, so that it answers at once; the workers compute."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from lab.errors import UserError
from lab.play.security import Guard, cookie_of
from lab.play.session import Session
from lab.play.sources import CODE, LESSONS, PICTURES, code_of, lesson_page, lesson_pictures

STATIC = Path(__file__).parent / "static"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MAX_SOCKETS = 8


def create_app(hosts: Sequence[str], token: str, own_files: Sequence[Path] = ()) -> ASGIApp:
    """Return the application. `hosts`: its own names with the port; `own_files`: the learner's files of `--with`."""
    files = {path.name: path for path in STATIC.iterdir()}
    open_sockets: set[WebSocket] = set()

    async def page(request: Request) -> Response:
        response = FileResponse(files["index.html"], media_type="text/html")
        response.set_cookie(cookie_of(request.headers["host"]), token, httponly=True, samesite="strict")
        return response

    async def static(request: Request) -> Response:
        path = files.get(request.path_params["name"])
        return not_found() if path is None else FileResponse(path, media_type=TYPES.get(path.suffix))

    async def code(request: Request) -> Response:
        pane = request.path_params["pane"]
        if pane not in CODE:
            return not_found()
        try:
            return JSONResponse(code_of(pane, own_files))
        except (UserError, OSError):  # a file of the learner's is damaged by now; the pane says why
            return JSONResponse(code_of(pane))

    async def lesson(request: Request) -> Response:
        name = request.path_params["name"]
        return not_found() if name not in LESSONS else HTMLResponse(lesson_page(name))

    async def picture(request: Request) -> Response:
        name = request.path_params["name"]
        pictures = lesson_pictures(name) if name in LESSONS else {}
        path = pictures.get(request.path_params["path"])
        return not_found() if path is None else FileResponse(path, media_type=PICTURES[path.suffix])

    async def socket(socket: WebSocket) -> None:
        await socket.accept()
        if len(open_sockets) >= MAX_SOCKETS:
            await socket.close(1013, f"{MAX_SOCKETS} pages are open already")
            return
        open_sockets.add(socket)
        try:
            await Session(socket, own_files).run()
        except asyncio.CancelledError:
            pass  # the server stops
        finally:
            open_sockets.discard(socket)

    routes = [
        Route("/", page),
        Route("/static/{name}", static),
        Route("/code/{pane}", code),
        Route("/lesson/{name}/", lesson),
        Route("/lesson/{name}/{path:path}", picture),
        WebSocketRoute("/socket", socket),
    ]
    return Guard(Starlette(routes=routes), hosts, token)


def not_found() -> Response:
    """Return the answer for what is not there."""
    return Response("not found\n", status_code=404, media_type="text/plain")
