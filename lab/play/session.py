"""One open page: its socket, its worker process, and the newest frame of every kind on its way to the page."""

import asyncio
import contextlib
import json
import multiprocessing
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from starlette.websockets import WebSocket, WebSocketDisconnect

from lab.play.messages import BadMessage, parse
from lab.play.worker import main

FRAMES_PER_SECOND = 30  # at most, whatever the worker computes

RESTARTS = 5  # of a worker that keeps ending
BAD_MESSAGES = 20  # then the socket is closed
WAITING_MESSAGES = 100  # for a worker that does not read them; further ones are refused
CONTEXT = multiprocessing.get_context("spawn")


class WorkerProcess:
    """A worker process, and a thread that reads its frames."""

    def __init__(
        self, own_files: Sequence[Path], on_frame: Callable[[str, str], None], on_end: Callable[[], None]
    ) -> None:
        self.connection, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=main, args=(theirs, tuple(own_files)), daemon=True)
        self.process.start()
        theirs.close()
        self.on_frame = on_frame
        self.on_end = on_end
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                self.on_frame(*self.connection.recv())
        except (EOFError, OSError):
            self.on_end()

    def send(self, message: dict) -> None:
        """Send a message to the job. A worker that has ended gets none."""
        with contextlib.suppress(OSError):
            self.connection.send(message)

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.terminate()
        self.process.join(1)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


class Session:
    """Passes messages from a socket to a worker, and the newest frames back."""

    def __init__(self, socket: WebSocket, own_files: Sequence[Path]) -> None:
        self.socket = socket
        self.own_files = own_files
        self.loop = asyncio.get_running_loop()
        self.newest: dict[str, str] = {}  # kind of frame -> the newest one, as JSON
        self.is_fresh = asyncio.Event()
        self.has_started = asyncio.Event()  # the first worker
        self.has_ended = asyncio.Event()  # the present worker
        self.worker: WorkerProcess | None = None
        self.messages: asyncio.Queue[dict] = asyncio.Queue(WAITING_MESSAGES)

    async def run(self) -> None:
        """Serve the page until it is gone."""
        tasks = [
            asyncio.create_task(task) for task in (self.receive(), self.pass_on(), self.send(), self.keep_a_worker())
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self.worker is not None:
                await asyncio.to_thread(self.worker.end)

    async def receive(self) -> None:
        """Check the messages of the page. Returns when it is gone, also while the worker does not answer."""
        bad = 0
        while bad < BAD_MESSAGES:
            try:
                received = await self.socket.receive()
                if received["type"] != "websocket.receive":
                    return
                message = parse(received.get("text") or received.get("bytes") or "")
                self.messages.put_nowait(message)
            except WebSocketDisconnect:
                return
            except asyncio.QueueFull:
                self.put(" refused", pane="", kind="refused", message="the worker does not answer")
            except BadMessage as error:
                bad += 1
                self.put(" refused", pane="", kind="refused", message=str(error))

    async def pass_on(self) -> None:
        """Send the messages of the page to the worker."""
        await self.has_started.wait()
        while True:
            message = await self.messages.get()
            assert self.worker is not None
            await asyncio.to_thread(self.worker.send, message)

    async def send(self) -> None:
        """Send the newest frame of every kind, at most so many times a second."""
        while True:
            await self.is_fresh.wait()
            self.is_fresh.clear()
            frames, self.newest = self.newest, {}
            for frame in frames.values():
                await self.socket.send_text(frame)
            await asyncio.sleep(1 / FRAMES_PER_SECOND)

    async def keep_a_worker(self) -> None:
        """Start a worker, and another one if it ends, killed or out of memory; the page is told."""
        for _ in range(1 + RESTARTS):
            self.has_ended.clear()
            self.worker = await asyncio.to_thread(WorkerProcess, self.own_files, self._on_frame, self._on_end)
            self.has_started.set()
            await self.has_ended.wait()
            await asyncio.to_thread(self.worker.end)
            self.put(" worker", pane="", kind="worker", state="ended")
            await asyncio.sleep(0.2)  # the page sees this before the next one is ready
        await self.socket.close(1011, "the worker keeps ending")

    def put(self, key: str, **values: str) -> None:
        """Send a frame of our own."""
        self._put(key, json.dumps(values))

    def _put(self, key: str, frame: str) -> None:
        """Let a frame take the place of the last one of its kind."""
        self.newest[key] = frame
        self.is_fresh.set()

    def _on_frame(self, key: str, frame: str) -> None:  # in the thread of the worker
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self._put, key, frame)

    def _on_end(self) -> None:  # in the thread of the worker
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.has_ended.set)
