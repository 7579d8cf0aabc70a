"""The web page for users, and the documentation of the interfaces; both are self-contained."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import FileResponse, HTMLResponse

from captioner.errors import CaptionerError
from captioner.serve.failures import ServeError
from captioner.utils.caching import memoized
from captioner.visualize.html_template import escape, to_base64
from captioner.visualize.overlay import palette

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

PAGE = "/page.html"
PAGE_HEADERS = {**HEADERS, "Content-Security-Policy": "frame-ancestors 'none'", "Cache-Control": "no-cache"}
"""The page that captions in the browser has a stricter policy of its own, which allows its inline script by hash."""

LINK = '<a href="page.html">Caption in this browser: pictures are not sent to the server</a>'
GENERATOR = '<meta name="generator" content="captioner">'
"""By which pages of ``captioner export`` are recognized."""

_CURE = "make a page with captioner export --output captioner.html"

PATHS = ("/", "/docs", "/openapi.json", PAGE)
"""Paths of the pages, and of the OpenAPI schema."""

FILES = {
    "style.css": ("captioner.visualize", "text/css"),
    "page.js": ("captioner.visualize", "text/javascript"),
    "serve.css": ("captioner.serve", "text/css"),
    "serve.js": ("captioner.serve", "text/javascript"),
}
"""Files of the pages: the package whose folder ``web`` has the file, and its media type."""


def make_router(app: FastAPI, page: Path | None = None) -> APIRouter:
    """Build the routes of the pages.

    Args:
        app: The application whose interfaces are documented.
        page: A page of ``captioner export`` that captions in the browser, if one is to be offered.

    Raises:
        CaptionerError: The page cannot be read, or is another file.
    """
    router = APIRouter(include_in_schema=False)
    fields = {"palette": to_base64(palette().tobytes()), "page": ""}
    if page is not None:
        _check(page)
        fields["page"] = LINK

        @router.get(PAGE)
        async def in_browser() -> FileResponse:
            """The page that captions in the browser."""
            return FileResponse(page, media_type="text/html; charset=utf-16", headers=PAGE_HEADERS)

    @router.get("/")
    async def index() -> HTMLResponse:
        """The web page."""
        document = _read("captioner.serve", "index.html")
        for name, value in fields.items():
            document = document.replace(f"{{{{{name}}}}}", value)
        return HTMLResponse(document, headers=HEADERS)

    @router.get("/web/{name}")
    async def web(name: str) -> Response:
        """A file of the pages."""
        if name not in FILES:
            raise ServeError(404, f"/web/{name} is not served here")
        package, kind = FILES[name]
        headers = {**HEADERS, "Cache-Control": "no-cache"}
        return Response(_read(package, name), media_type=kind, headers=headers)

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        """Documentation of the interfaces, from the same source as /openapi.json."""
        return HTMLResponse(_document(app.openapi()), headers=HEADERS)

    return router


def _check(page: Path) -> None:
    try:
        with page.open("rb") as file:
            head = file.read(4096).decode("utf-16", "ignore")
    except OSError as error:
        raise CaptionerError(f"page {page}: {error.strerror}; {_CURE}") from error
    if GENERATOR not in head:
        raise CaptionerError(f"page {page}: does not caption in a browser; {_CURE}")


@memoized()
def _read(package: str, name: str) -> str:
    return (resources.files(package) / "web" / name).read_text(encoding="utf-8")


def _document(schema: dict[str, Any]) -> str:
    """Format the schema as HTML."""
    operations = [
        _operation(method, path, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    return _read("captioner.serve", "docs.html").replace("{{operations}}", "\n".join(operations))


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>"]
    parts += [f"<p>{escape(text)}</p>" for text in operation.get("description", "").split("\n\n") if text]
    if parameters := operation.get("parameters"):
        rows = "".join(_parameter(each) for each in parameters)
        parts.append(
            "<details><summary>Parameters</summary><table><thead><tr><th scope=col>Name<th scope=col>Type"
            f"<th scope=col>Default</tr></thead><tbody>{rows}</tbody></table></details>"
        )
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        text = escape(json.dumps(body["schema"], indent=2))
        parts.append(f"<details><summary>Body: <code>{escape(kind)}</code></summary><pre>{text}</pre></details>")
    return "".join(parts) + "</section>"


def _parameter(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    kind = escape(schema.get("description", schema.get("type", "")))
    default = escape(json.dumps(schema["default"])) if "default" in schema else ""
    return f"<tr><th scope=row><code>{escape(parameter['name'])}</code><td>{kind}<td>{default}</tr>"
