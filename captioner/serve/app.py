"""The ASGI application: all interfaces of a captioner, behind the guards."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from captioner import __version__
from captioner.decoding.options import DecodingOptions
from captioner.serve import native, ollama_api, openai_api, pages
from captioner.serve.failures import add_handlers
from captioner.serve.guards import LimitBodies, RequireToken
from captioner.serve.limits import Limits
from captioner.serve.metrics import CountRequests
from captioner.serve.requests import limited
from captioner.serve.service import Service

if TYPE_CHECKING:
    from captioner.captioning import BaseCaptioner

NAME = "captioner"
"""Default name of the model."""


def create_app(
    captioner: BaseCaptioner,
    *,
    name: str = NAME,
    options: DecodingOptions | None = None,
    limits: Limits | None = None,
    token: str | None = None,
    origins: Sequence[str] = (),
    page: str | os.PathLike[str] | None = None,
    thread: ThreadPoolExecutor | None = None,
) -> FastAPI:
    """Build the application that serves a captioner.

    Args:
        captioner: The network; only its public interface is used.
        name: Name of the model for clients.
        options: Default decoding options of requests.
        limits: Limits of requests.
        token: The required bearer token; None requires none.
        origins: Origins that may access this server from scripts (CORS), such as ``https://photos.example``.
        page: A page of ``captioner export`` to offer, which captions in the browser; see `captioner.export.page`.
        thread: The thread that loaded the captioner, if that is another one; see `captioner.serve.batching.Batcher`.

    Returns:
        The ASGI application.

    Raises:
        CaptionerError: The options exceed the limits, or the page is none.
    """
    service = Service(captioner, name, limited(options or DecodingOptions()), limits or Limits(), thread)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.batcher.start()
        yield
        await service.batcher.close()

    # FastAPI's own documentation pages load scripts from other servers.
    app = FastAPI(title="captioner", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    for interface in (native, ollama_api, openai_api):
        app.include_router(interface.make_router(service))
    app.include_router(pages.make_router(app, None if page is None else Path(page)))
    add_handlers(app)
    # The middleware added last handles a request first.
    app.add_middleware(LimitBodies, limits=service.limits)
    if token is not None:
        app.add_middleware(RequireToken, token=token)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After"],
        )
    app.add_middleware(CountRequests, metrics=service.metrics, paths={*app.openapi()["paths"], *pages.PATHS})
    return app
