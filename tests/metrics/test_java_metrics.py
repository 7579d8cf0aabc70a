"""METEOR against the official scores, and both jars' process against all that goes wrong with one."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from captioner.errors import CaptionerError
from captioner.metrics.jvm import JavaProcess, find_jar
from captioner.metrics.meteor import meteor
from captioner.metrics.spice import read_answers, spice, write_questions

OFFICIAL = Path(__file__).parents[3] / "shared" / "metrics" / "fakecap234.json"
IMAGES = (
    [["a", "dog", "runs"], ["the", "red", "road"]],
    [[["a", "dog"], ["the", "dog", "runs"]], [["a", "red", "road"]]],
)

needs_a_shell = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for java is a shell script")


@pytest.fixture
def real_jar() -> None:
    if shutil.which("java") is None:
        pytest.skip("java is not on the PATH")
    try:
        find_jar("meteor/meteor-1.5.jar")
    except CaptionerError as error:
        pytest.skip(str(error))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that passes for pycocoevalcap, with empty jars."""
    folder = tmp_path / "pycocoevalcap"
    names = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
    jars = ("meteor/meteor-1.5.jar", "meteor/data/paraphrase-en.gz", "spice/spice-1.0.jar")
    for name in (*jars, *(f"spice/lib/{name}" for name in names)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    spec = ModuleSpec("pycocoevalcap", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    return folder


@pytest.fixture
def fake_java(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes `java` a shell script that notes its process number and its folder; gives the folder of the notes."""

    def make(script: str) -> Path:
        java = tmp_path / "bin" / "java"
        java.parent.mkdir()
        java.write_text(f'#!/bin/sh\necho $$ > "{tmp_path}/pid"\npwd > "{tmp_path}/folder"\n{script}\n')
        java.chmod(0o755)
        monkeypatch.setenv("PATH", f"{java.parent}:/usr/bin:/bin")
        return tmp_path

    return make


def assert_nothing_is_left(notes: Path) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(int((notes / "pid").read_text()), 0)
    assert not Path((notes / "folder").read_text().strip()).exists()


@pytest.mark.java
@pytest.mark.shared_data
@pytest.mark.parametrize("language", ["", pytest.param("de", marks=pytest.mark.slow)])
def test_meteor_is_the_official_one_in_any_language(
    language: str, real_jar: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not OFFICIAL.exists():
        pytest.skip(f"{OFFICIAL} with the official scores is not here")
    if language:
        monkeypatch.setenv("LC_ALL", "de_DE.ISO-8859-1")
        # What Java would make of that locale, where the system has not got it.
        options = "-Duser.language=de -Duser.country=DE -Dfile.encoding=ISO-8859-1"
        monkeypatch.setenv("JAVA_TOOL_OPTIONS", options)
    official = json.loads(OFFICIAL.read_text())
    images = list(official["candidate_tokens"])
    corpus, scores = meteor(
        [official["candidate_tokens"][image][0].split(" ") for image in images],
        [[line.split(" ") for line in official["reference_tokens"][image]] for image in images],
    )
    assert corpus == pytest.approx(official["corpus"]["METEOR"], abs=1e-10)
    assert scores == pytest.approx([official["images"][image]["METEOR"] for image in images], abs=1e-10)


@pytest.mark.java
def test_no_caption_shifts_the_scores_of_others(real_jar: None) -> None:
    reference = ["a", "dog", "runs", "fast"]
    captions: dict[str, list[str]] = {
        "plain": ["a", "big", "dog"],
        "separator": ["a", "|||", "big", "||||", "dog|||"],
        "breaks": ["a\nbig\r\ndog\u2028"],
        "control": ["a\x00big", "\x0bdog\x1b"],
        "empty": [],
        "accents": ["ein", "gemütliches", "café", "犬", "😀", "\ud800"],
        "perfect": reference,
    }
    references = [[reference] for _ in captions]
    references[1] = [["a", "dog", "|||", "runs", "fast"]]
    _, scores = meteor(list(captions.values()), references)
    found = dict(zip(captions, scores, strict=True))
    assert 0 < found["plain"] < 1
    assert found["separator"] == found["breaks"] == found["control"] == found["plain"]
    # The official code has 0 for an empty caption too.
    assert found["empty"] == found["accents"] == 0
    assert found["perfect"] == 1


@pytest.mark.java
def test_of_up_to_eight_references_the_best_counts(real_jar: None) -> None:
    caption, others = ["a", "dog", "runs"], [["a", "red", "road"], [], ["the", "cat", "sits"]] * 3
    references = [[*others[:count], caption] for count in range(8)]
    corpus, scores = meteor([caption] * 8, references)
    assert corpus == 1
    assert scores == [1] * 8


def test_a_missing_java_is_told(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for score in (meteor, spice):
        with pytest.raises(CaptionerError, match=r"^java is not on the PATH.*install"):
            score(*IMAGES)


@needs_a_shell
@pytest.mark.parametrize("score", [meteor, spice])
def test_a_missing_extra_is_told(score: Any, fake_java: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java("""echo 'openjdk version "11.0.2"' >&2""")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CaptionerError, match=r'pycocoevalcap.* is not installed.*pip install "captioner\[coco\]"'):
        score(*IMAGES)


@needs_a_shell
@pytest.mark.parametrize(
    ("score", "name"),
    [(meteor, "meteor-1.5.jar"), (meteor, "data/paraphrase-en.gz"), (spice, "spice-1.0.jar")],
)
def test_a_missing_jar_is_told(score: Any, name: str, package: Path, fake_java: Callable[[str], Path]) -> None:
    fake_java("""echo 'openjdk version "11.0.2"' >&2""")
    (package / score.__name__ / name).unlink()
    with pytest.raises(CaptionerError, match=f"{name} is missing; fix it with: pip install"):
        score(*IMAGES)


@needs_a_shell
def test_missing_models_are_told_and_not_fetched(package: Path, fake_java: Callable[[str], Path]) -> None:
    notes = fake_java("""echo 'java version "1.8.0_402"' >&2""")
    models = package / "spice" / "lib" / "stanford-corenlp-3.6.0-models.jar"
    models.unlink()
    message = f"SPICE needs {models.name} in {models.parent}.*-m pycocoevalcap.spice.get_stanford_models"
    with pytest.raises(CaptionerError, match=message):
        spice(*IMAGES)
    assert not models.exists()
    assert_nothing_is_left(notes)


@needs_a_shell
def test_a_java_too_new_for_spice_is_told(fake_java: Callable[[str], Path]) -> None:
    fake_java("""echo 'openjdk version "17.0.1" 2021-10-19' >&2""")
    with pytest.raises(
        CaptionerError, match="is Java 17, and SPICE's jar fails on what is newer than 14; put OpenJDK 8"
    ):
        spice(*IMAGES)


@needs_a_shell
@pytest.mark.parametrize("score", [meteor, spice])
@pytest.mark.parametrize("script", ["exec sleep 1000", "sleep 1000", "sleep 1000 &"], ids=["self", "child", "orphan"])
def test_a_java_that_hangs_is_stopped(score: Any, script: str, fake_java: Callable[[str], Path]) -> None:
    notes = fake_java(script)
    start = time.monotonic()
    with pytest.raises(CaptionerError, match=r"took longer than its limit of 0.5 s .*raise time_limit"):
        score(*IMAGES, time_limit=0.5)
    assert time.monotonic() - start < 100
    assert_nothing_is_left(notes)


@needs_a_shell
@pytest.mark.parametrize("score", [meteor, spice])
def test_control_c_ends_java_too(score: Any, fake_java: Callable[[str], Path]) -> None:
    notes = fake_java("exec sleep 1000")

    def interrupt() -> None:
        while not ((notes / "folder").exists() and (notes / "folder").read_text()):
            time.sleep(0.01)
        time.sleep(0.1)
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        score(*IMAGES)
    assert_nothing_is_left(notes)


@needs_a_shell
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("while read -r line; do echo nonsense; done", "jar answered 'nonsense' in place of numbers.*line: none"),
        ("while read -r line; do echo; done", "jar answered '' in place of numbers"),
        ("while read -r line; do echo 1.0; done", "jar answered '1.0' in place of numbers"),
        ("while read -r line; do echo NaN; done", "jar answered 'NaN' in place of numbers"),
        ("echo 'Error: oh' >&2; printf '\\tat Meteor.main\\n' >&2; exit 1", "jar ended before.*error line: Error: oh;"),
        ("exec 0<&-; exit 0", "jar ended before it had answered"),
    ],
)
def test_an_answer_that_is_not_understood_is_told(script: str, message: str, fake_java: Callable[[str], Path]) -> None:
    notes = fake_java(script)
    with pytest.raises(CaptionerError, match=message) as caught:
        meteor(*IMAGES)
    assert "\n" not in str(caught.value)
    assert_nothing_is_left(notes)


@needs_a_shell
def test_a_java_that_cannot_start_is_told(fake_java: Callable[[str], Path]) -> None:
    java = fake_java("") / "bin" / "java"
    java.write_text("#!/no/such/shell\n")
    with pytest.raises(CaptionerError, match=f"{java} cannot be started .*put a working java on the PATH"):
        meteor(*IMAGES)


@needs_a_shell
def test_full_pipes_do_not_block(tmp_path: Path, fake_java: Callable[[str], Path]) -> None:
    fake_java("head -c 1000000 /dev/zero >&2; exec cat")
    lines = [f"{number} {'x' * 100}" for number in range(20_000)]
    with JavaProcess("METEOR", [], 60, tmp_path) as process:
        assert list(process.ask(lines, len(lines))) == lines


SPICE_JAVA = """
if [ "${*#*-version}" != "$*" ]; then echo 'openjdk version "11.0.2"' >&2; exit; fi
while [ "$1" != -out ]; do questions=$1; shift; done
cp "$questions" "$NOTES/questions.json"
cp "$NOTES/answers.json" "$2"
"""


def answer(image: int, f: float | None) -> dict[str, Any]:
    """One image as the jar writes it, with the subsets that its users may ask for."""
    score = {"numImages": 1, "fn": 3, "tp": 1, "pr": 0.5, "re": 0.25, "f": f, "fp": 1}
    return {"scores": {"All": score, "Color": {**score, "f": None}}, "image_id": image}


@needs_a_shell
def test_spice_asks_and_reads(fake_java: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    notes = fake_java(SPICE_JAVA)
    monkeypatch.setenv("NOTES", str(notes))
    (notes / "answers.json").write_text(json.dumps([answer(0, 0.25), answer(1, 0.5)], indent=2))
    assert spice(*IMAGES) == (0.375, [0.25, 0.5])
    assert json.loads((notes / "questions.json").read_text()) == [
        {"image_id": 0, "test": "a dog runs", "refs": ["a dog", "the dog runs"]},
        {"image_id": 1, "test": "the red road", "refs": ["a red road"]},
    ]
    assert_nothing_is_left(notes)


@needs_a_shell
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'Error: no memory' >&2; exit 1", "failed with exit status 1; its last error line: Error: no memory;"),
        ("""echo 'version "11"' >&2""", "left results that cannot be read"),
        ("true", "a java that does not tell its version"),
    ],
)
def test_a_failing_spice_is_told(script: str, message: str, fake_java: Callable[[str], Path]) -> None:
    notes = fake_java(script)
    with pytest.raises(CaptionerError, match=message):
        spice(*IMAGES)
    assert_nothing_is_left(notes)


def test_spice_questions_are_ascii_whatever_the_captions() -> None:
    text = write_questions([["café", "||| \n", '"']], [[["犬"], []]])
    assert text.isascii()
    assert json.loads(text) == [{"image_id": 0, "test": 'café ||| \n "', "refs": ["犬", ""]}]


def test_spice_answers_are_put_in_the_order_of_the_questions() -> None:
    assert read_answers(json.dumps([answer(1, 0), answer(0, 0.25)]), 2) == [0.25, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([answer(0, 1)], "1 results for 2 images"),
        ([answer(0, 1), answer(0, 1)], "2 results for 2 images"),
        ([answer(0, 1), answer(1, None)], "an image without its score"),
        ([answer(0, 1), answer(1, float("nan"))], "a score that is not a number"),
        ([{"image_id": 0}, answer(1, 1)], "an image without its score"),
        (None, "an image without its score"),
    ],
)
def test_spice_answers_that_lack_something_are_refused(content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_answers(json.dumps(content), 2)
