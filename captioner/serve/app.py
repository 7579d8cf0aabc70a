"""The application: all interfaces of one captioner, behind the guards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
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
    from captioner.pipeline import Captioner

NAME = "captioner"
"""What clients call the model, unless told otherwise."""


def create_app(
    captioner: Captioner,
    *,
    name: str = NAME,
    options: DecodingOptions | None = None,
    limits: Limits | None = None,
    token: str | None = None,
    origins: Sequence[str] = (),
) -> FastAPI:
    """Make the application that serves a captioner.

    Args:
        captioner: The network; only its public interface is used.
        name: What clients call it.
        options: How captions are written unless a request says otherwise.
        limits: What requests may ask.
        token: The bearer token that requests have to carry; None asks for none.
        origins: Sites whose scripts may ask this server (CORS), such as ``https://photos.example``.

    Returns:
        The ASGI application.

    Raises:
        CaptionerError: The options ask for more than is served.
    """
    service = Service(captioner, name, limited(options or DecodingOptions()), limits or Limits())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.batcher.start()
        yield
        await service.batcher.close()

    # FastAPI's own pages of documentation load scripts from elsewhere.
    app = FastAPI(title="captioner", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    for interface in (native, ollama_api, openai_api):
        app.include_router(interface.make_router(service))
    app.include_router(pages.make_router(app))
    add_handlers(app)
    # The last one added is the first that a request meets.
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
