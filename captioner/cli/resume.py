"""Resuming a long captioning job."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from captioner.data.images import open_image
from captioner.errors import CaptionerError

_TOLERANCE = 0.05
"""Tolerance of a caption's log-probability between machines, in nats; other models differ by more."""


@dataclass(frozen=True)
class Rest:
    """The remaining work of an interrupted job.

    Attributes:
        names: Images to caption, in order: first repeated ones, then the remaining ones.
        again: Existing lines of the repeated images. They are captioned again, since bit-for-bit equal captions need
            the same batches, and to check that options and model are the same.
    """

    names: tuple[str, ...]
    again: tuple[Mapping[str, Any], ...] = ()


def what_is_left(names: Sequence[str], entries: Sequence[Mapping[str, Any]], batch_size: int) -> Rest:
    """Determine the remaining work from the requested images and the existing lines.

    Args:
        names: All images of the job, in order.
        entries: The lines of the file.
        batch_size: Images per batch.
    """
    done = Counter(_place(entry["image"]) for entry in entries)
    missing = []
    for name in names:
        if done[_place(name)]:
            done[_place(name)] -= 1
        else:
            missing.append(name)
    last_batch = (len(entries) - 1) // batch_size * batch_size if entries and batch_size > 0 else 0
    again = entries[last_batch:]
    return Rest((*(entry["image"] for entry in again), *missing), tuple(again))


def mended(entries: Sequence[Mapping[str, Any]]) -> list[int]:
    """Indices of lines with an error whose image is readable now."""
    return [index for index, entry in enumerate(entries) if "error" in entry and _can_be_read(entry["image"])]


def refuse_another_job(old: Mapping[str, Any], new: Mapping[str, Any], file: str) -> None:
    """Compare a repeated line with the existing one.

    Args:
        old: The existing line.
        new: The new line of the same image.
        file: The file's name, for the message.

    Raises:
        CaptionerError: The captions differ.
    """
    if "error" in old or "error" in new:  # the image was added or removed meanwhile
        return
    if not _alike(old, new):
        raise CaptionerError(
            f"{file}: was made with other options or another model (it has another caption of {new['image']}); "
            "--resume with the same, or name another file"
        )


def _alike(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if old.keys() != new.keys():
        return False
    before, now = ([each, *each.get("captions", ())] for each in (old, new))
    return len(before) == len(now) and all(map(_tells_the_same, before, now))


def _tells_the_same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    was = old.get("log_probability")
    return (
        old.get("caption") == new["caption"]
        and isinstance(was, float)
        and abs(was - new["log_probability"]) <= _TOLERANCE
    )


def _place(name: str) -> str:
    return os.path.abspath(name)


def _can_be_read(name: str) -> bool:
    try:
        open_image(name)
    except CaptionerError:
        return False
    return True
