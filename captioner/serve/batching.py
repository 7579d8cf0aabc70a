"""A queue that batches images of several requests for one network.

Batched beam search is much faster than captioning one image at a time, so images that arrive within a few milliseconds
of each other, or while the network is busy, share a batch.
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
    from captioner.captioning import BaseCaptioner
    from captioner.decoding.options import DecodingOptions

Outcome: TypeAlias = "Caption | CaptionerError"

LONGEST_GATHERING = 8
"""Maximum number of windows to wait while images keep arriving."""

USUAL_WIDTH = 5
"""Maximum number of hypotheses per image in a full batch."""

SMOOTHING = 0.2
"""Weight of the latest batch in the moving average of the time per image."""


@dataclass(eq=False)
class _Job:
    image: bytes
    options: DecodingOptions
    outcome: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


def start_thread() -> ThreadPoolExecutor:
    """The one thread in which a network is loaded and runs.

    OpenMP, with which torch divides its work among the cores, keeps a team of threads for each thread that calls it.
    Several teams are more threads than cores, and then OpenMP no longer lets idle ones wait for work: a network that is
    loaded in one thread and used in another computes on one core.
    """
    return ThreadPoolExecutor(1, "captioner")


class Batcher:
    """The queue of the network. All methods must be called in one event loop; the network runs in its own thread.

    Args:
        captioner: The network.
        limits: Limits of queue, batch size and time.
        observe: Called with the size and duration in seconds of each batch.
        thread: Runs the network, and is shut down by `close`; the one that loaded it is fastest.
    """

    def __init__(
        self,
        captioner: BaseCaptioner,
        limits: Limits,
        observe: Callable[[int, float], None] = lambda size, seconds: None,
        thread: ThreadPoolExecutor | None = None,
    ) -> None:
        self._captioner = captioner
        self._limits = limits
        self._observe = observe
        self._waiting: deque[_Job] = deque()
        self._running = 0
        self._arrival = asyncio.Event()
        self._thread = thread or start_thread()
        self._worker: asyncio.Task[None] | None = None
        self._seconds = 0.1  # per image, until the first batch has been timed

    @property
    def pending(self) -> int:
        """Number of images that are waiting or being captioned."""
        return len(self._waiting) + self._running

    async def start(self) -> None:
        """Start captioning."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Wait for the current batch, and stop."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._thread.shutdown()

    async def caption(self, images: Sequence[bytes], options: DecodingOptions) -> list[Outcome]:
        """Caption images, batched with those of other requests.

        If cancelled, waiting images are removed from the queue.

        Args:
            images: Image files.
            options: How captions are written.

        Returns:
            For each image its caption, or the error if it is unreadable.

        Raises:
            ServeError: The queue is full, or the time limit was exceeded.
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
                if job.outcome.done():  # its request was cancelled
                    continue
                if isinstance(outcome, (Caption, CaptionerError)):
                    job.outcome.set_result(outcome)
                else:
                    job.outcome.set_exception(outcome)

    async def _gather(self) -> None:
        """Wait while images keep arriving, at most for some windows."""
        for _ in range(LONGEST_GATHERING):
            before = len(self._waiting)
            if before >= self._limits.batch or not self._limits.window:
                return
            await asyncio.sleep(self._limits.window)
            if len(self._waiting) <= before:
                return

    def _take(self) -> list[_Job]:
        """Take the first images with the same options from the queue; others keep their positions."""
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
        """The batch size: smaller for wide beams, to limit memory."""
        width = max(options.beam_size * (1 + len(options.required_words)), options.num_captions)
        return max(1, int(self._limits.batch * min(1.0, USUAL_WIDTH / width)))

    async def _compute(self, batch: Sequence[_Job]) -> Sequence[Outcome | Exception]:
        """Caption a batch; if that fails, caption each image separately, to isolate the failing one."""
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
