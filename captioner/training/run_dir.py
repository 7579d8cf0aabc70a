"""A training run's folder, which belongs to one run, and to one process at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.training.checkpointing import LAST, PREVIOUS

_LOCK = ".lock"


def refuse_to_overwrite(root: Path, file: str, resume: str | None, overwrite: bool) -> None:
    """Refuse to overwrite another run by accident.

    Args:
        root: The run's folder.
        file: File name of the run's final checkpoint.
        resume: The Lightning checkpoint that the run resumes from.
        overwrite: Whether another run may be overwritten.

    Raises:
        CaptionerError: The folder has another run than the one to resume.
    """
    is_its_own = resume is not None and root.resolve() in Path(resume).resolve().parents
    if any((root / name).exists() for name in (LAST, file)) and not (is_its_own or overwrite):
        raise CaptionerError(
            f"{root} has a run already: set resume to {root / LAST} to continue it, set overwrite to true to replace "
            "it, or choose another trainer.default_root_dir"
        )


def forget(root: Path, file: str) -> None:
    """Remove an overwritten run's final and resumable checkpoints."""
    for name in (LAST, PREVIOUS, file):
        (root / name).unlink(missing_ok=True)


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Lock a folder for this process, and remove partial files of a killed one.

    Raises:
        CaptionerError: Another process is using the folder, or it cannot be written to.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / _LOCK).open("w")
    except OSError as error:
        raise CaptionerError(
            f"{root} cannot be written to ({error.strerror}); choose another folder as trainer.default_root_dir"
        ) from error
    with lock as file:
        try:
            # Not `flock`, which data loading processes would still hold after this one was killed.
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
