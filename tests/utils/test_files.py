"""Files that take the place of others, in steps."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from captioner.errors import CaptionerError
from captioner.utils.files import Replacement


def test_the_old_file_stays_until_the_last_step(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("old")
    path.chmod(0o640)
    new = Replacement(path)
    with new.writing() as temporary:
        temporary.write_text("newer")
    assert new.size == 5
    new.sync()
    assert path.read_text() == "old"
    new.commit()
    new.discard()
    assert path.read_text() == "newer"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["write", "written", "synced"])
def test_what_is_given_up_leaves_nothing_behind(step: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("old")
    new = Replacement(path)
    if step == "write":
        with pytest.raises(CaptionerError, match="cannot write .*: No space left"), new.writing():
            raise OSError(28, "No space left on device")
    else:
        with new.writing() as temporary:
            temporary.write_text("new")
        if step == "synced":
            new.sync()
        new.discard()
    new.commit()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
