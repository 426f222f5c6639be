"""A running `heteroseg serve` to be attacked, and how a client that keeps no rules talks to it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HEAD = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"


@dataclass
class Answer:
    """`head` as it came, in lower case; status 0 where the connection was closed without an answer."""

    status: int
    head: str
    body: bytes


@dataclass
class Served:
    """A server in a process of its own: its port, its folder for temporary files, and what it says on stderr."""

    process: subprocess.Popen
    port: int
    room: Path
    said: Path
    asked: int = 0  # how often

    def connect(self, timeout: float = 60) -> socket.socket:
        self.asked += 1
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def send(self, data: bytes, timeout: float = 60) -> Answer:
        """What comes back for these bytes."""
        with self.connect(timeout) as line:
            with suppress(ConnectionError):  # answered before all was sent
                line.sendall(data)
            return read_answer(line)

    def post(self, path: str, body: bytes = b"", *headers: str) -> Answer:
        lines = [f"POST {path} HTTP/1.1", "Connection: close", f"Content-Length: {len(body)}", *headers]
        if not any(h.lower().startswith("host:") for h in headers):
            lines.append(f"Host: localhost:{self.port}")
        return self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def get(self, path: str, *headers: str) -> Answer:
        host = () if any(h.lower().startswith("host:") for h in headers) else (f"Host: localhost:{self.port}",)
        return self.send("\r\n".join([f"GET {path} HTTP/1.1", "Connection: close", *host, *headers, "", ""]).encode())

    def memory(self) -> float:
        """The most megabytes that it ever had in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1000

    def files(self) -> list[Path]:
        """What lies on the disk, also without a name."""
        open_files = [os.path.realpath(p) for p in Path(f"/proc/{self.process.pid}/fd").iterdir()]
        return [*self.room.rglob("*"), *(Path(p) for p in open_files if str(self.room) in p)]


def read_answer(line: socket.socket) -> Answer:
    """Status, head and body of the first answer on a connection; closing it ends the answer too."""
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            if not (part := line.recv(65536)):
                return Answer(0, "", data)
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        size = int(length[1]) if length else 10**9
        while len(body) < size and (part := line.recv(65536)):
            body += part
    except ConnectionError:
        return Answer(0, "", data)
    return Answer(int(head.split()[1]), head.decode("latin-1").lower(), body[:size])


@contextmanager
def serving(model: Path, folder: Path, *options: str) -> Iterator[Served]:
    room, said = folder / "room", folder / "stderr.txt"
    room.mkdir(parents=True)
    command = [sys.executable, "-m", "heteroseg", "serve", str(model), "--port", "0", *options]
    with said.open("wb") as stderr:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=os.environ | {"TMPDIR": str(room)}
        )
    try:
        port = int(re.match(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())[1])
        yield Served(process, port, room, said)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()
            process.stdout.close()


def until(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
