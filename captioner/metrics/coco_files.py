"""COCO's annotation and result files, with checks against everything that would silently change scores."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from captioner.errors import CaptionerError

Id = int | str


def read_references(path: Path) -> dict[Id, list[str]]:
    """Read an annotation file, ``{"annotations": [{"image_id", "caption"}, …]}``.

    Args:
        path: The file.

    Returns:
        The captions of each image; images and captions in the order of the file.

    Raises:
        CaptionerError: The file cannot be read or has another format, or a caption contains a control character.
    """
    content = _read(path)
    if not isinstance(content, dict) or "annotations" not in content:
        raise CaptionerError(f"{path}: has no annotations; give a COCO caption annotation file")
    references: dict[Id, list[str]] = {}
    listed = content.get("images", [])
    # The official code processes images in this order, and the order can change tokens.
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and _is_id(entry.get("id")):
            references[entry["id"]] = []
    for image, caption in _captions(path, content["annotations"]):
        references.setdefault(image, []).append(caption)
    references = {image: captions for image, captions in references.items() if captions}
    if not references:
        raise CaptionerError(f"{path}: holds no caption; give a COCO caption annotation file")
    return references


def read_results(path: Path) -> dict[Id, str]:
    """Read a result file, ``[{"image_id", "caption"}, …]``, with one caption per image.

    Args:
        path: The file.

    Raises:
        CaptionerError: The file cannot be read or has another format, an image has two captions, or a caption contains
            a control character.
    """
    results: dict[Id, str] = {}
    for image, caption in _captions(path, _read(path)):
        if image in results:
            raise CaptionerError(f"{path}: image {image!r} has two captions; keep one")
        results[image] = caption
    if not results:
        raise CaptionerError(f"{path}: holds no caption; give COCO's result format")
    return results


def align(
    results: dict[Id, str], references: dict[Id, list[str]], subset: bool, path: Path
) -> tuple[dict[Id, str], dict[Id, list[str]]]:
    """Align results and references: the same images, in the order of the references.

    Args:
        results: The caption of each image.
        references: The references of each image.
        subset: Whether results may cover only a part of the images with references.
        path: The result file, for messages.

    Raises:
        CaptionerError: The image of a caption has no reference, or an image has no caption and ``subset`` is false.
    """
    extra = [image for image in results if image not in references]
    if extra:
        raise CaptionerError(
            f"{path}: image {extra[0]!r}{_more(extra)} has no reference; take it out, or give the annotations of its "
            "images"
        )
    missing = [image for image in references if image not in results]
    if missing and not subset:
        raise CaptionerError(
            f"{path}: image {missing[0]!r}{_more(missing)} has no caption; caption all {len(references)} images, or "
            "score the others alone with --subset"
        )
    kept = [image for image in references if image in results]
    return {image: results[image] for image in kept}, {image: references[image] for image in kept}


def _more(images: list[Id]) -> str:
    return f" (and {len(images) - 1} more)" if len(images) > 1 else ""


def _read(path: Path) -> Any:  # noqa: ANN401 (whatever JSON holds)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CaptionerError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise CaptionerError(f"{path}: is no UTF-8 at byte {error.start:,}; convert it to UTF-8") from error
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise CaptionerError(f"{path}: is no JSON: {reason}; give COCO's format") from error


def _captions(path: Path, entries: Any) -> Iterator[tuple[Id, str]]:  # noqa: ANN401 (whatever JSON holds)
    if not isinstance(entries, list):
        raise CaptionerError(f"{path}: holds no list of captions; give COCO's format")
    for number, entry in enumerate(entries):
        image = entry.get("image_id") if isinstance(entry, dict) else None
        caption = entry.get("caption") if isinstance(entry, dict) else None
        if not _is_id(image) or not isinstance(caption, str):
            raise CaptionerError(f"{path}: entry {number} has no image_id with a caption; give COCO's format")
        if not caption.isprintable():
            _refuse_control_characters(path, image, caption)
        yield image, caption


def _is_id(value: object) -> TypeGuard[Id]:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _refuse_control_characters(path: Path, image: Id, caption: str) -> None:
    """Refuse control characters but whitespace, which the tokenizer treats as spaces; others are invisible mistakes."""
    for character in caption:
        if unicodedata.category(character) in ("Cc", "Cs") and not character.isspace():
            raise CaptionerError(
                f"{path}: the caption of image {image!r} holds the control character U+{ord(character):04X}; remove it"
            )
