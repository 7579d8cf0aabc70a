"""HTML of a caption for notebooks, without scripts: the image, then each word with its map."""

from __future__ import annotations

import base64
import io
import math

from PIL import Image

from captioner.caption import Caption
from captioner.data.images import ImageSource
from captioner.errors import CaptionerError
from captioner.visualize.html_template import escape
from captioner.visualize.overlay import load_photograph, paint

PHOTOGRAPH_SIDE = 240
MAP_SIDE = 120
"""Longer side, in pixels."""
QUALITY = 80


def draw_caption(caption: Caption, image: ImageSource | None) -> str:
    """Format a caption as HTML.

    Args:
        caption: The caption, with or without maps.
        image: Its image; None or a missing file shows only the words.

    Returns:
        An HTML element with inline styles.
    """
    photograph = _photograph(image)
    figures = [] if photograph is None else [_figure(photograph, PHOTOGRAPH_SIDE, "")]
    for place, word in enumerate(caption.words):
        note = f"{escape(word)} <small>{math.exp(caption.word_log_probabilities[place]):.0%}</small>"
        if photograph is None or caption.attention is None:
            figures.append(f'<span style="margin-right: 8px">{note}</span>')
        else:
            small = photograph.copy()
            small.thumbnail((MAP_SIDE, MAP_SIDE))
            figures.append(_figure(paint(small, caption.attention[place], caption.region), MAP_SIDE, note))
    others = "".join(f"<div><small>{escape(other.text)}</small></div>" for other in caption.alternatives)
    return f"<div><div><b>{escape(caption.text)}</b></div>{''.join(figures)}{others}</div>"


def _photograph(image: ImageSource | None) -> Image.Image | None:
    try:
        return None if image is None else load_photograph(image, PHOTOGRAPH_SIDE)
    except CaptionerError:
        return None


def _figure(picture: Image.Image, side: int, note: str) -> str:
    shown = picture.copy()
    shown.thumbnail((side, side))
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode()
    image = f'<img src="data:image/jpeg;base64,{data}" width="{shown.width}" height="{shown.height}" alt="">'
    style = "display: inline-block; margin: 4px; vertical-align: top"
    return f'<figure style="{style}">{image}<figcaption>{note}</figcaption></figure>'
