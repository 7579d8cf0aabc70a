"""What Ollama's and OpenAI's interfaces share: captions as the text of a language model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from captioner.caption import Caption


def text_of(captions: Sequence[Caption]) -> str:
    """The captions of several pictures in one text, a line each."""
    return "\n".join(caption.text for caption in captions)


def pieces_of(captions: Sequence[Caption]) -> list[str]:
    """The same word by word, with the blanks that stand before words."""
    return re.findall(r"\s*\S+", text_of(captions))


def was_cut(captions: Sequence[Caption]) -> bool:
    """Whether a caption ended at the longest length, not by itself."""
    return any(len(caption.word_log_probabilities) == len(caption.words) for caption in captions)


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a body that is read whatever its content type."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}
