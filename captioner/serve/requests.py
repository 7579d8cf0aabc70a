"""Parsing of images and decoding options in requests."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from captioner.data.images import BYTES_NAME
from captioner.decoding.options import DecodingOptions
from captioner.errors import CaptionerError
from captioner.serve.failures import ServeError
from captioner.serve.limits import LARGEST_OPTIONS

Model = TypeVar("Model", bound=BaseModel)

ONE, SEVERAL = "image", "images"
"""Form fields for one image, or several."""

# The parser logs errors in forms, which Python prints on standard error if there is no handler.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


class Picture(NamedTuple):
    """An image of a request.

    Attributes:
        name: Its name for the client.
        content: The content of its file.
    """

    name: str
    content: bytes


@dataclass(frozen=True)
class Asked:
    """A parsed request to `POST /caption`.

    Attributes:
        pictures: The images.
        several: Whether the answer is a list.
        fields: All other form fields and query parameters.
    """

    pictures: tuple[Picture, ...]
    several: bool
    fields: Mapping[str, str]


class _InMemory(MultiPartParser):
    """Never spools to disk: the body is limited, and a container may have a read-only file system."""

    spool_max_size = 0  # no size


async def read_upload(request: Request, most: int) -> Asked:
    """Read the body of ``POST /caption``: a form, or an image file.

    Args:
        request: The request.
        most: Maximum number of images.

    Raises:
        ServeError: It has no image, too many, or is malformed.
    """
    fields = dict(request.query_params)
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return await _read_form(request, fields, most)
    content = await request.body()
    if not content:
        line = f"the request has no image; send an image file as the body, or in a form as {ONE}"
        raise ServeError(HTTPStatus.BAD_REQUEST, line)
    return Asked((Picture("image", content),), False, fields)


async def _read_form(request: Request, fields: dict[str, str], most: int) -> Asked:
    parser = _InMemory(request.headers, _body(request), max_files=most)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise too_many(most) from None
        line = f"the form cannot be read: {error.message}"
        raise ServeError(HTTPStatus.BAD_REQUEST, line) from None
    pictures = []
    names = []
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            fields[name] = value
        elif name not in (ONE, SEVERAL):
            line = f"the form has a file as {name!r}; send a picture as {ONE}, or several as {SEVERAL}"
            raise ServeError(HTTPStatus.BAD_REQUEST, line)
        else:
            pictures.append(Picture(value.filename or "image", await value.read()))
            names.append(name)
    for name in (ONE, SEVERAL):
        if name in fields:
            line = f"{name} is a text; send the content of an image file (with curl: -F {name}=@photo.jpg)"
            raise ServeError(HTTPStatus.BAD_REQUEST, line)
    if not pictures:
        line = f"the form has no image; send one as {ONE}, or several as {SEVERAL}"
        raise ServeError(HTTPStatus.BAD_REQUEST, line)
    if names.count(ONE) > 1 or len(set(names)) > 1:
        line = f"the form has {len(names)} pictures; send several as {SEVERAL}"
        raise ServeError(HTTPStatus.BAD_REQUEST, line)
    return Asked(tuple(pictures), names[0] == SEVERAL, fields)


async def _body(request: Request) -> AsyncGenerator[bytes, None]:
    yield await request.body()


def too_many(most: int) -> ServeError:
    """The error for too many images."""
    return ServeError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request may hold {most} pictures; send fewer")


async def read_json(request: Request, model: type[Model]) -> Model:
    """Parse JSON regardless of the content type, since curl's ``-d`` sends that of a form.

    Raises:
        pydantic.ValidationError: It is not JSON, or does not match the schema.
    """
    return model.model_validate_json(await request.body())


def from_base64(text: object) -> bytes:
    """Decode a base64 image, with or without ``data:image/…;base64,`` before it.

    Raises:
        ServeError: It is a URL, a path, or not base64.
    """
    if not isinstance(text, str):
        raise ServeError(HTTPStatus.BAD_REQUEST, f"a picture is {type(text).__name__}; send its bytes as base64 text")
    scheme, colon, rest = text[:2048].partition(":")
    if colon and scheme.lower() != "data":
        line = f"pictures are never fetched from an address ({scheme}:…); send the bytes of the picture as base64"
        raise ServeError(HTTPStatus.BAD_REQUEST, line)
    if colon:
        head, comma, _ = rest.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            line = "a data address holds no base64; send data:image/jpeg;base64,… or the base64 alone"
            raise ServeError(HTTPStatus.BAD_REQUEST, line)
        text = text[text.index(",") + 1 :]
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        line = "a picture is no base64; send the bytes of an image file, encoded as base64"
        raise ServeError(HTTPStatus.BAD_REQUEST, line) from None
    if not content:
        raise ServeError(HTTPStatus.BAD_REQUEST, "a picture is empty; send the bytes of an image file as base64")
    return content


def read_options(fields: Mapping[str, str], defaults: DecodingOptions) -> DecodingOptions:
    """Parse decoding options from strings, such as form fields.

    Args:
        fields: Names and values of fields of `DecodingOptions`; words are separated by commas.
        defaults: Default options.

    Raises:
        CaptionerError: An option is unknown, has an invalid value, or exceeds the limits.
    """
    known = DecodingOptions.__dataclass_fields__
    values: dict[str, Any] = {}
    for name, text in fields.items():
        if name not in known:
            raise CaptionerError(f"there is no option {name!r}; choose from maps, {', '.join(known)}")
        values[name] = _value(name, text, known[name].default)
    return limited(replace(defaults, **values))


def limited(options: DecodingOptions) -> DecodingOptions:
    """Check options against the limits.

    Raises:
        CaptionerError: They exceed the limits.
    """
    for name, most in LARGEST_OPTIONS.items():
        value = getattr(options, name)
        size = len(value) if isinstance(value, tuple) else value
        if size > most:
            raise CaptionerError(f"{name} is {size}; this server allows at most {most}")
    return options


def read_flag(name: str, text: str) -> bool:
    """Parse a Boolean.

    Raises:
        CaptionerError: It is neither true nor false.
    """
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise CaptionerError(f"{name} is {text!r}; it must be true or false")


def name_picture(error: CaptionerError, name: str) -> str:
    """Format an image's error with its name for the client."""
    return f"{name}: {str(error).removeprefix(f'{BYTES_NAME}: ')}"


def _value(name: str, text: str, default: object) -> object:
    if isinstance(default, bool):
        return read_flag(name, text)
    if isinstance(default, tuple):
        return tuple(word.strip() for word in text.split(",") if word.strip())
    if isinstance(default, str):
        return text
    kind, rule = (int, "a whole number") if isinstance(default, int) else (float, "a number")
    try:
        return kind(text)
    except ValueError:
        raise CaptionerError(f"{name} is {text!r}; it must be {rule}") from None


def option_names() -> Iterable[tuple[str, object]]:
    """Decoding options with their defaults."""
    return ((name, field.default) for name, field in DecodingOptions.__dataclass_fields__.items())
