"""A self-contained HTML document: template, style, script and data in one file that asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib import resources

_FIELD = re.compile(r"\{\{(\w+)\}\}")

_UNSAFE = {character: f"\\u{ord(character):04x}" for character in "<>&"}
"""What could end the script element that the JSON stands in, spelled as JSON allows."""


def render(template: str, **fields: str) -> str:
    """Fill a template of the folder ``web``.

    The style and the script go in as they are; the document's content security policy names their hashes, so that no
    other script can run even where a text were to slip through unescaped.

    Args:
        template: Its name, which its script has too.
        **fields: HTML for each ``{{field}}`` of the template; `escape` and `to_json` make it from text and data.

    Returns:
        The document.
    """
    web = resources.files("captioner.visualize") / "web"
    style, script = ((web / file).read_text(encoding="utf-8") for file in ("style.css", f"{template}.js"))
    fields |= {"style": style, "script": script, "style_hash": _hash(style), "script_hash": _hash(script)}
    document = (web / f"{template}.html").read_text(encoding="utf-8")
    # In one pass: a caption that reads {{script}} stays what it is.
    return _FIELD.sub(lambda match: fields[match[1]], document)


def escape(text: str) -> str:
    """Text for the content of an element or for an attribute in quotes."""
    # File names that are no Unicode come with half surrogate pairs, which no file can be written with.
    return html.escape(text.encode("utf-8", "replace").decode())


def to_json(data: object) -> str:
    """Data for a script element; all of it ASCII, so U+2028 and half surrogate pairs are escaped as well."""
    return re.sub("[<>&]", lambda match: _UNSAFE[match[0]], json.dumps(data, allow_nan=False))


def to_base64(content: bytes) -> str:
    """Bytes as ASCII."""
    return base64.b64encode(content).decode("ascii")


def _hash(text: str) -> str:
    return f"sha256-{to_base64(hashlib.sha256(text.encode()).digest())}"
