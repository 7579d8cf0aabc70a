"""Captions in ``captions.json``, in COCO's format: images and annotations (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from captioner.errors import CaptionerError
from captioner.sidecars.policy import Captioned
from captioner.sidecars.tables import CONFIDENCE, FILE_NAME, Table
from captioner.utils.files import regular_size

FORM = "coco"
FILE = "captions.json"
_OWN_ID = re.compile(r"(?:^|_)(\d{12})$")
"""COCO's own images have their id in their name: ``000000397133.jpg``, ``COCO_val2014_000000397133.jpg``."""


class Annotations:
    """Images and their captions.

    Args:
        content: The file's content.
        size_of: Returns width and height in pixels of an image by name.
    """

    written = None

    def __init__(self, content: bytes | None, size_of: Callable[[str], tuple[int, int] | None]) -> None:
        self._size_of = size_of
        self._content: dict[str, Any] = {"info": {}, "licenses": [], "images": [], "annotations": []}
        if content is not None:
            self._content = _parsed(content)
        self._ids = {image[FILE_NAME]: image["id"] for image in self._content["images"]}
        names = {number: name for name, number in self._ids.items()}
        self.texts: dict[str, str] = {}
        for annotation in self._content["annotations"]:
            if (name := names.get(annotation["image_id"])) is not None:
                self.texts.setdefault(name, annotation["caption"])

    def with_texts(self, texts: Mapping[str, str | None], captions: Mapping[str, Captioned]) -> bytes | None:
        """Return the file with other texts; None if no caption is left."""
        content = copy.deepcopy(self._content)
        images, annotations = content["images"], content["annotations"]
        first = {each["image_id"]: each for each in reversed(annotations)}
        ids, used = dict(self._ids), set(self._ids.values())
        last = max((each["id"] for each in annotations), default=0)
        gone: set[int] = set()
        for name, text in texts.items():
            if text is None:
                gone |= {ids[name]} if name in ids else set()
                continue
            if name not in ids:
                ids[name] = _new_id(name, used)
                used.add(ids[name])
                images.append(self._image(name, ids[name]))
            if ids[name] not in first:
                last += 1
                annotations.append({"id": last, "image_id": ids[name]})
                first[ids[name]] = annotations[-1]
            first[ids[name]] |= {"caption": text} | _facts(captions.get(name))
        annotations[:] = [each for each in annotations if each["image_id"] not in gone]
        images[:] = [each for each in images if each["id"] not in gone]
        return json.dumps(content, ensure_ascii=False).encode() + b"\n" if annotations else None

    def _image(self, name: str, number: int) -> dict[str, Any]:
        size = self._size_of(name)
        return {"id": number, FILE_NAME: name} | (dict(zip(("width", "height"), size, strict=True)) if size else {})


def target(folder: Path, pictures: Sequence[Path]) -> Table:
    """Open the file of a folder."""
    return Table(FORM, folder / FILE, pictures, lambda content: Annotations(content, lambda name: _size(folder / name)))


def _new_id(name: str, used: set[int]) -> int:
    own = _OWN_ID.search(Path(name).stem)
    if own and int(own.group(1)) not in used:
        return int(own.group(1))
    return max(used, default=0) + 1


def _size(picture: Path) -> tuple[int, int] | None:
    try:
        regular_size(picture)
        with Image.open(picture) as image:
            return image.size
    except Exception:  # Pillow's plug-ins raise almost anything for damaged files
        return None


def _facts(caption: Captioned | None) -> dict[str, float]:
    if caption is None:
        return {}
    return {"score": caption.log_probability} | ({} if caption.confidence is None else {CONFIDENCE: caption.confidence})


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        raise CaptionerError("is not JSON; fix it, or move it away") from None
    is_coco = (
        isinstance(parsed, dict)
        and all(isinstance(parsed.get(name), list) for name in ("images", "annotations"))
        and all(_has(each, id=int, file_name=str) for each in parsed["images"])
        and all(_has(each, id=int, image_id=int, caption=str) for each in parsed["annotations"])
    )
    if not is_coco:
        raise CaptionerError("has no captions in COCO's format; move it away")
    result: dict[str, Any] = parsed
    return result


def _has(entry: object, **kinds: type) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(name), kind) for name, kind in kinds.items())
