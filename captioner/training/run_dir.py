"""A training run's folder: it belongs to one run, and to one process at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.training.checkpointing import LAST, PREVIOUS

_LOCK = ".lock"


def refuse_to_overwrite(root: Path, file: str, resume: str | None, overwrite: bool) -> None:
    """Keep a run off the folder of another.

    Args:
        root: The run's folder.
        file: What the checkpoint is called that a run ends with.
        resume: The Lightning checkpoint that the run resumes from.
        overwrite: Whether another run may be lost.

    Raises:
        CaptionerError: The folder has a run, another than the one that is to continue.
    """
    is_its_own = resume is not None and root.resolve() in Path(resume).resolve().parents
    if any((root / name).exists() for name in (LAST, file)) and not (is_its_own or overwrite):
        raise CaptionerError(
            f"{root} has a run already: set resume to {root / LAST} to continue it, set overwrite to true to replace "
            "it, or choose another trainer.default_root_dir"
        )


def forget(root: Path, file: str) -> None:
    """Remove what a run that is written over could be taken for: its end, and what it could be resumed from."""
    for name in (LAST, PREVIOUS, file):
        (root / name).unlink(missing_ok=True)


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Keep a folder for this process, and remove what a killed one has left half written.

    Raises:
        CaptionerError: Another process writes a run there.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / _LOCK).open("w") as file:
        try:
            # Not `flock`, which processes that load images would hold on to when this one has been killed.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise CaptionerError(
                f"{root}: another run is being written there; wait until it has ended, or choose another "
                "trainer.default_root_dir"
            ) from None
        except OSError:  # a file system without locks
            pass
        for part in root.glob(".*.ckpt.*.part"):
            part.unlink()
        yield
