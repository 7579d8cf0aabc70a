"""Allow-list of the code that a training configuration may import.

A configuration names classes by ``class_path``, such as a logger's, which imports their package. Only packages on this
list are imported, so that a configuration from someone else cannot run arbitrary code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import jsonargparse

from captioner.errors import CaptionerError

_LIGHTNING = ("accelerators", "callbacks", "loggers", "plugins", "profilers", "strategies")
ALLOWED = (
    "captioner",
    "lightning.Callback",  # implied by a configuration that sets fields of a callback without naming a class
    *(f"lightning.pytorch.{part}" for part in _LIGHTNING),
    *(f"lightning.fabric.{part}" for part in _LIGHTNING),
    # Not all of torch: torch.hub runs code that it downloads, torch.load unpickles.
    *(f"torch.{part}" for part in ("distributed.algorithms", "distributed.fsdp", "nn", "optim", "profiler")),
)
"""Packages and modules whose classes a configuration may name."""

OPTION = "--allow_package"

_REFUSED = re.compile(r"Importing '(?P<path>[^']+)' is not allowed")
"""jsonargparse's message for a path that is not on the list."""


@contextmanager
def importing_only(packages: Sequence[str]) -> Iterator[None]:
    """Let configurations name classes of `ALLOWED` and of further packages, for the whole process.

    Args:
        packages: Names of packages or modules; everything below them is allowed, too.

    Raises:
        CaptionerError: A name is not that of a package.
    """
    for name in packages:
        if not all(part.isidentifier() for part in name.split(".")) or name.split(".")[0] == "jsonargparse":
            raise CaptionerError(f"{OPTION} {name!r} is not a package that can be allowed; write its name, as in a.b")
    jsonargparse.set_parsing_settings(
        import_path_denylist=["*"],
        import_path_allowlist=[*ALLOWED, *packages],
        instantiate_subclass_spec_in_any=False,
    )
    try:
        yield
    finally:
        further = [name for name in packages if name not in ALLOWED]
        jsonargparse.set_parsing_settings(import_path_denylist=further)


def refused_import(message: str) -> str | None:
    """Extract the refused path from an error of jsonargparse, if there is one."""
    found = _REFUSED.search(message)
    return found["path"] if found else None
