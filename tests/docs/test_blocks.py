"""Every command and every Python example of the pages is run, here or in the guide's test, or says why not."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from markdown_it import MarkdownIt
from processes import commands_of_pages, run

from captioner.pipeline import Captioner

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN_BY_ITSELF = {"guide.md", "other_languages.md"}
"""Pages whose blocks another test runs, in one go: tests/docs/test_guide.py and test_language_page.py."""
NO_CODE = {"text", "math", "yaml", "json", "nginx", "caddyfile", "csv"}
"""Languages of blocks that nobody runs."""
NOT_RUN = re.compile(r"<!-- not run( on this page)?: (\S.{10,}) -->")
LONGEST_BLOCK = 900.0
"""Seconds that a page's commands may take on a busy machine."""


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Attributes:
        page: Its file.
        line: Where it begins.
        language: ``sh``, ``python``, or empty where the page does not say.
        text: What it says.
        excuse: Why it is not run; empty where it is.
    """

    page: Path
    line: int
    language: str
    text: str
    excuse: str

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page that somebody could run."""
    text = page.read_text()
    whole = next((found[2] for found in NOT_RUN.finditer(text) if found[1]), "")
    excuse = ""
    for token in MarkdownIt().parse(text):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            language = token.info.strip()
            if language not in NO_CODE:
                yield Block(page, token.map[0] + 1, language, token.content, excuse or whole)
        found = NOT_RUN.fullmatch(token.content.strip()) if token.type == "html_block" else None
        excuse = found[2] if found and not found[1] else ""


BLOCKS = [block for page in PAGES if page.name not in RUN_BY_ITSELF for block in blocks(page)]
TO_RUN = [block for block in BLOCKS if not block.excuse]


@pytest.fixture
def folder(tmp_path: Path, tiny: Captioner) -> Path:
    """What the commands name: photographs, pages, models of one vocabulary, captions and references."""
    (tmp_path / "data").mkdir()
    shutil.copytree(ROOT / "data" / "samples", tmp_path / "data" / "samples")
    photograph = ROOT / "data" / "samples" / "coffee.jpg"
    for name in ("photos", "holiday", "train", "site"):
        (tmp_path / name).mkdir()
        shutil.copy(photograph, tmp_path / name / "1.jpg")
    (tmp_path / "site" / "index.html").write_text('<p><img src="1.jpg" alt=""></p>')
    for name in ("dog.jpg", "photo.jpg"):
        shutil.copy(photograph, tmp_path / name)
    for name in ("a.safetensors", "b.safetensors"):
        tiny.save(tmp_path / name)
    references = '{"images": [{"id": 1}, {"id": 2}], "annotations": [%s]}'
    texts = ((1, "a dog runs"), (1, "the dog is running"), (2, "a cat sits"), (2, "a cat sits on grass"))
    annotations = ", ".join(
        f'{{"image_id": {image}, "id": {n}, "caption": "{text}"}}' for n, (image, text) in enumerate(texts)
    )
    (tmp_path / "captions_val2017.json").write_text(references % annotations)
    for name, second in (("results", "a cat sits"), ("before", "a cat runs"), ("after", "a cat sits")):
        captions = f'[{{"image_id": 1, "caption": "a dog runs"}}, {{"image_id": 2, "caption": "{second}"}}]'
        (tmp_path / f"{name}.json").write_text(captions)
    return tmp_path


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_a_block_says_what_it_is_or_why_it_is_not_run(block: Block) -> None:
    assert block.language in ("sh", "python") or block.excuse, block.text


def test_blocks_are_found() -> None:
    assert {block.language for block in TO_RUN} == {"sh", "python"}
    assert len(TO_RUN) > 15


@pytest.mark.parametrize("page", sorted({b.page for b in TO_RUN if b.language == "python"}), ids=lambda page: page.stem)
def test_python_examples_run(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("agg")
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    for block in TO_RUN:
        if block.page == page and block.language == "python":
            exec(compile(block.text, block.name, "exec"), names)  # our own pages
    assert names


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in TO_RUN if b.language == "sh"], ids=lambda block: block.name)
def test_commands_run(block: Block, folder: Path) -> None:
    environment = commands_of_pages(folder / "bin") | {"HOME": str(folder)}
    done = run(
        ["bash", "-ec", block.text],
        LONGEST_BLOCK,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout}"
