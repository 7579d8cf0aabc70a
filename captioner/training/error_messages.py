"""One-line messages for failures of Lightning and of other processes of a run."""

from __future__ import annotations

import multiprocessing
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import Profiler

from captioner.errors import CaptionerError

_LOADER = re.compile(r"DataLoader worker \(pid\S* [\d, ]+\) (?P<end>.*?)\.?\s*$", re.DOTALL)
_RAISED = f"{CaptionerError.__module__}.{CaptionerError.__qualname__}: "
"""Prefix of the message in a traceback."""
_FROM_ANOTHER_PROCESS = "Original Traceback"
_OPTIONS = ((Callback, "trainer.callbacks"), (Logger, "trainer.logger"), (Profiler, "trainer.profiler"))
"""Extensions that users may add to a run, by package."""


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Convert errors of torch and Lightning that the user can fix to CaptionerError.

    Raises:
        CaptionerError: Lightning, or a configured callback, logger or profiler, rejects the options; a data loading
            process was killed or found an unreadable image; another training process has ended.
        KeyboardInterrupt: Ctrl-C, which Lightning handles.
    """
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    except CaptionerError as error:
        # torch passes on errors of data loading processes with a traceback, whose last line has the message.
        raise CaptionerError(str(error).splitlines()[-1].removeprefix(_RAISED)) from error
    except MisconfigurationException as error:
        raise CaptionerError(f"train: {' '.join(str(error).split())}") from error
    except ValueError as error:
        if "val_check_interval" not in str(error):
            _refuse_what_failed(error)
            raise
        # Lightning checks it once the number of batches is known.
        raise CaptionerError(f"train: {' '.join(str(error).split('. ')[0].split())}; lower it") from error
    except RuntimeError as error:
        if loader := _LOADER.search(str(error)):
            _kill_loaders()
            raise CaptionerError(
                f"a process that loads images {loader['end'].splitlines()[0]}; if memory is short, lower data.workers "
                "or data.batch_size; resume the run to continue"
            ) from error
        if "parameters that were not used" in str(error):
            raise CaptionerError(
                "train: the CNN has parts that its grid does not pass, which processes wait for in vain; set "
                "trainer.strategy to ddp_find_unused_parameters_true"
            ) from error
        # Gloo has no own error class.
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            raise CaptionerError(
                "another process of this run has ended: its own message has the reason, or it was killed, as when "
                "memory is short; resume the run to continue"
            ) from error
        _refuse_what_failed(error)
        raise
    except Exception as error:
        _refuse_what_failed(error)
        raise


def _kill_loaders() -> None:
    """End the other data loading processes.

    One that waits for a lock of the queue, which the killed process held, would wait for ever; and since all ignore
    SIGTERM, by which torch and Python end them, so would this process.
    """
    for process in multiprocessing.active_children():
        process.kill()


def _refuse_what_failed(error: Exception) -> None:
    """Raise CaptionerError if an error comes from Lightning or from an extension."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    rooms = [frame.f_globals.get("__name__", "").split(".")[0] for frame in frames]
    theirs = next((place for place, room in enumerate(rooms) if room != "captioner"), len(rooms))
    if "captioner" in rooms[theirs:] or _FROM_ANOTHER_PROCESS in str(error) or isinstance(error, OSError):
        return
    reason = " ".join(str(error).split()) or type(error).__name__
    for frame in reversed(frames[theirs:]):
        part = frame.f_locals.get("self")
        for kind, option in _OPTIONS:
            if isinstance(part, kind) and not isinstance(error, torch.OutOfMemoryError):
                end = frames[-1].f_code
                raise CaptionerError(
                    f"train: {type(part).__name__} of {option} failed: {reason} ({type(error).__name__} in "
                    f"{os.path.basename(end.co_filename)}, {end.co_name}); set it otherwise, or leave it out"
                ) from error
    if rooms[-1] == "lightning":
        raise CaptionerError(f"train: {reason}") from error
