"""The server process: socket, application, and graceful shutdown."""

from __future__ import annotations

import math
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import uvicorn
from fastapi import FastAPI

from captioner.errors import CaptionerError
from captioner.serve.connections import waiting_for
from captioner.serve.limits import Limits

BACKLOG = 128
"""Maximum number of connections that wait to be accepted."""

LAST_PORT = 65535

HEADER_BYTES = 64 * 1024
"""Maximum size of a request's start line and headers."""


def open_socket(host: str, port: int) -> socket.socket:
    """Bind a socket, which refuses connections until it listens.

    Args:
        host: Name or address of a network interface.
        port: TCP port; 0 chooses a free one.

    Raises:
        CaptionerError: The address is unavailable.
    """
    if not 0 <= port <= LAST_PORT:
        raise CaptionerError(f"port {port} is none; choose one from 0 to {LAST_PORT}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise CaptionerError(f"{host}:{port} is not an address to listen on: {error}; try 127.0.0.1") from None
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except OSError as error:
        opened.close()
        raise CaptionerError(
            f"{host}:{port} cannot be listened on: {error.strerror}; choose another port or host"
        ) from None
    return opened


def address_of(opened: socket.socket) -> str:
    """The URL of a socket."""
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: FastAPI, opened: socket.socket, limits: Limits) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish those in progress.

    Args:
        app: The application.
        opened: The bound socket.
        limits: Requests that exceed its time limit are cancelled at shutdown.
    """
    server = uvicorn.Server(configure(app, limits))
    with closing(opened), _ended_by_sigterm(server):
        server.run(sockets=[opened])


def configure(app: FastAPI, limits: Limits) -> uvicorn.Config:
    """How uvicorn serves an application.

    Args:
        app: What answers requests.
        limits: Clients that take longer than its seconds are given up.
    """
    return uvicorn.Config(
        app,
        http=waiting_for(limits.seconds),
        log_level="warning",
        access_log=False,
        backlog=BACKLOG,
        h11_max_incomplete_event_size=HEADER_BYTES,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(limits.seconds),
    )


@contextmanager
def _ended_by_sigterm(server: uvicorn.Server) -> Iterator[None]:
    """Exit normally on SIGTERM from now on; uvicorn raises it again after the last request."""
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
