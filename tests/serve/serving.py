"""A server in this process, on a port of its own, and captioners that can be held up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from PIL import Image
from processes import LONGEST

from captioner.caption import Caption
from captioner.data.images import ImageSource
from captioner.decoding import DecodingOptions
from captioner.errors import CaptionerError
from captioner.pipeline import Captioner
from captioner.serve.limits import Limits
from captioner.serve.server import address_of, configure, open_socket

PATIENCE = LONGEST
"""Seconds that a test waits at most, on a machine with much else to do."""

CLIENT = httpx.Client(timeout=PATIENCE)
"""One for all tests: each new one reads the certificates of the whole web."""


@contextmanager
def serving(app: FastAPI, limits: Limits | None = None) -> Iterator[str]:
    """Serves an application on the loopback, and gives its address."""
    opened = open_socket("127.0.0.1", 0)
    server = uvicorn.Server(configure(app, limits or Limits()))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    try:
        until(lambda: server.started)
        yield address_of(opened)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


def until(holds: Callable[[], bool]) -> None:
    """Waits until something holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.005)


def png(number: int = 0, size: tuple[int, int] = (90, 60)) -> bytes:
    """A picture, another for each number."""
    image = Image.new("RGB", size, (37 * number % 256, 91 * number % 256, 200 - number % 100))
    image.paste("white", (number % 50, 5, number % 50 + 30, 50))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def port_of(address: str) -> int:
    return httpx.URL(address).port or 0


def connect(address: str) -> socket.socket:
    """A bare connection, for clients that do not behave."""
    return socket.create_connection(("127.0.0.1", port_of(address)), PATIENCE)


def metric(address: str, name: str) -> float:
    """The sum of a metric over all its labels."""
    lines = CLIENT.get(f"{address}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


class Gated:
    """A captioner that begins a batch only when it is let; what it was given is kept.

    Args:
        captioner: Who writes the captions.
    """

    def __init__(self, captioner: Captioner) -> None:
        self.gate = threading.Event()
        self.batches: list[tuple[list[ImageSource], DecodingOptions | None]] = []
        self._captioner = captioner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._captioner, name)

    def stream(
        self, images: Iterable[ImageSource], options: DecodingOptions | None = None, batch_size: int = 128
    ) -> Iterator[Caption | CaptionerError]:
        pictures = list(images)
        self.batches.append((pictures, options))
        assert self.gate.wait(PATIENCE)
        return self._captioner.stream(pictures, options, batch_size)
