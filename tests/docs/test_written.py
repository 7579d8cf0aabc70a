"""The pages that tools write are what the tools would write now."""

from __future__ import annotations

from pathlib import Path

import pytest
import write_cli_reference
import write_model_card
import write_results

from captioner.cli import VERBS

README = Path(__file__).parents[2] / "README.md"
LARGEST_README = 7000
"""Bytes."""


@pytest.fixture(scope="module")
def reference() -> str:
    return write_cli_reference.reference()


def test_the_command_line_reference_is_fresh(reference: str) -> None:
    # Python's versions wrap a usage line at other words.
    found = write_cli_reference.PAGE.read_text(encoding="utf-8").split()
    assert found == reference.split(), "stale: python tools/docs/write_cli_reference.py writes it"


def test_the_reference_has_every_command(reference: str) -> None:
    for verb in VERBS:
        assert f"\n## captioner {verb}\n\n```text\nusage: captioner {verb}" in reference or verb == "train"
    assert "--model.decoder.cell" in reference


def test_the_model_card_is_fresh() -> None:
    found = write_model_card.PAGE.read_text(encoding="utf-8")
    assert found == write_model_card.card(), "stale: python tools/docs/write_model_card.py writes it"


def test_the_readme_shows_what_the_first_command_prints() -> None:
    text = README.read_text(encoding="utf-8")
    shown = text.partition(write_results.BEGIN_PRINTED)[2].partition(write_results.END_PRINTED)[0]
    assert shown == write_results.printed(), "stale: python tools/embedded/write_results.py writes it"


def test_the_readme_fits_a_page() -> None:
    assert len(README.read_bytes()) <= LARGEST_README
