"""An animated GIF: the caption word by word, each word with its map."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from captioner.caption import Caption
from captioner.data.images import ImageSource
from captioner.utils.caching import memoized
from captioner.visualize.overlay import load_photograph, maps_to_draw, paint

LONGEST_SIDE = 480
LEAST_WIDTH = 240
"""Minimum width; narrower images get margins, so that words fit."""

FONT_SIZE = 20
LINE_HEIGHT = 28
MARGIN = 12

WORD_MILLISECONDS = 800
WHOLE_MILLISECONDS = 2000
"""Duration of the first frame, with the whole caption."""

PAPER, INK, FAINT, MARK = "#ffffff", "#1a1a1a", "#8a8a8a", "#ffd75e"


def animate(image: ImageSource, caption: Caption) -> bytes:
    """Draw the image with its caption, then every word with its map.

    Args:
        image: The image, as for `captioner.Captioner.caption`.
        caption: Its caption.

    Returns:
        The content of a GIF file that loops forever.

    Raises:
        CaptionerError: The model has no attention, or the image is unreadable.
    """
    maps = maps_to_draw(caption)
    photograph = load_photograph(image, LONGEST_SIDE)
    frames = [_frame(photograph, caption.words, None)]
    for index, weights in enumerate(maps):
        frames.append(_frame(paint(photograph, weights, caption.region), caption.words, index))
    frames = [_with_own_palette(frame) for frame in frames]
    buffer = BytesIO()
    frames[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=[WHOLE_MILLISECONDS] + [WORD_MILLISECONDS] * len(maps),
        loop=0,
    )
    return buffer.getvalue()


def _frame(picture: Image.Image, words: tuple[str, ...], current: int | None) -> Image.Image:
    """Draw a frame: an image above the caption, with the current word highlighted and later words faint."""
    width = max(picture.width, LEAST_WIDTH)
    positions, lines = _positions(words, width - 2 * MARGIN)
    frame = Image.new("RGB", (width, picture.height + lines * LINE_HEIGHT + 2 * MARGIN), PAPER)
    frame.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(frame)
    for index, (word, (x, line)) in enumerate(zip(words, positions, strict=True)):
        left, top = MARGIN + x, picture.height + MARGIN + line * LINE_HEIGHT
        if index == current:
            draw.rounded_rectangle((left - 4, top, left + _font().getlength(word) + 3, top + LINE_HEIGHT - 3), 4, MARK)
        color = INK if current is None or index <= current else FAINT
        draw.text((left, top + LINE_HEIGHT // 2 - 1), word, color, _font(), anchor="lm")
    return frame


def _with_own_palette(frame: Image.Image) -> Image.Image:
    """Convert a frame to its own palette of 256 colors, with dithering, to avoid banding."""
    return frame.quantize(palette=frame.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)


def _positions(words: tuple[str, ...], room: int) -> tuple[list[tuple[int, int]], int]:
    """Where each word starts, in pixels and lines, and the number of lines."""
    positions, x, line = [], 0, 0
    space = round(_font().getlength(" "))
    for word in words:
        length = round(_font().getlength(word))
        if x and x + length > room:
            x, line = 0, line + 1
        positions.append((x, line))
        x += length + space
    return positions, line + 1


@memoized()
def _font() -> ImageFont.FreeTypeFont:
    # matplotlib's bundled font has Greek, Cyrillic and more; Pillow's default has only Latin letters.
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), FONT_SIZE)
