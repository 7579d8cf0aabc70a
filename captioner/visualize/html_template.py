"""Self-contained HTML documents: template, style, script and data in one file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib import resources

_FIELD = re.compile(r"\{\{(\w+)\}\}")

_UNSAFE = {character: f"\\u{ord(character):04x}" for character in "<>&"}
"""JSON escapes of characters that could end the enclosing script element."""


def render(template: str, package: str = "captioner.visualize", **fields: str) -> str:
    """Fill a template of a package's folder ``web``.

    Style and script are inserted unchanged; the document's content security policy lists their hashes, so that no other
    script can run even if a text was not escaped.

    Args:
        template: Its name, which is also its script's.
        package: Where it is.
        **fields: HTML for each ``{{field}}`` of the template; `escape` and `to_json` make it from text and data.

    Returns:
        The document.
    """
    web = resources.files(package) / "web"
    style, script = ((web / file).read_text(encoding="utf-8") for file in ("style.css", f"{template}.js"))
    fields |= {"style": style, "script": script, "style_hash": _hash(style), "script_hash": _hash(script)}
    document = (web / f"{template}.html").read_text(encoding="utf-8")
    # In one pass, so that a caption "{{script}}" is not replaced.
    return _FIELD.sub(lambda match: fields[match[1]], document)


def escape(text: str) -> str:
    """Escape text for an element's content or a quoted attribute."""
    # File names that are not Unicode have lone surrogates, which cannot be encoded.
    return html.escape(text.encode("utf-8", "replace").decode())


def to_json(data: object) -> str:
    """Encode data for a script element, as ASCII, which also escapes U+2028 and lone surrogates."""
    return re.sub("[<>&]", lambda match: _UNSAFE[match[0]], json.dumps(data, allow_nan=False))


def to_base64(content: bytes) -> str:
    """Encode bytes as ASCII."""
    return base64.b64encode(content).decode("ascii")


def _hash(text: str) -> str:
    return f"sha256-{to_base64(hashlib.sha256(text.encode()).digest())}"
