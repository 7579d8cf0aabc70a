"""Ollama-compatible interface, for programs that get captions from Ollama.

Prompts and sampling options, which are meant for large language models, are accepted and ignored: every request is
answered with a caption from beam search.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from captioner import __version__
from captioner.caption import Caption
from captioner.serve.compatible import describe_body, pieces_of, was_cut
from captioner.serve.failures import ServeError
from captioner.serve.native import NO_STORE
from captioner.serve.requests import Picture, from_base64, read_json
from captioner.serve.service import Service

NDJSON = "application/x-ndjson"


class GenerateRequest(BaseModel):
    """A request of ``/api/generate``, with the fields used here."""

    model: str
    prompt: str = ""
    images: list[Any] | None = None
    stream: bool = True
    format: Any = None
    options: dict[str, Any] | None = None


class ChatRequest(BaseModel):
    """A request of ``/api/chat``, with the fields used here."""

    model: str
    messages: list[dict[str, Any]] = []
    stream: bool = True
    format: Any = None
    options: dict[str, Any] | None = None


class ShowRequest(BaseModel):
    """A request of ``/api/show``."""

    model: str


def make_router(service: Service) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/api", tags=["ollama"])

    async def answer(
        request: Request, asked: GenerateRequest | ChatRequest, images: Sequence[Any] | None, chat: bool
    ) -> Response:
        service.refuse_other_model(asked.model)
        if asked.format:
            line = "format asks for JSON, but this model writes plain captions; leave it out"
            raise ServeError(HTTPStatus.BAD_REQUEST, line)
        if not images:
            raise ServeError(HTTPStatus.BAD_REQUEST, "the request has no image; send it in images, as base64")
        pictures = [Picture(f"image {number}", from_base64(image)) for number, image in enumerate(images, 1)]
        begin = time.perf_counter_ns()
        options = service.options
        length = (asked.options or {}).get("num_predict")
        if isinstance(length, int) and length > 0:
            options = replace(options, max_words=min(length, options.max_words))
        captions = await service.caption_all(request, pictures, options)
        parts = _parts(service.name, captions, time.perf_counter_ns() - begin, chat)
        if asked.stream:
            lines = (json.dumps(part) + "\n" for part in parts)
            return StreamingResponse(lines, media_type=NDJSON, headers=NO_STORE)
        return JSONResponse(_whole(list(parts), chat), headers=NO_STORE)

    @router.post("/generate", openapi_extra=describe_body(GenerateRequest))
    async def generate(request: Request) -> Response:
        """Caption base64 images, like Ollama's generate; streamed unless `stream` is false."""
        asked = await read_json(request, GenerateRequest)
        if not asked.images and not asked.prompt:  # clients load a model by an empty request
            service.refuse_other_model(asked.model)
            return JSONResponse({**_head(service.name), "response": "", "done": True, "done_reason": "load"})
        return await answer(request, asked, asked.images, chat=False)

    @router.post("/chat", openapi_extra=describe_body(ChatRequest))
    async def chat(request: Request) -> Response:
        """Caption the images of the last message with images, like Ollama's chat."""
        asked = await read_json(request, ChatRequest)
        images = next((each["images"] for each in reversed(asked.messages) if each.get("images")), None)
        if images is not None and not isinstance(images, list):
            raise ServeError(HTTPStatus.BAD_REQUEST, "images is not a list; send a list of pictures in base64")
        return await answer(request, asked, images, chat=True)

    @router.get("/tags")
    async def tags() -> dict[str, Any]:
        """List the only model."""
        model = f"{service.name}:latest"
        entry = {
            "name": model,
            "model": model,
            "modified_at": service.started.isoformat(),
            "digest": service.digest,
            "details": _details(),
        }
        return {"models": [entry]}

    @router.post("/show", openapi_extra=describe_body(ShowRequest))
    async def show(request: Request) -> dict[str, Any]:
        """Describe the model."""
        asked = await read_json(request, ShowRequest)
        service.refuse_other_model(asked.model)
        card = service.card()
        return {
            "modelfile": "",
            "license": str(card.get("licence", "")),
            "modified_at": service.started.isoformat(),
            "details": _details(),
            "capabilities": ["completion", "vision"],
            "model_info": {
                "general.architecture": "captioner",
                "captioner.words": len(service.captioner.vocabulary),
                "captioner.grid": list(service.captioner.grid_shape),
                "captioner.card": card,
            },
        }

    @router.get("/version")
    async def version() -> dict[str, str]:
        """Return the version of this server."""
        return {"version": __version__}

    return router


def _head(name: str) -> dict[str, Any]:
    return {"model": name, "created_at": datetime.now(timezone.utc).isoformat()}


def _details() -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": "captioner",
        "families": ["captioner"],
        "parameter_size": "",
        "quantization_level": "",
    }


def _content(text: str, chat: bool) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}} if chat else {"response": text}


def _parts(name: str, captions: Sequence[Caption], nanoseconds: int, chat: bool) -> Iterator[dict[str, Any]]:
    """Stream one part per word, then the totals."""
    for piece in pieces_of(captions):
        yield {**_head(name), **_content(piece, chat), "done": False}
    yield {
        **_head(name),
        **_content("", chat),
        "done": True,
        "done_reason": "length" if was_cut(captions) else "stop",
        "total_duration": nanoseconds,
        "load_duration": 0,
        "prompt_eval_count": 0,
        "prompt_eval_duration": 0,
        "eval_count": sum(len(caption.word_log_probabilities) for caption in captions),
        "eval_duration": nanoseconds,
    }


def _whole(parts: Sequence[dict[str, Any]], chat: bool) -> dict[str, Any]:
    """The answer without streaming."""
    *words, last = parts
    text = "".join(part["message"]["content"] if chat else part["response"] for part in words)
    return {**last, **_content(text, chat)}
