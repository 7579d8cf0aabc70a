"""Prometheus metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Upper bounds of the histograms' buckets."""

ELSEWHERE = "other"
"""Label of all other paths."""


class Metrics:
    """Counters and histograms of one server.

    Args:
        pending: Returns the number of images that are waiting or being captioned.
    """

    def __init__(self, pending: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "captioner_requests", "Requests answered.", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "captioner_request_seconds",
            "Seconds from the start of a request to the end of its answer.",
            ("path",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._pictures = Counter(
            "captioner_pictures", "Pictures by outcome: captioned or failed.", ("outcome",), registry=self._registry
        )
        self._batches = Histogram(
            "captioner_batch_pictures", "Pictures captioned together.", buckets=SIZES, registry=self._registry
        )
        self._batch_seconds = Histogram(
            "captioner_batch_seconds", "Seconds that a batch took.", buckets=SECONDS, registry=self._registry
        )
        queue = Gauge("captioner_queue_pictures", "Pictures that wait or are being captioned.", registry=self._registry)
        queue.set_function(pending)

    def text(self) -> bytes:
        """All values in Prometheus' text format."""
        return generate_latest(self._registry)

    def observe_batch(self, size: int, seconds: float) -> None:
        """Count a batch."""
        self._batches.observe(size)
        self._batch_seconds.observe(seconds)

    def count_pictures(self, captioned: int, failed: int) -> None:
        """Count the images of a request."""
        self._pictures.labels("captioned").inc(captioned)
        self._pictures.labels("failed").inc(failed)

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)


class CountRequests:
    """Counts requests by path and status, and measures their duration.

    Args:
        app: The application.
        metrics: The metrics.
        paths: The labeled paths; all others share one label, so that clients cannot create new series.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Container[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR
        begin = time.perf_counter()

        async def count(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, count)
        finally:
            path = scope["path"] if scope["path"] in self._paths else ELSEWHERE
            self._metrics.count_request(path, status, time.perf_counter() - begin)
