"""METEOR 1.5 (Denkowski and Lavie, 2014), computed by the official jar."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from captioner.metrics.jvm import JavaProcess, find_jar, find_java

_JAR = "meteor/meteor-1.5.jar"
_PARAPHRASES = "meteor/data/paraphrase-en.gz"

_START_SECONDS = 120.0
_SECONDS_PER_IMAGE = 0.5
"""Generous, since the limit is for a jar that hangs: 234 images take 14 s, of which 9 are the start."""

_COUNTS = 23
"""Number of statistics that the jar returns for a caption: lengths, matches of each kind, chunks."""

_LINE_BREAKING = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")


def refuse_without_java() -> None:
    """Check for Java and the jar in advance, before captions are generated.

    Raises:
        CaptionerError: One is missing.
    """
    find_java()
    find_jar(_JAR)
    find_jar(_PARAPHRASES)


def meteor(
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    *,
    time_limit: float | None = None,
) -> tuple[float, list[float]]:
    """Compute METEOR of a corpus, in [0, 1].

    The jar aligns a caption with each reference by words, stems, synonyms and paraphrases, and takes the best
    reference. The score of a corpus is computed from the summed statistics: it is not the mean over its images.

    Args:
        hypotheses: The tokens of the caption of each image.
        references: The tokens of the references of each image. A `|||` in a token is removed, on both sides, since it
            is the jar's separator; the official code keeps it in references, which splits them.
        time_limit: Seconds after which the jar is stopped; by default two minutes and half a second per image.

    Returns:
        The score of the corpus, and that of each image.

    Raises:
        CaptionerError: Java or the jar is missing, the time is up, or the answer is malformed.
    """
    jar, paraphrases = find_jar(_JAR), find_jar(_PARAPHRASES)
    seconds = _START_SECONDS + _SECONDS_PER_IMAGE * len(hypotheses) if time_limit is None else time_limit
    questions = [
        " ||| ".join(["SCORE", *(_line(words) for words in group), _line(hypothesis)])
        for hypothesis, group in zip(hypotheses, references, strict=True)
    ]
    with tempfile.TemporaryDirectory(prefix="captioner-meteor-", ignore_cleanup_errors=True) as folder:
        # The paraphrases are read by one thread, beside which others that collect garbage take time and memory.
        java = ["-XX:+UseSerialGC", "-Xmx2G"]
        options = [*java, "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm", "-a", str(paraphrases)]
        with JavaProcess("METEOR", options, seconds, Path(folder)) as process:
            counts = [_checked(line, _COUNTS, process) for line in process.ask(questions, len(questions))]
            answers = process.ask([" ||| ".join(["EVAL", *counts])], len(questions) + 1)
            scores = [float(_checked(line, 1, process)) for line in answers]
    return scores[-1], scores[:-1]


def _line(words: Sequence[str]) -> str:
    """Join tokens to a line of the jar's protocol, whose separators are line breaks and `|||`."""
    return " ".join(re.sub(r"\|{3,}", "", _LINE_BREAKING.sub(" ", word)) for word in words)


def _checked(line: str, count: int, process: JavaProcess) -> str:
    """Parse an answer to the expected number of values.

    Raises:
        CaptionerError: The answer is malformed.
    """
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise process.failure(f"answered {line[:60]!r} in place of numbers")
    return line
