"""Settings of C libraries, which they read from the environment when they are loaded."""

from __future__ import annotations

import os

import pytest

from captioner.utils.runtime import KERNELS, keep_few_kernels

VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def test_the_environment_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "7")
    keep_few_kernels()
    assert os.environ[VARIABLE] == "7"
    monkeypatch.delenv(VARIABLE)
    keep_few_kernels()
    assert os.environ[VARIABLE] == str(KERNELS)
    monkeypatch.delenv(VARIABLE)
