"""Middleware before parsing: the token, and limits of size and duration of the body."""

from __future__ import annotations

import asyncio
import hmac
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captioner.serve.failures import CLIENT_LEFT, ServeError, respond
from captioner.serve.limits import Limits

OPEN_PATHS = ("/", "/page.html", "/health")
OPEN_FOLDER = "/web/"
"""Together with `OPEN_PATHS`, the paths without token: the page, which asks for it, that which needs no server, and the
health check."""


class RequireToken:
    """Refuses requests without the bearer token.

    Args:
        app: The guarded application.
        token: The required token.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, or refuse it."""
        if scope["type"] == "http" and not _is_open(scope["path"]):
            given = Headers(scope=scope).get("authorization", "").encode()
            if not hmac.compare_digest(given, self._expected):
                line = "this server asks for a token; send it as Authorization: Bearer TOKEN"
                await respond(scope["path"], ServeError(HTTPStatus.UNAUTHORIZED, line))(scope, receive, send)
                return
        await self._app(scope, receive, send)


class LimitBodies:
    """Reads the body of each request, within limits, before passing it on.

    Args:
        app: The guarded application.
        limits: Limits of one body, of all together, and of the time for receiving one.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        try:
            refusal = await self._read(body, Headers(scope=scope).get("content-length", "0"), receive)
            if refusal is None:
                await self._app(scope, _replay(bytes(body), receive), send)
            else:
                await respond(scope["path"], refusal)(scope, receive, send)
        finally:
            self._held -= len(body)

    async def _read(self, body: bytearray, announced: str, receive: Receive) -> ServeError | None:
        """Receive the body; returns the reason for refusing it, if any."""
        if announced.isdecimal() and int(announced) > self._limits.body_bytes:
            return self._too_large()
        try:
            return await asyncio.wait_for(self._fill(body, receive), self._limits.seconds)
        except asyncio.TimeoutError:
            line = f"the request did not arrive within {self._limits.seconds:g} s"
            return ServeError(HTTPStatus.REQUEST_TIMEOUT, line)

    async def _fill(self, body: bytearray, receive: Receive) -> ServeError | None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return ServeError(CLIENT_LEFT, "the client left")
            chunk = message.get("body", b"")
            body += chunk
            self._held += len(chunk)
            if len(body) > self._limits.body_bytes:
                return self._too_large()
            if self._held > self._limits.total_bytes:
                line = f"other requests hold {self._limits.total_bytes:,} bytes; try again later"
                return ServeError(HTTPStatus.SERVICE_UNAVAILABLE, line, retry_after=1)
            if not message.get("more_body", False):
                return None

    def _too_large(self) -> ServeError:
        line = f"the request has more than {self._limits.body_bytes:,} bytes; send smaller pictures, or fewer"
        return ServeError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, line)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Replay a received body, then later messages, which report that the client disconnected."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
