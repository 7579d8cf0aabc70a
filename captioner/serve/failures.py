"""Failed requests: status, message, and the error format of each interface."""

from __future__ import annotations

import math
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from captioner.errors import CaptionerError

CLIENT_LEFT = 499
"""nginx's status for a client that disconnected, for logs and metrics only."""


class ServeError(Exception):
    """A failed request.

    Attributes:
        status: The HTTP status.
        retry_after: Seconds after which a retry may succeed; None if it will not.
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


def respond(path: str, error: ServeError) -> JSONResponse:
    """The response to a failed request.

    Args:
        path: Path of the request: OpenAI's interface has its own error format.
        error: The error.
    """
    content: dict[str, object] = {"error": str(error)}
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if error.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        content = {"error": {"message": str(error), "type": kind, "param": None, "code": None}}
    headers = {"Cache-Control": "no-store"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(content, error.status, headers)


def add_handlers(app: FastAPI) -> None:
    """Install handlers that answer every failure with JSON."""

    def serve_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ServeError)
        return respond(request.url.path, error)

    def captioner_error(request: Request, error: Exception) -> JSONResponse:
        return respond(request.url.path, ServeError(HTTPStatus.BAD_REQUEST, str(error)))

    def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ValidationError)
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the body"
        return respond(request.url.path, ServeError(HTTPStatus.BAD_REQUEST, f"{field}: {first['msg']}"))

    def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        path = request.url.path
        if error.status_code == HTTPStatus.NOT_FOUND:
            line = f"{path} is not served here; /docs lists what is"
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (error.headers or {}).get("Allow", "")
            line = f"{path} does not take {request.method}; use {allowed}"
        else:
            line = str(error.detail)
        response = respond(path, ServeError(error.status_code, line))
        response.headers.update(error.headers or {})
        return response

    def defect(request: Request, error: Exception) -> JSONResponse:
        line = "the server failed; its log says why"  # uvicorn logs the traceback there
        return respond(request.url.path, ServeError(HTTPStatus.INTERNAL_SERVER_ERROR, line))

    app.add_exception_handler(ServeError, serve_error)
    app.add_exception_handler(CaptionerError, captioner_error)
    app.add_exception_handler(ValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, defect)
