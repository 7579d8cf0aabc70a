"""A self-contained page: the image, its caption, and the map of the word under the pointer."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np

from captioner.caption import Caption
from captioner.data.images import ImageSource
from captioner.visualize.html_template import escape, render, to_base64, to_json
from captioner.visualize.overlay import load_photograph, maps_of, palette

LONGEST_SIDE = 960
"""Longest side of the embedded image, in pixels."""

QUALITY = 85
"""Its JPEG quality."""

NO_WORDS = "(no words)"
"""Replacement of an empty caption in headings and links."""


def draw_page(image: ImageSource, caption: Caption, name: str, measure: str = "attention", navigation: str = "") -> str:
    """Build a page that works offline.

    Args:
        image: The image, as for `captioner.Captioner.caption`.
        caption: Its caption; its alternatives can be switched to.
        name: Name of the image.
        measure: Name of what the maps show, such as ``attention``.
        navigation: HTML above the caption.

    Returns:
        The HTML document.

    Raises:
        CaptionerError: The model has no attention, or the image is unreadable.
    """
    maps, text = maps_of(caption), caption.text or NO_WORDS
    photograph = load_photograph(image, LONGEST_SIDE)
    buffer = BytesIO()
    photograph.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    data = {
        "measure": measure,
        "width": photograph.width,
        "height": photograph.height,
        "region": caption.region,
        "rows": maps.shape[1],
        "columns": maps.shape[2],
        "palette": to_base64(palette().tobytes()),
        "captions": [_describe(each) for each in (caption, *caption.alternatives)],
    }
    return render(
        "page",
        title=escape(f"{text} ({name})"),
        caption=escape(text),
        name=escape(name),
        measure=escape(measure),
        navigation=navigation,
        photograph=f"data:image/jpeg;base64,{to_base64(buffer.getvalue())}",
        width=str(photograph.width),
        height=str(photograph.height),
        data=to_json(data),
    )


def _describe(caption: Caption) -> dict[str, Any]:
    maps = maps_of(caption)
    peaks = maps.max(axis=(1, 2), keepdims=True)
    bytes_ = np.rint(255 * maps / np.maximum(peaks, np.finfo(np.float32).tiny)).astype(np.uint8)
    cells = [np.unravel_index(weights.argmax(), weights.shape) for weights in maps]
    return {
        "text": caption.text or NO_WORDS,
        "words": caption.words,
        "logProbability": caption.log_probability,
        "logProbabilities": caption.word_log_probabilities[: len(caption.words)],
        "peaks": [
            {"cell": [int(row), int(column)], "share": float(peak)}
            for (row, column), peak in zip(cells, peaks.flatten(), strict=True)
        ],
        "lookingAway": caption.looking_away,
        "maps": to_base64(bytes_.tobytes()),
    }
