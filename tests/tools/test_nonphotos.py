"""Pictures that are no photographs are the same each time, of every kind, and other ones in each part."""

from __future__ import annotations

import json
from pathlib import Path

import make_nonphotos
import plot_confidence
import pytest
from make_nonphotos import HELD_OUT, KINDS, main, write_nonphotos
from PIL import Image


def test_every_kind_is_written_and_can_be_read(tmp_path: Path) -> None:
    files = write_nonphotos(tmp_path, "test", len(KINDS + HELD_OUT))
    assert {file.name.split("-")[0] for file in files} == {kind.__name__ for kind in KINDS + HELD_OUT}
    for file in files:
        with Image.open(file) as picture:
            least, most = make_nonphotos.SIDES
            assert picture.convert("RGB").size == picture.size
            assert all(least / 2 < side <= most for side in picture.size), file.name
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_a_seed_gives_the_same_pictures_and_a_part_other_ones(tmp_path: Path) -> None:
    one, again, other, test = (
        [file.read_bytes() for file in write_nonphotos(tmp_path / name, part, count, seed)[:12]]
        for name, part, count, seed in (
            ("1", "fit", 12, 1),
            ("2", "fit", 12, 1),
            ("3", "fit", 12, 2),
            ("4", "test", 18, 1),
        )
    )
    assert one == again
    plain = 1  # two blank pictures may have one color
    assert len(set(one) & set(other)) <= plain
    assert len(set(one) & set(test)) <= plain


def test_what_is_asked_wrongly_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--pictures", "3"]) == 2
    assert "pictures is 3: give at least 12, one of each kind" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_curves_are_drawn_from_what_evaluate_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept: list[dict[str, float | None]] = [{"threshold": 0.2, "coverage": 1, "CHAIRi": 0.3, "CHAIRs": 0.4}]
    kept += [{"threshold": 0.9, "coverage": 0.1, "CHAIRi": None, "CHAIRs": 0.0}]
    found = {
        "calibration error": 0.04,
        "reliability": [{"low": 0.2, "high": 0.3, "captions": 9, "confidence": 0.25, "right": 0.3}],
        "usual": kept[0],
        "risk coverage": kept,
    }
    (tmp_path / "found.json").write_text(json.dumps({"confidence": found}))
    assert plot_confidence.main([str(tmp_path / "found.json"), str(tmp_path / "curves.png")]) == 0
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (990, 440)
    (tmp_path / "other.json").write_text("{}")
    assert plot_confidence.main([str(tmp_path / "other.json"), str(tmp_path / "none.png")]) == 2
    assert "other.json: holds no confidence; give what captioner evaluate" in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()
