"""Writes pictures that are no photographs: a captioner should know that it has nothing to say about them.

    python tools/data/make_nonphotos.py data/nonphotos/fit --part fit
    python tools/data/make_nonphotos.py data/nonphotos/test --part test

``fit`` is for ``captioner calibrate``, ``test`` for measuring what comes of it. Both are drawn by chance, each from its
own seed, and ``test`` has kinds that ``fit`` lacks (`HELD_OUT`), so that it also shows what becomes of kinds that
nobody thought of. The name of a picture begins with its kind.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from captioner.errors import CaptionerError
from captioner.utils.files import replacing

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)

FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol")
"""What matplotlib brings along, so that pages look alike on every machine."""
FIXED_WIDTH = "DejaVuSansMono"

TEXT = (
    "the of and a to in is that for with as on are by this be from at or an we can which not it has will one their "
    "all more these time other when there used its than section results value number model order system figure data "
    "first between each table using two given may also our both where method page during state report total year "
    "market price week letter office please account service team project plan review agreement public general small"
)
"""Words of pages; what they say does not matter."""

CODE_WORDS = "def return for in if else import class self None value index items range len print while not and"
"""Words of listings."""

SIDES = (200, 640)
"""Least and greatest side of a picture, in pixels."""


class Chance(random.Random):
    """Where the chance comes from, with what the kinds ask of it."""

    def size(self) -> tuple[int, int]:
        """Width and height of a picture."""
        return self.randint(*SIDES), self.randint(*SIDES)

    def color(self, least: int = 0, most: int = 255) -> Colour:
        """Any colour with channels within bounds."""
        return self.randint(least, most), self.randint(least, most), self.randint(least, most)

    def inks(self) -> tuple[Colour, Colour]:
        """Paper and ink: mostly dark on light, sometimes light on dark."""
        paper, ink = self.color(225), self.color(0, 90)
        return (paper, ink) if self.random() < 0.75 else (self.color(0, 60), self.color(170))

    def numbers(self) -> np.random.Generator:
        """A generator of arrays."""
        return np.random.default_rng(self.getrandbits(32))

    def font(self, size: int, name: str | None = None) -> ImageFont.FreeTypeFont:
        """A font in pixels, one of `FONTS` unless it is named."""
        folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        return ImageFont.truetype(str(folder / f"{name or self.choice(FONTS)}.ttf"), size)

    def words(self, least: int, most: int, source: str = TEXT) -> str:
        """Some words in a row."""
        return " ".join(self.choice(source.split()) for _ in range(self.randint(least, most)))


def blank(chance: Chance) -> Image.Image:
    """One colour; black and white are the likeliest."""
    plain = chance.choice([BLACK, WHITE, chance.color(), chance.color()])
    return Image.new("RGB", chance.size(), plain)


def noise(chance: Chance) -> Image.Image:
    """Every pixel, or block of pixels, by itself: uniform, normal, salt and pepper; grey or in colours."""
    width, height = chance.size()
    block, channels = chance.choice([1, 1, 2, 4, 16]), chance.choice([1, 3])
    shape = (height // block + 1, width // block + 1, channels)
    numbers = chance.numbers()
    kind = chance.randrange(3)
    values: np.ndarray
    if kind == 0:
        values = numbers.uniform(0, 255, shape)
    elif kind == 1:
        values = numbers.normal(chance.uniform(60, 200), chance.uniform(10, 80), shape)
    else:
        values = 255.0 * (numbers.random(shape) < chance.uniform(0.1, 0.9))
    picture = _picture(np.broadcast_to(values, (*shape[:2], 3)))
    return picture.resize((width, height), Image.Resampling.NEAREST)


def clouds(chance: Chance) -> Image.Image:
    """Noise of many scales added up, smooth like smoke."""
    size, channels = chance.size(), chance.choice([1, 1, 3])
    numbers = chance.numbers()
    layers = []
    for octave in range(1, chance.randint(3, 7)):
        coarse = numbers.uniform(-1, 1, (2**octave, 2**octave, channels)) / octave ** chance.uniform(0.5, 2)
        bands = [
            np.asarray(Image.fromarray(band.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
            for band in np.moveaxis(coarse, 2, 0)
        ]
        layers.append(np.stack(bands, axis=2))
    values = np.sum(layers, axis=0)
    values = (values - values.min()) / np.ptp(values)
    first, second = np.array(chance.color()), np.array(chance.color())
    return _picture(first + (second - first) * values)


def gradient(chance: Chance) -> Image.Image:
    """From one colour to another, or through several; straight, round or around a centre."""
    width, height = chance.size()
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    angle, x0, y0 = chance.uniform(0, 2 * np.pi), chance.uniform(-1, 1), chance.uniform(-1, 1)
    along = chance.choice(
        [
            x * np.cos(angle) + y * np.sin(angle),
            np.hypot(x - x0, y - y0),
            np.arctan2(y - y0, x - x0),
        ]
    )
    along = (along - along.min()) / np.ptp(along)
    stops = np.array([chance.color() for _ in range(chance.choice([2, 2, 3, 6]))])
    places = np.linspace(0, 1, len(stops))
    return _picture(np.stack([np.interp(along, places, stops[:, c]) for c in range(3)], axis=2))


def page(chance: Chance) -> Image.Image:
    """A page of text, in one column or more, with or without headings."""
    width, height = chance.size()
    paper, ink = chance.inks()
    picture = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(picture)
    size, margin = chance.randint(9, 26), chance.randint(8, 40)
    columns = chance.choice([1, 1, 2, 3])
    gap = size
    wide = (width - 2 * margin - gap * (columns - 1)) // columns
    body, heading = chance.font(size), chance.font(round(1.6 * size))
    for column in range(columns):
        left, top = margin + column * (wide + gap), margin
        while top < height - margin:
            if chance.random() < 0.06:
                draw.text((left, top), _fitting(chance.words(2, 5).title(), heading, wide), ink, heading)
                top += round(2.4 * size)
            else:
                draw.text((left, top), _fitting(chance.words(14, 20), body, wide), ink, body)
                top += round((1.3 if chance.random() < 0.9 else 2.2) * size)
    return picture


def listing(chance: Chance) -> Image.Image:
    """Source code, indented, in colours."""
    width, height = chance.size()
    paper, ink = chance.inks()
    picture = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(picture)
    size = chance.randint(9, 20)
    font = chance.font(size, FIXED_WIDTH)
    inks = [ink, *(tuple((2 * a + b) // 3 for a, b in zip(ink, chance.color(), strict=True)) for _ in range(3))]
    indent = 0
    for line, top in enumerate(range(6, height, round(1.35 * size))):
        indent = max(0, min(4, indent + chance.choice([-1, 0, 0, 1])))
        draw.text((4, top), f"{line:3}", inks[1], font)
        left = 4 + (5 + 4 * indent) * size * 0.6
        for word in chance.words(0, 9, f"{CODE_WORDS} {TEXT}").split():
            draw.text((left, top), word, chance.choice(inks), font)
            left += (len(word) + 1) * size * 0.6
    return picture


def screenshot(chance: Chance) -> Image.Image:
    """A desktop with windows: title bars, menus, buttons, lists, text."""
    width, height = chance.size()
    picture = gradient(chance).resize((width, height)) if chance.random() < 0.5 else Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(picture)
    if not picture.getbbox():
        draw.rectangle((0, 0, width, height), chance.color())
    paper, ink = chance.inks()
    accent = chance.color(30, 220)
    small = chance.font(chance.randint(9, 14), chance.choice(FONTS[:2]))
    for _ in range(chance.randint(1, 4)):
        left, top = chance.randint(-20, width // 2), chance.randint(0, height // 2)
        right = left + chance.randint(width // 3, width)
        bottom = top + chance.randint(height // 3, height)
        draw.rectangle((left, top, right, bottom), paper, accent)
        draw.rectangle((left, top, right, top + 20), accent)
        draw.text((left + 6, top + 4), chance.words(1, 3).title(), WHITE, small)
        for button in range(3):
            draw.ellipse((right - 18 * (button + 1), top + 5, right - 18 * button - 8, top + 15), chance.color())
        draw.text((left + 6, top + 24), "File  Edit  View  Tools  Help", ink, small)
        line = top + 44
        while line < bottom - 16:
            kind = chance.random()
            if kind < 0.15:
                draw.rounded_rectangle((left + 10, line, left + 90, line + 14), 4, accent)
                draw.text((left + 16, line + 1), chance.words(1, 1), WHITE, small)
            elif kind < 0.3:
                draw.rectangle((left + 10, line, right - 10, line + 14), paper, ink)
            else:
                draw.rectangle((left + 10, line + 2, left + 18, line + 10), chance.color())
                draw.text((left + 26, line), _fitting(chance.words(3, 12), small, right - left - 34), ink, small)
            line += 20
    draw.rectangle((0, height - 22, width, height), chance.color(0, 80))
    for place in range(chance.randint(3, 9)):
        draw.rectangle((6 + 24 * place, height - 19, 22 + 24 * place, height - 4), chance.color())
    return picture


def chart(chance: Chance) -> Image.Image:
    """Bars, lines, points, pies, histograms and areas, as matplotlib draws them."""
    numbers = chance.numbers()
    figure = _figure(chance)
    axes = figure.subplots(*chance.choice([(1, 1), (1, 1), (1, 2), (2, 2)]), squeeze=False)
    for ax in axes.flat:
        count = chance.randint(3, 9)
        x, y = np.arange(count), numbers.uniform(0.1, 1, count)
        kind = chance.randrange(6)
        if kind == 0:
            colors = [[part / 255 for part in chance.color()] for _ in range(chance.choice([1, count]))]
            (ax.bar if chance.random() < 0.6 else ax.barh)(x, y, color=colors)
        elif kind == 1:
            for _ in range(chance.randint(1, 5)):
                ax.plot(numbers.normal(0.1, 1, 60).cumsum(), marker=chance.choice(["", "", "o", "s"]))
        elif kind == 2:
            ax.scatter(
                numbers.normal(0, 1, 80), numbers.normal(0, 1, 80), s=chance.randint(5, 60), c=numbers.random(80)
            )
        elif kind == 3:
            ax.pie(y, labels=[chance.words(1, 1) for _ in y], wedgeprops={"width": chance.choice([1, 0.4])})
        elif kind == 4:
            ax.hist(numbers.normal(0, 1, 300), bins=chance.randint(8, 30))
        else:
            ax.stackplot(x, *(numbers.uniform(0.1, 1, count) for _ in range(3)))
        if chance.random() < 0.7:
            ax.set_title(chance.words(2, 4).title())
            if kind != 3:
                ax.set_xlabel(chance.words(1, 2))
                ax.grid(chance.random() < 0.5)
    return _drawn(figure)


def logo(chance: Chance) -> Image.Image:
    """A sign of a few plain shapes, often with a name."""
    width, height = chance.size()
    ground = WHITE if chance.random() < 0.6 else chance.color()
    picture = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(picture)
    radius = min(width, height) * chance.uniform(0.15, 0.35)
    x, y = width / 2, height * chance.uniform(0.35, 0.5)
    for _ in range(chance.randint(1, 4)):
        r, color = radius * chance.uniform(0.3, 1), chance.color(0, 230)
        box = (x - r, y - r, x + r, y + r)
        kind = chance.randrange(5)
        if kind == 0:
            draw.ellipse(box, color)
        elif kind == 1:
            draw.regular_polygon((x, y, r), chance.randint(3, 8), chance.randint(0, 90), color)
        elif kind == 2:
            draw.rounded_rectangle(box, r / 4, color)
        elif kind == 3:
            draw.arc(box, chance.randint(0, 180), chance.randint(200, 360), color, max(2, round(r / 5)))
        else:
            draw.pieslice(box, chance.randint(0, 180), chance.randint(200, 360), color)
    if chance.random() < 0.7:
        font = chance.font(max(12, round(width / 9)))
        draw.text((x, y + 1.2 * radius), chance.words(1, 2).upper()[:12], chance.color(0, 150), font, anchor="ma")
    return picture


def line_art(chance: Chance) -> Image.Image:
    """Drawn lines: curves, polygons, spirals, scribbles, on paper."""
    width, height = chance.size()
    paper, ink = chance.inks()
    picture = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(picture)
    numbers = chance.numbers()
    t = np.linspace(0, 2 * np.pi, 400)
    thick = chance.randint(1, 5)
    for _ in range(chance.randint(1, 10)):
        x0, y0, size = chance.uniform(0, width), chance.uniform(0, height), chance.uniform(30, 200)
        kind = chance.randrange(4)
        if kind == 0:
            a, b = chance.randint(1, 5), chance.randint(1, 5)
            x, y = x0 + size * np.sin(a * t), y0 + size * np.sin(b * t + 1)
        elif kind == 1:
            turns = chance.randint(2, 8)
            x, y = x0 + size * t / 6 * np.cos(turns * t), y0 + size * t / 6 * np.sin(turns * t)
        elif kind == 2:
            steps = numbers.normal(0, size / 8, (60, 2)).cumsum(0)
            x, y = x0 + steps[:, 0], y0 + steps[:, 1]
        else:
            corners = np.linspace(0, 2 * np.pi, chance.randint(4, 9))
            x, y = x0 + size * np.cos(corners), y0 + size * np.sin(corners)
        draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), ink, thick)
    return picture


def pattern(chance: Chance) -> Image.Image:
    """Stripes, squares, dots, waves: wallpaper."""
    width, height = chance.size()
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    step = chance.randint(4, 80)
    angle = chance.choice([0, np.pi / 2, np.pi / 4, chance.uniform(0, np.pi)])
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    inside = chance.choice(
        [
            u % step < step / 2,
            (u // step + v // step) % 2 == 0,
            np.hypot(u % step - step / 2, v % step - step / 2) < step / 3,
            np.sin(u / step + np.sin(v / step)) > 0,
            (u % step < 2) | (v % step < 2),
        ]
    )
    return _picture(np.where(inside[..., None], chance.color(), chance.color()))


def table(chance: Chance) -> Image.Image:
    """A spreadsheet of numbers and words, with rules."""
    width, height = chance.size()
    paper, ink = chance.inks()
    picture = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(picture)
    size = chance.randint(9, 16)
    font, wide, high = chance.font(size, chance.choice(FONTS[:3])), chance.randint(50, 110), round(1.7 * size)
    rule = tuple((3 * a + b) // 4 for a, b in zip(paper, ink, strict=True))
    for row, top in enumerate(range(0, height, high)):
        for column, left in enumerate(range(0, width, wide)):
            draw.rectangle((left, top, left + wide, top + high), rule if row == 0 else None, rule)
            word = chance.words(1, 1) if row == 0 or column == 0 else f"{chance.uniform(0, 5000):.1f}"
            draw.text((left + 4, top + 3), word, ink, font)
    return picture


def slide(chance: Chance) -> Image.Image:
    """A title, points below each other, boxes with arrows."""
    width = chance.randint(320, 640)
    height = width * 9 // 16
    paper, ink = chance.inks()
    picture = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(picture)
    accent = chance.color(20, 220)
    draw.rectangle((0, 0, width, height // 6), accent if chance.random() < 0.5 else paper)
    draw.text((20, height // 24), chance.words(2, 4).title(), ink, chance.font(height // 11))
    font = chance.font(height // 18)
    for point in range(chance.randint(2, 6)):
        draw.text((28, height // 4 + point * height // 9), f"• {chance.words(3, 6)}", ink, font)
    for box in range(chance.randint(0, 3)):
        left = width * 0.55 + chance.uniform(0, 30)
        top = height * (0.25 + 0.22 * box)
        draw.rectangle((left, top, left + width / 4, top + height / 7), accent, ink)
        draw.line((left + width / 8, top + height / 7, left + width / 8, top + height * 0.22), ink, 2)
    return picture


def code_matrix(chance: Chance) -> Image.Image:
    """Squares like those of a QR code, with its three marks in the corners; or a barcode."""
    numbers = chance.numbers()
    if chance.random() < 0.3:
        bars = np.repeat(numbers.random(90) < 0.5, chance.randint(2, 5))
        cells = np.broadcast_to(bars, (chance.randint(80, 240), len(bars)))
    else:
        count = chance.choice([21, 25, 29, 33])
        cells = numbers.random((count, count)) < 0.5
        mark = np.pad(np.pad(np.ones((3, 3), bool), 1), 1, constant_values=True)
        for rows, columns in ((slice(7), slice(7)), (slice(7), slice(-7, None)), (slice(-7, None), slice(7))):
            cells[rows, columns] = mark
        cells = np.kron(cells, np.ones((chance.randint(6, 14),) * 2, bool))
    cells = np.pad(cells, chance.randint(8, 60))
    return _picture(np.where(cells[..., None], chance.color(0, 50), chance.color(235)))


def town_map(chance: Chance) -> Image.Image:
    """Streets, water, parks and names, as town maps show them."""
    width, height = chance.size()
    picture = Image.new("RGB", (width, height), (242, 239, 233))
    draw = ImageDraw.Draw(picture)
    for _ in range(chance.randint(2, 7)):
        x, y, size = chance.uniform(0, width), chance.uniform(0, height), chance.uniform(30, 130)
        angles = sorted(chance.uniform(0, 2 * np.pi) for _ in range(8))
        area = [(x + size * np.cos(a) * chance.uniform(0.5, 1), y + size * np.sin(a)) for a in angles]
        draw.polygon(area, chance.choice([(170, 211, 223), (200, 230, 180), (223, 215, 205)]))
    turn = chance.uniform(0, np.pi)
    for thick, color, count in ((3, WHITE, 25), (7, (252, 214, 164), 5), (9, (232, 146, 162), 2)):
        for _ in range(count):
            x, y = chance.uniform(0, width), chance.uniform(0, height)
            angle = turn + chance.choice([0, np.pi / 2]) + chance.gauss(0, 0.1)
            dx, dy = 1000 * np.cos(angle), 1000 * np.sin(angle)
            draw.line((x - dx, y - dy, x + dx, y + dy), color, thick)
    font = chance.font(11, FONTS[0])
    for _ in range(chance.randint(4, 12)):
        place = (chance.uniform(0, width), chance.uniform(0, height))
        draw.text(place, chance.words(1, 2).title(), (90, 90, 90), font)
    return picture


def notes(chance: Chance) -> Image.Image:
    """Sheet music: staves with notes."""
    width, height = chance.size()
    picture = Image.new("RGB", (width, height), chance.color(235))
    draw = ImageDraw.Draw(picture)
    gap = chance.randint(5, 10)
    for top in range(20, height - 5 * gap, 9 * gap):
        for line in range(5):
            draw.line((10, top + line * gap, width - 10, top + line * gap), BLACK)
        for left in range(30, width - 20, chance.randint(16, 40)):
            y = top + gap * chance.randint(0, 8) / 2
            draw.ellipse((left, y - gap / 2, left + 1.3 * gap, y + gap / 2), BLACK)
            draw.line((left + 1.3 * gap, y, left + 1.3 * gap, y - 3.5 * gap), BLACK, 2)
    return picture


def field_plot(chance: Chance) -> Image.Image:
    """A surface, contours or a heat map over a plane."""
    x, y = np.meshgrid(np.linspace(-3, 3, 50), np.linspace(-3, 3, 50))
    z = sum(np.exp(-((x - chance.uniform(-2, 2)) ** 2) - (y - chance.uniform(-2, 2)) ** 2) for _ in range(4))
    figure = _figure(chance)
    colors = chance.choice(["viridis", "plasma", "coolwarm", "Greys", "jet"])
    kind = chance.randrange(3)
    if kind == 0:
        figure.add_subplot(projection="3d").plot_surface(x, y, z, cmap=colors)
    elif kind == 1:
        figure.add_subplot().contourf(x, y, z, 12, cmap=colors)
    else:
        figure.add_subplot().imshow(chance.numbers().random((12, 12)), cmap=colors)
    return _drawn(figure)


def mosaic(chance: Chance) -> Image.Image:
    """Plain cells of many colours around random centres, or overlapping polygons."""
    width, height = chance.size()
    numbers = chance.numbers()
    count = chance.randint(8, 80)
    centers = numbers.random((count, 2)) * (width, height)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    nearest = np.zeros((height, width), int)
    distance = np.full((height, width), np.inf)
    for number, (cx, cy) in enumerate(centers):
        here = (x - cx) ** 2 + (y - cy) ** 2
        nearest[here < distance] = number
        distance = np.minimum(distance, here)
    return _picture(numbers.integers(0, 256, (count, 3))[nearest])


Kind = Callable[[Chance], Image.Image]

KINDS: tuple[Kind, ...] = (
    blank, noise, clouds, gradient, page, listing, screenshot, chart, logo, line_art, pattern, table,
)  # fmt: skip
"""What both parts have."""

HELD_OUT: tuple[Kind, ...] = (slide, code_matrix, town_map, notes, field_plot, mosaic)
"""What only ``test`` has."""

PARTS = {"fit": KINDS, "test": KINDS + HELD_OUT}


def write_nonphotos(folder: Path, part: str = "fit", pictures: int = 300, seed: int = 1) -> list[Path]:
    """Writes pictures of all kinds of a part in turn.

    Args:
        folder: Where to write; made where it is missing.
        part: ``fit`` or ``test``.
        pictures: How many, at least one of each kind.
        seed: The same seed gives the same pictures; the same seed of the two parts gives different ones.

    Returns:
        The files.

    Raises:
        CaptionerError: Too few pictures, or a folder that cannot be written to.
    """
    kinds = PARTS[part]
    if pictures < len(kinds):
        raise CaptionerError(f"pictures is {pictures}: give at least {len(kinds)}, one of each kind")
    files = []
    for number in range(pictures):
        kind = kinds[number % len(kinds)]
        # Seeded by text, which random turns into numbers alike everywhere.
        chance = Chance(f"{part} {seed} {number}")
        suffix = chance.choice(["png", "jpg"])
        file = folder / f"{kind.__name__}-{number:04d}.{suffix}"
        content = io.BytesIO()
        kind(chance).save(content, "PNG" if suffix == "png" else "JPEG", quality=chance.randint(60, 95))
        with replacing(file) as temporary:
            temporary.write_bytes(content.getvalue())
        files.append(file)
    return files


def _picture(values: np.ndarray) -> Image.Image:
    """RGB values in [0, 255], cut there, shape (height, width, 3), as a picture."""
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The beginning of a text that is no wider than so many pixels."""
    words = text.split()
    while words and font.getlength(" ".join(words)) > width:
        words.pop()
    return " ".join(words)


def _figure(chance: Chance) -> Figure:
    width, height = chance.size()
    return Figure(figsize=(width / 80, height / 80), dpi=80, layout="constrained")


def _drawn(figure: Figure) -> Image.Image:
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return Image.open(content).convert("RGB")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns 0, or 2 for wrong use."""
    parser = argparse.ArgumentParser(description="Write generated pictures that are no photographs.")
    parser.add_argument("folder", type=Path, help="where to write, such as data/nonphotos/fit")
    parser.add_argument("--part", choices=PARTS, default="fit", help="test has kinds that fit lacks (default: fit)")
    parser.add_argument("--pictures", type=int, default=300, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same set (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        files = write_nonphotos(args.folder, args.part, args.pictures, args.seed)
    except CaptionerError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(f"{len(files)} pictures in {args.folder}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
