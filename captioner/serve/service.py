"""Shared by all interfaces: model, queue, limits and metrics."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request
from PIL import Image

from captioner.caption import Caption
from captioner.captioning import with_ids
from captioner.decoding.options import DecodingOptions
from captioner.errors import CaptionerError
from captioner.serve.batching import Batcher, Outcome
from captioner.serve.failures import CLIENT_LEFT, ServeError
from captioner.serve.limits import Limits
from captioner.serve.metrics import Metrics
from captioner.serve.requests import Picture, limited, name_picture, too_many

if TYPE_CHECKING:
    from captioner.captioning import BaseCaptioner

Result = TypeVar("Result")


@dataclass
class Service:
    """A running captioner.

    Attributes:
        captioner: The network.
        name: Name of the model for clients.
        options: Default decoding options of requests.
        limits: Limits of requests.
        thread: Runs the network, as for `Batcher`.
    """

    captioner: BaseCaptioner
    name: str
    options: DecodingOptions
    limits: Limits
    thread: ThreadPoolExecutor | None = None
    batcher: Batcher = field(init=False)
    metrics: Metrics = field(init=False)
    started: datetime = field(init=False, default_factory=lambda: datetime.now(timezone.utc))

    def __post_init__(self) -> None:
        self.metrics = Metrics(lambda: self.batcher.pending)
        self.batcher = Batcher(self.captioner, self.limits, self.metrics.observe_batch, self.thread)

    @property
    def digest(self) -> str:
        """SHA-256 of the model card and vocabulary."""
        known = json.dumps([dict(self.captioner.card), self.captioner.vocabulary.words], default=str, sort_keys=True)
        return hashlib.sha256(known.encode()).hexdigest()

    def refuse_other_model(self, name: str) -> None:
        """Refuse requests for another model.

        Raises:
            ServeError: The name differs.
        """
        if name.removesuffix(":latest") != self.name:
            raise ServeError(HTTPStatus.NOT_FOUND, f"model {name!r} is not here; ask for {self.name!r}")

    async def caption(
        self, request: Request, pictures: Sequence[Picture], options: DecodingOptions
    ) -> list[Caption | ServeError]:
        """Caption the images of a request; cancelled if its client disconnects.

        Returns:
            For each image its caption, or the error.

        Raises:
            ServeError: There are too many images, the queue is full, or the time limit was exceeded.
            CaptionerError: The options do not fit the model.
        """
        if len(pictures) > self.limits.pictures:
            raise too_many(self.limits.pictures)
        options = with_ids(limited(options), self.captioner.vocabulary)
        work = self.batcher.caption([picture.content for picture in pictures], options)
        outcomes = await _unless_left(request, work)
        results = [_result(picture, outcome) for picture, outcome in zip(pictures, outcomes, strict=True)]
        failed = sum(isinstance(result, ServeError) for result in results)
        self.metrics.count_pictures(len(results) - failed, failed)
        return results

    async def caption_all(
        self, request: Request, pictures: Sequence[Picture], options: DecodingOptions
    ) -> list[Caption]:
        """The same for interfaces with one answer for all images: an unreadable one fails the request.

        Raises:
            ServeError: An image is unreadable, or as for `caption`.
        """
        captions = []
        for result in await self.caption(request, pictures, options):
            if isinstance(result, ServeError):
                raise result
            captions.append(result)
        return captions

    def card(self) -> dict[str, Any]:
        """Describe the model as JSON."""
        return {str(name): value for name, value in self.captioner.card.items()}


def _result(picture: Picture, outcome: Outcome) -> Caption | ServeError:
    if not isinstance(outcome, CaptionerError):
        return outcome
    too_large = isinstance(outcome.__context__, Image.DecompressionBombError)
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_large else HTTPStatus.BAD_REQUEST
    return ServeError(status, name_picture(outcome, picture.name))


async def _unless_left(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for the work, or for the client to disconnect."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_leaving(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ServeError(CLIENT_LEFT, "the client left")
        return task.result()
    finally:
        for each in (task, leaving):
            each.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _leaving(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
