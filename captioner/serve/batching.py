"""One network, one queue: pictures of several requests are captioned together.

A beam search over many pictures takes far less time than one after another, so pictures that arrive within a few
milliseconds of each other, or while the network is busy, share a batch.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

from captioner.caption import Caption
from captioner.errors import CaptionerError
from captioner.serve.failures import ServeError
from captioner.serve.limits import Limits

if TYPE_CHECKING:
    from captioner.decoding.options import DecodingOptions
    from captioner.pipeline import Captioner

Outcome: TypeAlias = "Caption | CaptionerError"

LONGEST_GATHERING = 8
"""Windows that the network waits at most, while pictures keep arriving."""

USUAL_WIDTH = 5
"""Hypotheses of a picture up to which a batch may be full."""

SMOOTHING = 0.2
"""Weight of the newest batch in the mean time a picture."""


@dataclass(eq=False)
class _Job:
    image: bytes
    options: DecodingOptions
    outcome: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """The queue before the network. All its methods belong to one event loop; the network has a thread of its own.

    Args:
        captioner: The network.
        limits: Of the queue, of a batch, and of time.
        observe: Called with the size of each batch and the seconds that it took.
    """

    def __init__(
        self, captioner: Captioner, limits: Limits, observe: Callable[[int, float], None] = lambda size, seconds: None
    ) -> None:
        self._captioner = captioner
        self._limits = limits
        self._observe = observe
        self._waiting: deque[_Job] = deque()
        self._running = 0
        self._arrival = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "captioner")
        self._worker: asyncio.Task[None] | None = None
        self._seconds = 0.1  # a picture, until the first batch has been timed

    @property
    def pending(self) -> int:
        """Pictures that wait or are being captioned."""
        return len(self._waiting) + self._running

    async def start(self) -> None:
        """Begin to caption."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Wait for the batch that is being captioned, and end."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._thread.shutdown()

    async def caption(self, images: Sequence[bytes], options: DecodingOptions) -> list[Outcome]:
        """Captions pictures, together with those of other requests.

        Cancelled, it takes back what has not been begun.

        Args:
            images: Image files.
            options: How captions are written.

        Returns:
            For each picture its caption, or why it could not be read.

        Raises:
            ServeError: The queue is full, or the captions were not made in time.
        """
        if self.pending + len(images) > self._limits.queue:
            line = f"{self.pending} pictures are waiting already, of at most {self._limits.queue}; try again later"
            raise ServeError(HTTPStatus.SERVICE_UNAVAILABLE, line, self._seconds * self.pending)
        jobs = [_Job(image, options) for image in images]
        self._waiting.extend(jobs)
        self._arrival.set()
        try:
            _, late = await asyncio.wait([job.outcome for job in jobs], timeout=self._limits.seconds)
            if late:
                line = f"no caption within {self._limits.seconds:g} s; try again later"
                raise ServeError(HTTPStatus.SERVICE_UNAVAILABLE, line, self._seconds * self.pending)
            for failure in filter(None, [job.outcome.exception() for job in jobs]):
                raise failure
            return [job.outcome.result() for job in jobs]
        finally:
            given_up = {job for job in jobs if job.outcome.cancel()}
            if given_up:
                self._waiting = deque(job for job in self._waiting if job not in given_up)

    async def _work(self) -> None:
        while True:
            await self._arrival.wait()
            await self._gather()
            batch = self._take()
            if not self._waiting:
                self._arrival.clear()
            if not batch:
                continue
            self._running = len(batch)
            begin = time.perf_counter()
            try:
                outcomes = await self._compute(batch)
            finally:
                self._running = 0
            seconds = time.perf_counter() - begin
            self._seconds += SMOOTHING * (seconds / len(batch) - self._seconds)
            self._observe(len(batch), seconds)
            for job, outcome in zip(batch, outcomes, strict=True):
                if job.outcome.done():  # its request has been given up
                    continue
                if isinstance(outcome, (Caption, CaptionerError)):
                    job.outcome.set_result(outcome)
                else:
                    job.outcome.set_exception(outcome)

    async def _gather(self) -> None:
        """Wait while pictures keep arriving, for some windows at most."""
        for _ in range(LONGEST_GATHERING):
            before = len(self._waiting)
            if before >= self._limits.batch or not self._limits.window:
                return
            await asyncio.sleep(self._limits.window)
            if len(self._waiting) <= before:
                return

    def _take(self) -> list[_Job]:
        """The first pictures that are to be captioned in the same way; others keep their places."""
        if not self._waiting:
            return []
        options = self._waiting[0].options
        size = self._size(options)
        batch: list[_Job] = []
        others: deque[_Job] = deque()
        for job in self._waiting:
            (batch if job.options == options and len(batch) < size else others).append(job)
        self._waiting = others
        return batch

    def _size(self, options: DecodingOptions) -> int:
        """Pictures that are captioned together: fewer of them where each has a wide beam, for the sake of memory."""
        width = max(options.beam_size * (1 + len(options.required_words)), options.num_captions)
        return max(1, int(self._limits.batch * min(1.0, USUAL_WIDTH / width)))

    async def _compute(self, batch: Sequence[_Job]) -> Sequence[Outcome | Exception]:
        """Captions a batch; where that fails as a whole, each picture by itself, so that one fails alone."""
        run = asyncio.get_running_loop().run_in_executor
        images = [job.image for job in batch]
        try:
            return await run(self._thread, self._stream, images, batch[0].options)
        except Exception as error:
            if len(batch) == 1:
                return [error]
        outcomes: list[Outcome | Exception] = []
        for image in images:
            try:
                outcomes += await run(self._thread, self._stream, [image], batch[0].options)
            except Exception as error:
                outcomes.append(error)
        return outcomes

    def _stream(self, images: Sequence[bytes], options: DecodingOptions) -> list[Outcome]:
        return list(self._captioner.stream(images, options, max(1, len(images))))
