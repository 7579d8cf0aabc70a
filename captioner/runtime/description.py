"""What an exported captioner says of itself, in the metadata of its graphs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from captioner.data.transforms import Transform
from captioner.errors import CaptionerError
from captioner.models.caption_features import FEATURES
from captioner.text.pieces import Pieces
from captioner.text.vocabulary import Vocabulary

FORMAT = 1
"""Raised when an older version of this project could no longer read what is written."""
TOKENIZER_FORMAT = 2
"""Format of a model whose tokens are not English words."""

METADATA_KEY = "captioner"
"""Under which the metadata of a graph holds a JSON object.

Both graphs: ``format``; ``checkpoint``, the SHA-256 of the checkpoint that they are made of; ``weights``, its file name
where they point to its weights; ``others``, the SHA-256 of further files that they point to, by name. The encoder's
also: ``models``, the configuration of each network; ``inputs``, the preprocessing of each input of pixels; ``grid``,
rows and columns of the attention, or null; ``parameters``, how many; ``words``, in the order of ids; ``tokenizer``, as
`Pieces`, where they are not English words; ``confidence``, as `FittedConfidence` with the things by id, or null;
``card``.
"""

_PART = 1 << 20
"""Bytes of a file that are in memory at a time."""


def format_of(description: Mapping[str, Any]) -> int:
    """The format of a file with a description."""
    return TOKENIZER_FORMAT if "tokenizer" in description else FORMAT


def checksum(path: Path) -> str:
    """What tells a file from another: its SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()


@dataclass(frozen=True)
class FittedConfidence:
    """What the confidence in captions needs beside the encoder's graph; see `captioner.models.confidence`.

    Attributes:
        weights: Of the `FEATURES` of a caption in the log-odds that it is right.
        things: For each word, 1 + the number of the category that it names, 0 where it names none.
        concepts: The word id of each concept, in the order of the encoder's log-odds.
    """

    weights: tuple[float, ...]
    things: tuple[int, ...]
    concepts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.weights) != len(FEATURES) or not all(0 <= word < len(self.things) for word in self.concepts):
            raise ValueError("confidence")

    def facts(self) -> dict[str, Any]:
        """Return it in plain JSON values, with the things by word id, without the words that name none."""
        things = {word: thing for word, thing in enumerate(self.things) if thing}
        return {"weights": self.weights, "things": things, "concepts": self.concepts}


@dataclass(frozen=True)
class Description:
    """What is to be known of an exported captioner beside its graphs.

    Attributes:
        models: The configuration of each network, as plain JSON values.
        transforms: Preprocessing of each input of pixels.
        grid: Rows and columns of the attention; None for a model that shows none.
        parameters: How many it has.
        vocabulary: Its words.
        confidence: What telling the confidence takes; None for a model that was not calibrated.
        card: What is to be known of the model.
    """

    models: tuple[dict[str, Any], ...]
    transforms: tuple[Transform, ...]
    grid: tuple[int, int] | None
    parameters: int
    vocabulary: Vocabulary
    confidence: FittedConfidence | None
    card: dict[str, Any]


def parse(metadata: str) -> Description:
    """Reads the description in an encoder's metadata.

    Raises:
        CaptionerError: It is none that this version understands.
    """
    try:
        content = json.loads(metadata)
        known = {field.name for field in fields(Transform)}
        return Description(
            models=tuple(dict(model) for model in content["models"]),
            transforms=tuple(
                Transform(**{name: _hashable(each[name]) for name in known & each.keys()}) for each in content["inputs"]
            ),
            grid=None if content["grid"] is None else _pair(content["grid"]),
            parameters=int(content["parameters"]),
            vocabulary=Vocabulary([str(word) for word in content["words"]], _tokenizer(content)),
            confidence=_confidence(content["confidence"], len(content["words"])),
            card=dict(content["card"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CaptionerError(f"its description lacks or misstates {error}; export it again") from error


def identity(metadata: str | None) -> dict[str, Any]:
    """The part of the description that both graphs have.

    Raises:
        CaptionerError: The graph was not written by this project, or by a newer version of it.
    """
    try:
        content = json.loads(metadata or "")
        found, checkpoint = content["format"], content["checkpoint"]
        weights, others = content.get("weights"), dict(content.get("others", {}))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CaptionerError("was not written by captioner; give a file made by captioner export") from error
    if found not in (FORMAT, TOKENIZER_FORMAT):
        raise CaptionerError(
            f"has format {found!r}, this version reads {FORMAT} and {TOKENIZER_FORMAT}; install a matching captioner"
        )
    pointers = [] if weights is None else [(weights, checkpoint), *others.items()]
    for name, _ in pointers:
        if not isinstance(name, str) or Path(name).name != name:
            raise CaptionerError(f"points to weights at {name!r}, no file beside it; export it again")
    return {"checkpoint": checkpoint, "files": dict(pointers)}


def _tokenizer(content: Mapping[str, Any]) -> Pieces | None:
    return Pieces(**content["tokenizer"]) if "tokenizer" in content else None


def _confidence(value: dict[str, Any] | None, words: int) -> FittedConfidence | None:
    if value is None:
        return None
    things = value["things"]
    return FittedConfidence(
        tuple(map(float, value["weights"])),
        tuple(int(things.get(str(word), 0)) for word in range(words)),
        tuple(map(int, value["concepts"])),
    )


def _hashable(value: Any) -> Any:  # noqa: ANN401 (a JSON value)
    return tuple(value) if isinstance(value, list) else value


def _pair(value: list[int]) -> tuple[int, int]:
    rows, columns = value
    return int(rows), int(columns)
