"""Scores of captions that come in batches, and of an installation that can do nothing else."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from environments import Environment

from captioner.cli import main
from captioner.errors import CaptionerError
from captioner.metrics import CaptionScores
from captioner.metrics.meteor import meteor

WORDS = ["a", "the", "dog", "cat", "man", "runs", "sits", "on", "in", "grass", "road", "red", "two", "don't", "."]
IMAGES = 40

Corpus = tuple[list[str], list[list[str]]]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Captions and references of images: from one reference to four, empty captions among them."""
    draw = random.Random(0)

    def caption() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randrange(12)))

    return [caption() for _ in range(IMAGES)], [[caption() for _ in range(draw.randint(1, 4))] for _ in range(IMAGES)]


def write(corpus: Corpus, folder: Path) -> list[str]:
    """Writes the corpus, and gives the arguments of ``captioner score``."""
    candidates, references = corpus
    annotations = [{"image_id": image, "caption": text} for image, group in enumerate(references) for text in group]
    images = [{"id": image} for image in range(IMAGES)]
    (folder / "references.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    results = [{"image_id": image, "caption": text} for image, text in enumerate(candidates)]
    (folder / "results.json").write_text(json.dumps(results))
    files = ["--references", str(folder / "references.json"), "--candidates", str(folder / "results.json")]
    return ["score", *files, "--json"]


@pytest.mark.parametrize("size", [1, 7, IMAGES])
def test_batches_have_the_scores_of_the_command(
    size: int, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidates, references = corpus
    scores = CaptionScores()
    scores.update(["a dog that is forgotten"], [["a dog"]])
    scores.reset()
    for begin in range(0, IMAGES, size):
        scores.update(candidates[begin : begin + size], references[begin : begin + size])
    assert main(write(corpus, tmp_path)) == 0
    expected = json.loads(capsys.readouterr().out)
    found = scores.compute()
    assert found == {name: expected[name] for name in ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")}
    assert scores.compute() == found


@pytest.mark.java
@pytest.mark.slow
def test_meteor_is_that_of_the_jar() -> None:
    candidates, references = ["a dog runs", "a cat"], [["the dog is running"], ["a cat sits", "cats"]]
    try:
        scores = CaptionScores(meteor=True)
    except CaptionerError as error:
        pytest.skip(str(error))
    scores.update(candidates, references)
    expected, _ = meteor([text.split() for text in candidates], [[t.split() for t in group] for group in references])
    assert scores.compute()["METEOR"] == expected > 0


@pytest.mark.parametrize("jar", ["meteor", "spice"])
def test_a_jar_that_cannot_run_is_told_before_anything_is_added(jar: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CaptionerError, match="java is not on the PATH"):
        CaptionScores(**{jar: True})


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        ("a dog", [["a dog"]], "the captions of a batch are a str; give a list"),
        (["a dog"], "a dog", "the references of a batch are a str; give a list"),
        (["a dog", "a cat"], [["a dog"]], "the batch has 2 captions and references of 1 images; give one caption"),
        (["a dog"], ["a dog"], "the references of an image are 'a dog'; give a list of at least one text"),
        (["a dog"], [[]], "the references of an image are []; give a list of at least one text"),
        ([3], [["a dog"]], "a caption of the batch is not text; give texts"),
    ],
)
def test_a_batch_that_cannot_be_scored_is_told_and_not_added(candidates: Any, references: Any, message: str) -> None:
    scores = CaptionScores()
    with pytest.raises(CaptionerError, match=re.escape(message)):
        scores.update(candidates, references)
    with pytest.raises(CaptionerError, match="there is no caption to score"):
        scores.compute()


@pytest.mark.slow
def test_scores_need_numpy_alone(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environment = Environment(tmp_path)
    environment.install("--no-deps", str(environment.source), "numpy")
    arguments = write(corpus, tmp_path)
    done = environment.run("captioner", *arguments)
    assert done.returncode == 0, done.stderr
    assert main(arguments) == 0
    assert done.stdout == capsys.readouterr().out
    program = (
        "import json, sys, captioner.metrics as metrics\n"
        "scores = metrics.CaptionScores()\n"
        "scores.update(*json.loads(sys.argv[1]))\n"
        "print(json.dumps(scores.compute()))"
    )
    done = environment.run("python", "-c", program, json.dumps(corpus))
    scores = CaptionScores()
    scores.update(*corpus)
    assert json.loads(done.stdout) == scores.compute(), done.stderr
    photo = tmp_path / "photo.jpg"
    shutil.copy(Path(__file__).parents[2] / "data" / "samples" / "coffee.jpg", photo)
    done = environment.run("captioner", "caption", str(photo))
    assert done.returncode == 2
    assert re.fullmatch(r"captioner: captioner caption needs \w+; run pip install 'captioner'\n", done.stderr)
