"""The shards of a job, one a line of a file in its output: listed once, and found there by all processes.

The first line tells what the captions depend on, so that a job goes on as it began.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from captioner.errors import CaptionerError
from captioner.ray.addresses import file_system, join, readable, writing
from captioner.ray.inputs import Shard

NAME = ".plan.jsonl"
_MARK = b'{"made_with": '


@dataclass(frozen=True)
class Plan:
    """A job that was planned.

    Attributes:
        made_with: What its captions depend on.
        starts: Where the line of each shard begins, and the last ends: int64, shape (shards + 1,).
    """

    made_with: dict[str, Any]
    starts: np.ndarray

    @property
    def count(self) -> int:
        """The number of shards."""
        return len(self.starts) - 1


def write_plan(folder: str, made_with: dict[str, Any], shards: Iterable[Shard]) -> None:
    """Write the plan of a job; nothing is left where the listing of the shards fails.

    Args:
        folder: The job's output.
        made_with: JSON values.
        shards: The shards.

    Raises:
        CaptionerError: A shard cannot be listed, or the file cannot be written.
    """
    with writing(join(folder, NAME)) as file:
        file.write(_line({"made_with": made_with}))
        file.writelines(map(_line, shards))


def read_plan(folder: str) -> Plan | None:
    """Read the plan of a job; None where there is none.

    Raises:
        CaptionerError: It cannot be read, or is no plan.
    """
    address = join(folder, NAME)
    with readable(address):
        system, path = file_system(address)
        if not system.exists(path):
            return None
        with system.open(path, "rb") as file:
            first = file.readline()
            sizes = [len(first), *map(len, file)]
    try:
        if not first.startswith(_MARK):
            raise ValueError("it begins with something else")
        made_with = json.loads(first)["made_with"]
    except ValueError as error:
        raise CaptionerError(f"{address}: is not the plan of a job ({error}); name another folder") from error
    return Plan(made_with, np.cumsum(sizes, dtype=np.int64))


def read_line(folder: str, start: int, end: int) -> Shard:
    """Read a shard of a plan.

    Args:
        folder: The job's output.
        start: Where its line begins, as in `Plan.starts`.
        end: Where it ends.

    Raises:
        CaptionerError: The plan cannot be read.
    """
    address = join(folder, NAME)
    with readable(address):
        system, path = file_system(address)
        shard: Shard = json.loads(system.cat_file(path, start=start, end=end))
        return shard


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"
