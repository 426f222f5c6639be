"""The connections of `heteroseg serve`: uvicorn's HTTP, with the bounds that it lacks."""

import asyncio
import json
import signal
import socket
import sys
from functools import partial
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from heteroseg.app.bounds import Limits
from heteroseg.app.page import HEADERS

CONNECTIONS = 256  # at once
ROOM = 256.0  # megabytes of requests and answers in the memory of all connections together
HEAD_SECONDS = 10.0  # for the head of a request, from the connection or the answer before
CHUNKS, CHUNK = 1000, 100  # so many may be smaller on average than so many bytes


class Rules(h11.Connection):
    """HTTP/1.1, without bodies in countless chunks: each costs as much as thousands of bytes."""

    parts, size = 0, 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.parts = self.size = 0
        if isinstance(event, h11.Data):
            self.parts, self.size = self.parts + 1, self.size + len(event.data)
            if self.parts > CHUNKS and self.size < CHUNK * self.parts:
                raise h11.RemoteProtocolError(f"chunks of less than {CHUNK} bytes")
        return event


class Connection(H11Protocol):
    """A connection that is closed when its client takes too long, or when newer ones need its place or its memory.

    uvicorn waits for ever for the head of a request and for somebody to take an answer.
    """

    def __init__(self, limits: Limits, **settings: Any):
        super().__init__(**settings)
        self.conn = Rules(h11.SERVER)
        self.limits, self.since, self.taken, self.timer = limits, 0.0, 0, asyncio.TimerHandle(0, bool, (), self.loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.max_size = 2**15  # type: ignore[attr-defined]  # bytes that are taken from one before another's turn
        self.since = self.loop.time()
        self.make_room()
        self.watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self.timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.taken += len(data)
        super().data_received(data)
        self.make_room()

    def on_response_complete(self) -> None:
        self.since, self.taken = self.loop.time(), 0
        super().on_response_complete()

    @property
    def held(self) -> int:
        """Bytes in memory: what has come of a request, and what is not taken of answers."""
        return self.taken + self.transport.get_write_buffer_size()

    @property
    def idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def waits(self) -> bool:
        """Whether its client has to do something."""
        return self.idle or self.cycle.more_body or self.flow.write_paused

    def watch(self) -> None:
        """Look at the clock every second."""
        untaken = self.transport.get_write_buffer_size() > 0
        most = self.limits.seconds if untaken else HEAD_SECONDS
        if (untaken or self.idle) and self.loop.time() - self.since > most:
            self.drop()
        else:
            self.timer = self.loop.call_later(1, self.watch)

    def make_room(self) -> None:
        """Close those that have waited for their clients longest, while there is too much of all."""
        room = max(ROOM, 2 * self.limits.megabytes) * 1e6
        while len(self.connections) > CONNECTIONS or sum(c.held for c in self.connections) > room:  # type: ignore
            waiting = [c for c in self.connections if c.waits]  # type: ignore[union-attr]
            if not waiting:
                return
            min(waiting, key=lambda c: c.since).drop()  # type: ignore

    def drop(self) -> None:
        self.connections.discard(self)
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # amid an answer
            return self.drop()
        body = json.dumps({"error": "expected a request by the rules of HTTP/1.1, found another"}).encode()
        headers = [*HEADERS.items(), ("content-type", "application/json"), ("content-length", str(len(body)))]
        head = h11.Response(status_code=400, headers=[*headers, ("connection", "close")], reason=b"Bad Request")
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server, which stops what is at work when it is to end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.close()  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def serve_on(door: socket.socket, app: FastAPI, limits: Limits) -> None:
    """Answer on a listening socket until a signal comes; then what is at work is stopped and leaves no files."""
    settings: dict[str, Any] = {"http": partial(Connection, limits), "ws": "none", "lifespan": "off"}
    settings |= {"log_level": "critical", "access_log": False, "server_header": False, "proxy_headers": False}
    config = uvicorn.Config(app, backlog=64, timeout_graceful_shutdown=1, **settings)
    server = Server(config)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, server.handle_exit)
    # uvicorn ends with the signal that it got: not by a death that leaves files
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    server.run([door])
