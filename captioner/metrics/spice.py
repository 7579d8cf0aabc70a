"""SPICE (Anderson et al., 2016), computed by the official jar."""

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
"""The jar needs the JavaScript engine that was removed in Java 15 (JEP 372)."""


def spice(
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    *,
    time_limit: float | None = None,
) -> tuple[float, list[float]]:
    """Compute SPICE of a corpus, in [0, 1]: the mean over its images.

    The jar parses captions to objects, attributes and relations, and computes F1 between those of the caption and those
    of all its references together. Its cache of parses is not used: it needs native code that some systems lack.

    Args:
        hypotheses: The tokens of the caption of each image, at least one image.
        references: The tokens of the references of each image.
        time_limit: Seconds after which the jar is stopped; by default ten minutes and one second per caption.

    Returns:
        The score of the corpus, and that of each image.

    Raises:
        CaptionerError: Java, the jar or its models are missing, Java is too new, the time is up, or the answer is
            malformed.
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
    """Serialize the jar's input as JSON, in ASCII, since it reads files in the system's encoding."""
    return json.dumps(
        [
            {"image_id": index, "test": " ".join(hypothesis), "refs": [" ".join(words) for words in group]}
            for index, (hypothesis, group) in enumerate(zip(hypotheses, references, strict=True))
        ]
    )


def read_answers(text: str, images: int) -> list[float]:
    """Parse the jar's output to the score of each image, in the order of the input.

    Raises:
        ValueError: It is not JSON, or does not contain one score per image.
    """
    scores: dict[int, float] = {}
    content = json.loads(text)
    try:
        for item in content:
            # Categories other than All, and null in them, only exist if the jar is asked for subsets.
            scores[item["image_id"]] = float(item["scores"]["All"]["f"])
    except (KeyError, TypeError) as error:
        raise ValueError("an image without its score") from error
    if len(content) != images or any(index not in scores for index in range(images)):
        raise ValueError(f"{len(content)} results for {images} images")
    ordered = [scores[index] for index in range(images)]
    if not all(map(math.isfinite, ordered)):
        raise ValueError("a score that is not a number")
    return ordered


def refuse_without_java() -> None:
    """Check for Java, jar and models in advance, before captions are generated.

    Raises:
        CaptionerError: One is missing, or Java is too new.
    """
    with tempfile.TemporaryDirectory(prefix="captioner-spice-", ignore_cleanup_errors=True) as name:
        _check(_START_SECONDS, Path(name))


def _check(seconds: float, folder: Path) -> Path:
    """Find the jar, and check that everything it needs is there."""
    _check_version(seconds, folder)
    jar = find_jar("spice/spice-1.0.jar")
    _check_models(jar.parent / "lib")
    return jar


def _check_version(seconds: float, folder: Path) -> None:
    """Check the version of Java before an hour of parsing is lost.

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
    """Check for the models of the Stanford parser, which pycocoevalcap does not include.

    Raises:
        CaptionerError: One is missing.
    """
    missing = [name for name in _MODELS if not (folder / name).is_file()]
    if missing:
        raise CaptionerError(
            f"SPICE needs {' and '.join(missing)} in {folder}, which nothing here downloads unasked (385 MB); "
            f"get them with: {sys.executable} -m pycocoevalcap.spice.get_stanford_models"
        )
