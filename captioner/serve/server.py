"""The process: a socket, the application, and an end that finishes what is begun."""

from __future__ import annotations

import math
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import uvicorn
from fastapi import FastAPI

from captioner.errors import CaptionerError
from captioner.serve.limits import Limits

BACKLOG = 128
"""Connections that wait for the server to accept them."""

LAST_PORT = 65535

HEADER_BYTES = 64 * 1024
"""Longest start line and headers of a request."""


def open_socket(host: str, port: int) -> socket.socket:
    """Take an address, which refuses connections until it listens.

    Args:
        host: Name or address of a network interface.
        port: TCP port; 0 takes one that is free.

    Raises:
        CaptionerError: The address cannot be taken.
    """
    if not 0 <= port <= LAST_PORT:
        raise CaptionerError(f"port {port} is none; choose one from 0 to {LAST_PORT}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise CaptionerError(f"{host}:{port} is no address to listen on: {error}; try 127.0.0.1") from None
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
    """The address of a socket, as a browser takes it."""
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: FastAPI, opened: socket.socket, limits: Limits) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish those in progress.

    Args:
        app: What answers them.
        opened: Where they come from.
        limits: Requests that take longer than its seconds are given up at the end.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        backlog=BACKLOG,
        h11_max_incomplete_event_size=HEADER_BYTES,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(limits.seconds),
    )
    server = uvicorn.Server(config)
    with closing(opened), _ended_by_sigterm(server):
        server.run(sockets=[opened])


@contextmanager
def _ended_by_sigterm(server: uvicorn.Server) -> Iterator[None]:
    """Let SIGTERM be a way to end well, from now on: uvicorn raises it again after the last request."""
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
