"""Virtual environments in which tests try the installed package, away from its source."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALLATION = 900
"""Seconds that pip may take, on a machine with much else to do."""
COMMAND = 120
"""Seconds that a command may take."""


class Environment:
    """A virtual environment with pip alone.

    Args:
        folder: Where it is made.

    Attributes:
        source: A copy of the package, to be installed: the build leaves files beside what it builds.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "environment"
        self.python = str(self.folder / "bin" / "python")
        self.source = folder / "source"
        shutil.copytree(ROOT / "captioner", self.source / "captioner", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, self.source)
        subprocess.run([sys.executable, "-m", "venv", str(self.folder)], check=True, timeout=INSTALLATION)

    def install(self, *arguments: str) -> None:
        """Runs ``pip install``; skips the test where no package index can be reached."""
        command = [self.python, "-m", "pip", "install", "--quiet", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLATION)
        if "No matching distribution" in done.stderr or "Connection" in done.stderr:
            pytest.skip(f"no package index can be reached: {done.stderr.splitlines()[-1]}")
        assert done.returncode == 0, done.stderr

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a program of the environment, such as ``captioner``, away from the source."""
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        line = [str(self.folder / "bin" / command[0]), *command[1:]]
        return subprocess.run(line, capture_output=True, text=True, timeout=COMMAND, cwd=self.folder, env=variables)
