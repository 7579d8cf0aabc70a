"""Going on with a long job of captioning: what is left to do, and whether it is still the same job."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from captioner.data.images import open_image
from captioner.errors import CaptionerError

_TOLERANCE = 0.05
"""Nats by which a caption's log-probability may differ between machines; other models differ by more."""


@dataclass(frozen=True)
class Rest:
    """What an interrupted job has left to do.

    Attributes:
        names: Photographs to caption, in order: first some again, then those that are still to come.
        again: Lines of the first of them that the file has. They are made anew, because captions are bit for bit those
            of an uninterrupted run only in the same batches, and to see that options and model are the same.
    """

    names: tuple[str, ...]
    again: tuple[Mapping[str, Any], ...] = ()


def what_is_left(names: Sequence[str], entries: Sequence[Mapping[str, Any]], batch_size: int) -> Rest:
    """Compare the photographs that were asked for with the lines that are there.

    Args:
        names: All photographs of the job, in order.
        entries: The lines of the file.
        batch_size: Photographs that are captioned together.
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
    """Places of lines that tell of an error with a photograph that can be read by now."""
    return [index for index, entry in enumerate(entries) if "error" in entry and _can_be_read(entry["image"])]


def refuse_another_job(old: Mapping[str, Any], new: Mapping[str, Any], file: str) -> None:
    """Hold a line that was made anew against the one that is there.

    Args:
        old: The line of the file.
        new: The one of this run, for the same photograph.
        file: The file's name, for the message.

    Raises:
        CaptionerError: They tell of different captions.
    """
    if "error" in old or "error" in new:  # the photograph has come or gone meanwhile
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
