"""Shared by Ollama's and OpenAI's interfaces: captions as text of a language model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from captioner.caption import Caption


def text_of(captions: Sequence[Caption]) -> str:
    """Join captions of several images, one per line."""
    return "\n".join(caption.text for caption in captions)


def pieces_of(captions: Sequence[Caption]) -> list[str]:
    """The same, split into words with their leading spaces."""
    return re.findall(r"\s*\S+", text_of(captions))


def was_cut(captions: Sequence[Caption]) -> bool:
    """Whether a caption was cut at the maximum length."""
    return any(len(caption.word_log_probabilities) == len(caption.words) for caption in captions)


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI description of a body of any content type."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}
