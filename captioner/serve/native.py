"""The server's own interface: captions, health, metrics."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from captioner import __version__
from captioner.serve.answers import describe
from captioner.serve.failures import ServeError, respond
from captioner.serve.requests import ONE, SEVERAL, option_names, read_flag, read_options, read_upload
from captioner.serve.service import Service

NO_STORE = {"Cache-Control": "no-store"}
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
MAPS = "maps"


def make_router(service: Service) -> APIRouter:
    """Build the routes."""
    router = APIRouter()

    @router.post("/caption", openapi_extra=_describe_upload(), responses=_failures())
    async def caption(request: Request) -> JSONResponse:
        """Caption one or several images.

        The body is an image file, or a form with a file as `image` or several as `images`. Decoding options and `maps`
        are query parameters or form fields.

        The answer for a single image is an object, as printed by `captioner caption --json`, or an error; for several
        images it is a list of captions and errors.
        """
        asked = await read_upload(request, service.limits.pictures)
        fields = dict(asked.fields)
        maps = read_flag(MAPS, fields.pop(MAPS, "false"))
        options = read_options(fields, service.options)
        results = await service.caption(request, asked.pictures, options)
        answers: list[dict[str, Any]] = []
        for picture, result in zip(asked.pictures, results, strict=True):
            if not isinstance(result, ServeError):
                answers.append(describe(picture.name, result, options.num_captions, maps))
            elif asked.several:
                answers.append({"image": picture.name, "error": str(result)})
            else:
                return respond(request.url.path, result)
        return JSONResponse(answers if asked.several else answers[0], headers=NO_STORE)

    @router.get("/health")
    async def health() -> dict[str, Any]:
        """Report that the server is ready, and the number of waiting images."""
        return {
            "status": "ok",
            "model": service.name,
            "version": __version__,
            "queue": service.batcher.pending,
        }

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return counters and histograms in Prometheus' text format."""
        return Response(service.metrics.text(), media_type=PROMETHEUS)

    return router


def _describe_upload() -> dict[str, Any]:
    """OpenAPI description of the request, which FastAPI cannot infer from a signature."""
    file = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {ONE: file, SEVERAL: {"type": "array", "items": file}}}
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": _schema(default)} for name, default in option_names()
    ]
    maps = {"name": MAPS, "in": "query", "required": False, "schema": _schema(False)}
    return {
        "parameters": [maps, *parameters],
        "requestBody": {
            "required": True,
            "content": {"image/*": {"schema": file}, "multipart/form-data": {"schema": form}},
        },
    }


def _schema(default: object) -> dict[str, Any]:
    if isinstance(default, tuple):
        return {"type": "string", "description": "words, separated by commas"}
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {"type": kinds[type(default)], "default": default}


def _failures() -> dict[int | str, dict[str, Any]]:
    lines = {
        HTTPStatus.BAD_REQUEST: "The picture cannot be read, or an option has no sense.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Too many bytes, pixels or pictures.",
        HTTPStatus.SERVICE_UNAVAILABLE: "Too much is waiting; Retry-After tells when to try again.",
    }
    return {int(status): {"description": line} for status, line in lines.items()}
