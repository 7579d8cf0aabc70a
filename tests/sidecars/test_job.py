"""Jobs that end at the worst moment: the manifest tells of a file that was not replaced any more."""

from __future__ import annotations

from pathlib import Path

import pytest
from readers import MAKER, picture, save

from captioner.sidecars.forms import FORMS, OF_FOLDERS, OF_PICTURES
from captioner.sidecars.job import Job
from captioner.sidecars.manifest import NAME
from captioner.sidecars.policy import Captioned, Policy
from captioner.sidecars.survey import Wish
from captioner.sidecars.targets import Row
from captioner.sidecars.undo import take_back
from captioner.sidecars.xmp_files import NAMES

ALL = (*OF_PICTURES, *OF_FOLDERS, "alt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, end in enumerate(("jpg", "png", "webp", "tif")):
        save(tmp_path / f"{number}.{end}", picture(), False)
    (tmp_path / "0.txt").write_text("my words")
    (tmp_path / "page.html").write_text("<img src=0.jpg>")
    return tmp_path


def run(folder: Path, text: str, mode: str = "append") -> list[Row]:
    """Writes captions that begin with a text, in all forms."""
    rows: list[Row] = []
    policy = Policy(mode)  # type: ignore[arg-type]
    with Job(Wish([folder], ALL, NAMES[0]), policy, MAKER, text, False, rows.append) as job:
        for path in job.wanted():
            job.take(Captioned(f"{text} {path.stem}", -1.0, 0.5))
        job.finish()
    return rows


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != NAME}


def ends_early(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    """A run that ends when the manifest is written and nothing else is."""
    before = state(folder)
    with monkeypatch.context() as patch:
        patch.setattr("captioner.sidecars.job._Pending.write", lambda pending: None)
        run(folder, text)
    assert state(folder) == before


def undo(folder: Path) -> list[Row]:
    rows: list[Row] = []
    take_back([folder], FORMS, False, rows.append)
    return rows


def test_ours_is_still_ours_after_a_run_that_ended_early(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    before = state(folder)
    run(folder, "a dog")
    ends_early(monkeypatch, folder, "a cat")
    assert {row.action for row in run(folder, "a cat")} == {"replace"}
    assert (folder / "0.txt").read_text() == "my words, a cat 0\n"
    assert (folder / "1.txt").read_text() == "a cat 1\n"
    undo(folder)
    assert state(folder) == before


def test_it_can_be_taken_back_too(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    before = state(folder)
    run(folder, "a dog")
    ends_early(monkeypatch, folder, "a cat")
    assert "changed" not in {row.action for row in undo(folder)}
    assert state(folder) == before
    ends_early(monkeypatch, folder, "a dog")
    assert undo(folder) == []
    assert state(folder) == before


def test_pictures_that_were_moved_and_renamed_come_back_to_the_byte(folder: Path) -> None:
    before = {
        path.suffix: path.read_bytes() for path in folder.iterdir() if path.stem in "0123" and path.suffix != ".txt"
    }
    run(folder, "a dog")
    (folder / "sub").mkdir()
    for path in list(folder.iterdir()):
        if path.stem in "0123" and path.suffix in before:
            path.rename(folder / "sub" / f"renamed{path.suffix}")
    undo(folder)
    assert {path.suffix: path.read_bytes() for path in (folder / "sub").iterdir()} == before


def test_many_runs_leave_the_way_back(folder: Path) -> None:
    before = state(folder)
    for text in ("a dog", "a cat", "a dog", "a cow"):
        run(folder, text)
    sizes = {name: len(content) for name, content in state(folder).items()}
    run(folder, "a pig")
    assert {name: len(content) for name, content in state(folder).items()} == sizes  # nothing piles up
    undo(folder)
    assert state(folder) == before
    assert not (folder / NAME).exists()


@pytest.mark.parametrize("together", [1, 2**26])
def test_a_picture_that_went_away_keeps_no_other_from_its_caption(
    monkeypatch: pytest.MonkeyPatch, folder: Path, together: int
) -> None:
    monkeypatch.setattr("captioner.sidecars.job._BYTES_TOGETHER", together)
    rows: list[Row] = []
    with Job(Wish([folder], ("embedded",), NAMES[0]), Policy(), MAKER, "x", False, rows.append) as job:
        for number, picture in enumerate(list(job.wanted())):
            if picture.name == "1.png":
                picture.unlink()
            job.take(Captioned(f"caption {number}", -3.0))
        job.finish()
    assert [(row.action, row.path.name) for row in rows if row.path.name == "1.png"] == [("error", "1.png")]
    assert not list(folder.glob(".*.part"))
    for name in ("0.jpg", "2.webp", "3.tif"):
        assert b"caption " in (folder / name).read_bytes()
    assert not (folder / "1.png").exists()
