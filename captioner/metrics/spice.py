"""SPICE (Anderson et al., 2016), by the official jar."""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.metrics.jvm import JavaProcess, find_jar, find_java

_START_SECONDS = 600.0
_SECONDS_PER_CAPTION = 1.0

_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")

_LAST_JAVA = 14
"""The jar writes its results by the JavaScript engine that Java 15 dropped (JEP 372)."""


def spice(
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    *,
    time_limit: float | None = None,
) -> tuple[float, list[float]]:
    """SPICE of a corpus, in [0, 1]: the mean over its images.

    The jar parses captions into objects, attributes and relations, and takes F1 of a caption's against those of all of
    its references together. Its cache of parses is not used: it needs native code that some systems lack.

    Args:
        hypotheses: The tokens of each image's caption, at least one image.
        references: The tokens of each image's references.
        time_limit: Seconds after which the jar is stopped; ten minutes and one second a caption unless given.

    Returns:
        The score of the corpus, and that of each image.

    Raises:
        CaptionerError: Java, the jar or its models are missing, Java is too new, the time is up, or the answer is not
            understood.
    """
    captions = len(hypotheses) + sum(map(len, references))
    seconds = _START_SECONDS + _SECONDS_PER_CAPTION * captions if time_limit is None else time_limit
    with tempfile.TemporaryDirectory(prefix="captioner-spice-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        jar = _check(seconds, folder)
        questions, answers = folder / "questions.json", folder / "answers.json"
        questions.write_text(write_questions(hypotheses, references), encoding="ascii")
        options = ["-Xmx8G", "-jar", str(jar), str(questions), "-out", str(answers), "-silent"]
        with JavaProcess("SPICE", options, seconds, folder) as process:
            process.finish()
            try:
                scores = read_answers(answers.read_text(encoding="utf-8"), len(hypotheses))
            except (OSError, ValueError) as error:
                raise process.failure(f"left results that cannot be read ({error})") from error
    return math.fsum(scores) / len(scores), scores


def write_questions(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> str:
    """The jar's input: JSON, in ASCII, as it reads files in whatever encoding the system has."""
    return json.dumps(
        [
            {"image_id": index, "test": " ".join(hypothesis), "refs": [" ".join(words) for words in group]}
            for index, (hypothesis, group) in enumerate(zip(hypotheses, references, strict=True))
        ]
    )


def read_answers(text: str, images: int) -> list[float]:
    """The score of each image from the jar's output, in the order of the input.

    Raises:
        ValueError: It is no JSON, or does not hold one score of each image.
    """
    scores: dict[int, float] = {}
    content = json.loads(text)
    try:
        for item in content:
            # Names of categories other than All, and null in them, are for whoever asks the jar for subsets.
            scores[item["image_id"]] = float(item["scores"]["All"]["f"])
    except (KeyError, TypeError) as error:
        raise ValueError("an image without its score") from error
    if len(content) != images or any(index not in scores for index in range(images)):
        raise ValueError(f"{len(content)} results for {images} images")
    ordered = [scores[index] for index in range(images)]
    if not all(map(math.isfinite, ordered)):
        raise ValueError("a score that is no number")
    return ordered


def refuse_without_java() -> None:
    """Refuses what `spice` would for want of Java, jar or models, before the captions are written.

    Raises:
        CaptionerError: One is missing, or Java is too new.
    """
    with tempfile.TemporaryDirectory(prefix="captioner-spice-", ignore_cleanup_errors=True) as name:
        _check(_START_SECONDS, Path(name))


def _check(seconds: float, folder: Path) -> Path:
    """The jar, once all that it needs is there."""
    _check_version(seconds, folder)
    jar = find_jar("spice/spice-1.0.jar")
    _check_models(jar.parent / "lib")
    return jar


def _check_version(seconds: float, folder: Path) -> None:
    """Asks Java for its version, before an hour of parsing would be lost to a wrong one.

    Raises:
        CaptionerError: Java is missing, does not answer, or is too new.
    """
    with JavaProcess("SPICE", ["-version"], seconds, folder) as process:
        process.finish()
        # Java 8 calls itself 1.8.
        found = re.search(r'version "(?:1\.)?(\d+)', process.errors())
        if found is None:
            raise process.failure("cannot be run by a java that does not tell its version")
    if int(found[1]) > _LAST_JAVA:
        raise CaptionerError(
            f"{find_java()} is Java {found[1]}, and SPICE's jar fails on what is newer than {_LAST_JAVA}; "
            "put OpenJDK 8, for which it was made, first on the PATH"
        )


def _check_models(folder: Path) -> None:
    """Looks for the models of the Stanford parser, which pycocoevalcap does not bring.

    Raises:
        CaptionerError: One is missing.
    """
    missing = [name for name in _MODELS if not (folder / name).is_file()]
    if missing:
        raise CaptionerError(
            f"SPICE needs {' and '.join(missing)} in {folder}, which nothing here downloads unasked (385 MB); "
            f"get them with: {sys.executable} -m pycocoevalcap.spice.get_stanford_models"
        )
