"""The JSON header of a checkpoint: configurations, words and model card, strictly validated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from captioner.data.transforms import Transform
from captioner.errors import CaptionerError
from captioner.models.captioner import CaptionerConfig
from captioner.models.decoder import DecoderConfig
from captioner.models.language_model import LanguageConfig
from captioner.text.pieces import Pieces

FORMAT = 1
"""Format version, increased when older versions of this project could not read a file."""
ENSEMBLE_FORMAT = 2
"""Format version of a file with several models, which version 1 cannot read."""
TOKENIZER_FORMAT = 3
"""Format version of a file, of one or several models, whose tokens are not English words."""
DECODER_FORMAT = 4
"""Format version of a file that holds a decoder alone, on the encoder of another file; of any tokens."""

METADATA_KEY = "captioner"

ALL = "all"
"""Prefix of a tensor that all members share, in place of the index of a member."""

_LARGEST = 2**24
"""Upper bound of all numbers in a configuration."""

_SHOWN = 40
"""Maximum length of a wrong value in a message."""

Config: TypeAlias = CaptionerConfig | LanguageConfig
DataclassT = TypeVar("DataclassT")


class Header(NamedTuple):
    """What a header says.

    Attributes:
        config: The configuration, or those of an ensemble.
        words: The vocabulary, in the order of ids.
        card: The model card.
        tokenizer: What divides captions into the vocabulary's tokens; None for English words.
        encoder: What tells the encoder of a decoder alone, as `captioner.checkpoint.digest.hash_encoder` has it.
    """

    config: Config | list[Config]
    words: tuple[str, ...]
    card: dict[str, Any]
    tokenizer: Pieces | None
    encoder: str | None


def parse(header: str) -> Header:
    """Parse a header."""
    try:
        content = json.loads(header)
        found = content["format"]
        if found not in (FORMAT, ENSEMBLE_FORMAT, TOKENIZER_FORMAT, DECODER_FORMAT):
            raise CaptionerError(
                f"has format {found!r}, this version reads {FORMAT} to {DECODER_FORMAT}; install a matching captioner"
            )
        one = found in (FORMAT, DECODER_FORMAT) or (found == TOKENIZER_FORMAT and "config" in content)
        has_tokenizer = found == TOKENIZER_FORMAT or (found == DECODER_FORMAT and "tokenizer" in content)
        tokenizer = Pieces(**content["tokenizer"]) if has_tokenizer else None
        encoder = str(content["encoder"]) if found == DECODER_FORMAT else None
        config = _config(content["config"]) if one else [_config(each) for each in content["members"]]
        words, card = content["words"], content["card"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise CaptionerError(f"its header lacks or misstates {error}; it cannot be used") from error
    if not config:
        raise CaptionerError("is an ensemble of no models; it is malformed")
    if not isinstance(card, dict):
        raise CaptionerError("its card is not a JSON object; it is malformed")
    if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
        raise CaptionerError("its words are not a list of text; it is malformed")
    return Header(config, tuple(words), card, tokenizer, encoder)


def _config(values: Mapping[str, Any]) -> Config:
    if "unit" in values:
        return _from_dict(LanguageConfig, {**values, "decoder": _from_dict(DecoderConfig, values["decoder"])})
    transform = {k: tuple(v) if isinstance(v, list) else v for k, v in values["transform"].items()}
    parts = {
        "decoder": _from_dict(DecoderConfig, values["decoder"]),
        "transform": _from_dict(Transform, transform),
    }
    return _from_dict(CaptionerConfig, {**values, **parts})


def _from_dict(cls: type[DataclassT], values: Mapping[str, Any]) -> DataclassT:
    """Build a dataclass; unknown fields are refused, since ignoring them would change the model."""
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise CaptionerError(f"its configuration has {unknown[0]!r}, unknown here; update captioner")
    required = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}  # type: ignore[arg-type]
    missing = sorted(required - set(values))
    if missing:
        raise CaptionerError(f"its configuration lacks {missing[0]!r}; it was cut or edited")
    hints = get_type_hints(cls)
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise CaptionerError(
                f"its configuration has {name!r} = {str(value)[:_SHOWN]!r}, of a wrong type or size; it was edited"
            )
    return cls(**values)


def _fits(value: object, hint: Any) -> bool:  # noqa: ANN401 (a type as annotations have it)
    """Whether a JSON value has the annotated type and a plausible size."""
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return any(value == known for known in arguments)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and len(value) == len(arguments) and all(map(_fits, value, arguments))
    if arguments:
        return any(_fits(value, each) for each in arguments)
    if hint in (int, float):
        kinds = int if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) <= _LARGEST
    return isinstance(value, hint)
