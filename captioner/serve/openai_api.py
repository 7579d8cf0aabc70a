"""OpenAI-compatible chat completions, for programs that get captions from such servers.

As in Ollama's interface, prompts and sampling options are accepted and ignored.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from captioner.caption import Caption
from captioner.serve.compatible import describe_body, pieces_of, text_of, was_cut
from captioner.serve.failures import ServeError
from captioner.serve.native import NO_STORE
from captioner.serve.requests import Picture, from_base64, read_json
from captioner.serve.service import Service

EVENTS = "text/event-stream"


class CompletionRequest(BaseModel):
    """A request of ``/v1/chat/completions``, with the fields used here."""

    model: str
    messages: list[dict[str, Any]]
    n: int = 1
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None


def make_router(service: Service) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/v1", tags=["openai"])

    @router.post("/chat/completions", openapi_extra=describe_body(CompletionRequest))
    async def completions(request: Request) -> Response:
        """Caption the images of the last message with images: `image_url` with a base64 `data:` URL."""
        asked = await read_json(request, CompletionRequest)
        service.refuse_other_model(asked.model)
        if (asked.response_format or {"type": "text"}).get("type") != "text":
            line = "response_format asks for JSON, but this model writes plain captions; leave it out"
            raise ServeError(HTTPStatus.BAD_REQUEST, line)
        pictures = _pictures(asked.messages)
        if len(pictures) > 1 and asked.n > 1:
            raise ServeError(HTTPStatus.BAD_REQUEST, f"n is {asked.n}, which goes with one picture; send one")
        options = service.options
        length = asked.max_completion_tokens or asked.max_tokens
        if length is not None and length > 0:
            options = replace(options, max_words=min(length, options.max_words))
        if asked.n > 1:
            options = replace(options, num_captions=asked.n, beam_size=max(options.beam_size, asked.n))
        captions = await service.caption_all(request, pictures, options)
        choices = [[captions[0]], *([each] for each in captions[0].alternatives)] if asked.n > 1 else [captions]
        reply = _Reply(service.name, choices, bool(asked.logprobs))
        if asked.stream:
            usage = bool((asked.stream_options or {}).get("include_usage"))
            return StreamingResponse(_events(reply.chunks(usage)), media_type=EVENTS, headers=NO_STORE)
        return JSONResponse(reply.whole(), headers=NO_STORE)

    @router.get("/models")
    async def models() -> dict[str, Any]:
        """List the only model."""
        return {"object": "list", "data": [_model(service)]}

    @router.get("/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        """Describe the model."""
        service.refuse_other_model(name)
        return _model(service)

    return router


def _model(service: Service) -> dict[str, Any]:
    created = int(service.started.timestamp())
    return {"id": service.name, "object": "model", "created": created, "owned_by": "captioner"}


def _pictures(messages: Sequence[dict[str, Any]]) -> list[Picture]:
    """Extract the images of the last message with images.

    Raises:
        ServeError: There is none, or one is not a `data:` URL.
    """
    for message in reversed(messages):
        content = message.get("content")
        parts = content if isinstance(content, list) else []
        addresses = [part.get("image_url") for part in parts if isinstance(part, dict) and "image_url" in part]
        if addresses:
            given = (each.get("url") if isinstance(each, dict) else each for each in addresses)
            return [Picture(f"image {number}", from_base64(each)) for number, each in enumerate(given, 1)]
    line = "the messages hold no picture; send one as image_url with data:image/jpeg;base64,…"
    raise ServeError(HTTPStatus.BAD_REQUEST, line)


def _events(chunks: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Format server-sent events."""
    for chunk in chunks:
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


class _Reply:
    """A completion, complete or in chunks.

    Args:
        model: The model's name.
        choices: Captions of all images, for each choice.
        log_probabilities: Whether to include those of words.
    """

    def __init__(self, model: str, choices: Sequence[Sequence[Caption]], log_probabilities: bool) -> None:
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._choices = choices
        self._log_probabilities = log_probabilities

    def whole(self) -> dict[str, Any]:
        """The reply without streaming."""
        choices = []
        for index, captions in enumerate(self._choices):
            message = {"role": "assistant", "content": text_of(captions), "refusal": None}
            choices.append({**self._end(index, captions), "message": message, "logprobs": self._tokens(captions)})
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": self._usage()}

    def chunks(self, usage: bool) -> Iterator[dict[str, Any]]:
        """Stream one chunk per word, then the usage if requested."""
        head: dict[str, Any] = {**self._head, "object": "chat.completion.chunk"}
        if usage:
            head["usage"] = None
        for index, captions in enumerate(self._choices):
            deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
            deltas += [{"content": piece} for piece in pieces_of(captions)]
            for delta in deltas:
                yield {**head, "choices": [{"index": index, "delta": delta, "finish_reason": None}]}
            yield {**head, "choices": [{**self._end(index, captions), "delta": {}}]}
        if usage:
            yield {**head, "choices": [], "usage": self._usage()}

    def _end(self, index: int, captions: Sequence[Caption]) -> dict[str, Any]:
        return {"index": index, "finish_reason": "length" if was_cut(captions) else "stop"}

    def _usage(self) -> dict[str, int]:
        written = sum(len(each.word_log_probabilities) for captions in self._choices for each in captions)
        return {"prompt_tokens": 0, "completion_tokens": written, "total_tokens": written}

    def _tokens(self, captions: Sequence[Caption]) -> dict[str, Any] | None:
        if not self._log_probabilities:
            return None
        content = [
            {"token": word, "logprob": value, "bytes": list(word.encode()), "top_logprobs": []}
            for caption in captions
            for word, value in zip(caption.words, caption.word_log_probabilities, strict=False)
        ]
        return {"content": content, "refusal": None}
