"""Help that helps: what is asked for most, the right spelling, and a shell that completes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import run

from captioner.cli import main
from captioner.training.help import EXAMPLES
from captioner.training.run import parse

LONGEST_HELP = 160
SUBJECTS = ["Run", "Data", "Decoder", "Trainer"]
"""Some, in their order."""


@pytest.fixture(scope="module")
def short() -> str:
    return printed_help("--help")


def printed_help(*words: str) -> str:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as ended:
        main(["train", *words])
    assert ended.value.code == 0
    return out.getvalue()


def test_the_short_help_has_the_own_options_by_subject(short: str) -> None:
    lines = short.splitlines()
    assert len(lines) < LONGEST_HELP
    assert [line for line in lines if line in SUBJECTS] == SUBJECTS
    for option in (
        "--config",
        "--resume",
        "--allow_package NAME",
        "--data.captions",
        "--model.encoder.name",
        "--help all",
    ):
        assert sum(line.startswith(f"  {option} ") for line in lines) == 1, option
    assert "CLASS_PATH_OR_NAME" not in short


def test_all_options_are_in_the_long_help(short: str) -> None:
    whole = printed_help("--help", "all")
    options = set(re.findall(r"--[a-z_]+(?:\.[a-z_]+)+", short))
    assert len(options) > 60
    assert {option for option in options if option not in whole} == set()
    assert "--trainer.sync_batchnorm" in whole
    assert "--trainer.sync_batchnorm" not in short


def test_help_of_the_other_task_has_its_options() -> None:
    assert "--data.text " in printed_help("--task", "language_model", "--help")


@pytest.mark.usefixtures("without_instantiation")
@pytest.mark.parametrize("words", [words for _, words in EXAMPLES if "--resume" not in words])
def test_the_examples_work(words: str, tmp_path: Path) -> None:
    content: dict[str, Any] = {"data": {"captions": ["a.csv"]}}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(content))
    parse(shlex.split(words.replace("\\\n", " ")))


def test_five_examples_are_shown(short: str) -> None:
    assert len(EXAMPLES) == 5
    assert short.count("\n  captioner train ") == 5


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["captoin", "a.jpg"], "did you mean caption?"),
        (["caption", "a.jpg", "--bem-size", "3"], "unrecognized arguments: --bem-size 3; did you mean --beam-size?"),
        (["evaluate", "--num_captions", "3"], "unrecognized arguments: --num_captions 3; "),
        (["export", "a.ckpt", "--outpt", "b"], "there is no option --outpt; did you mean --output?"),
        (["export", "a.ckpt", "--output", "b", "--dtype", "flaot16"], "did you mean float16 or bfloat16?"),
        (["completion", "bsh"], "did you mean bash?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_right_spelling_is_told(command: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert line.endswith(" --help lists the options")


COMPLETE = """
source "$1"
words=(${@:2})
COMP_WORDS=("${words[@]}"); COMP_CWORD=$((${#words[@]} - 1)); COMP_LINE="${words[*]}"; COMP_POINT=${#COMP_LINE}
_shtab_captioner captioner "${COMP_WORDS[-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import contextlib
    import io

    file, out = tmp_path_factory.mktemp("completion") / "captioner.bash", io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["completion", "bash"]) == 0
    file.write_text(out.getvalue())
    return file


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("captioner cap", ["caption"]),
        ("captioner caption --be", ["--beam-size"]),
        ("captioner caption --precision b", ["bfloat16"]),
        ("captioner train --data.ca", ["--data.captions"]),
        ("captioner train --model.decoder.attention mul", ["multiplicative", "multi_head"]),
        ("captioner info --model here", ["here.safetensors"]),
        ("captioner train --config my", ["my.yaml"]),
    ],
)
def test_a_shell_completes(script: Path, tmp_path: Path, line: str, expected: list[str]) -> None:
    for name in ("here.safetensors", "my.yaml"):
        (tmp_path / name).touch()
    command: list[str | Path] = ["bash", "-c", COMPLETE, "bash", script, *line.split()]
    done = run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected


def test_captions_are_not_replaced_without_being_told(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "captions.jsonl"
    output.write_text("hours of work\n")
    command = ["caption", str(photos), "--model", str(checkpoint), "--output", str(output)]
    assert main(command) == 2
    assert capsys.readouterr().err == (
        f"captioner: {output}: already exists; continue it (--resume), replace it (--overwrite), or name another\n"
    )
    assert output.read_text() == "hours of work\n"
    assert main([*command, "--overwrite", "--resume"]) == 2
    assert main([*command, "--overwrite"]) == 0
    assert len(output.read_text().splitlines()) == 3
    output.write_text("")  # as mktemp leaves it
    assert main(command) == 0
    assert main(["caption", str(photos), "--overwrite"]) == 2
