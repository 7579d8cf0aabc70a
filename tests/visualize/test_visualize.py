"""From a cell of the grid to the pixels under it, and the files that are drawn."""

from __future__ import annotations

import base64
import json
import re
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_captioner
from PIL import Image

from captioner.caption import Caption
from captioner.data.transforms import Transform
from captioner.errors import CaptionerError
from captioner.pipeline import Captioner
from captioner.text.vocabulary import END, START
from captioner.visualize import plot
from captioner.visualize.animation import animate
from captioner.visualize.gallery import Photograph, write_gallery
from captioner.visualize.overlay import paint, spread
from captioner.visualize.page import draw_page
from captioner.visualize.saliency import gradient_saliency

CELLS = 7
WHOLE = (0.0, 0.0, 1.0, 1.0)


def one_cell(cell: tuple[int, int]) -> np.ndarray:
    weights = np.zeros((CELLS, CELLS), np.float32)
    weights[cell] = 1
    return weights


def make_caption(*words: str, region: tuple[float, float, float, float] = WHOLE) -> Caption:
    """Words whose maps lie in one cell each, the first word's in cell 0, the next one's in cell 1, and so on."""
    maps = np.stack([one_cell(divmod(index % CELLS**2, CELLS)) for index in range(len(words))])
    return Caption(words, (-0.5,) * (len(words) + 1), maps, region)


def payload_of(page: str) -> str:
    """The data that a page carries, as JSON."""
    [payload] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return str(payload)


def fractions(transform: Transform, width: int, height: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = transform.region(width, height)
    return left / width, top / height, right / width, bottom / height


@pytest.mark.parametrize("cell", [(0, 0), (2, 5), (6, 3), (3, 3), (6, 6)])
@pytest.mark.parametrize("size", [(210, 140), (140, 210), (168, 168), (643, 97)])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_bright_patch_lies_under_the_map_of_the_cell_that_saw_it(
    cell: tuple[int, int], size: tuple[int, int], resize: str
) -> None:
    transform = Transform(224, resize)  # type: ignore[arg-type]
    left, top, right, bottom = transform.region(*size)
    cell_width, cell_height = (right - left) / CELLS, (bottom - top) / CELLS
    center_x, center_y = left + (cell[1] + 0.5) * cell_width, top + (cell[0] + 0.5) * cell_height
    picture = Image.new("RGB", size, "black")
    patch = (max(round(cell_width / 2), 1), max(round(cell_height / 2), 1))
    picture.paste(
        "white", (int(center_x - patch[0] / 2), int(center_y - patch[1] / 2), *_end(center_x, center_y, patch))
    )

    seen = np.asarray(transform.scale(picture).convert("L"), float)
    brightness = seen.reshape(CELLS, 224 // CELLS, CELLS, 224 // CELLS).mean(axis=(1, 3))
    assert np.unravel_index(brightness.argmax(), brightness.shape) == cell

    field = spread(one_cell(cell), fractions(transform, *size), size)
    rows, columns = np.nonzero(field > 0.95)
    assert abs(columns.mean() + 0.5 - center_x) <= cell_width / 2
    assert abs(rows.mean() + 0.5 - center_y) <= cell_height / 2
    y, x = (np.asarray(picture.convert("L")) > 128).nonzero()
    assert abs(columns.mean() - x.mean()) <= cell_width / 2
    assert abs(rows.mean() - y.mean()) <= cell_height / 2


def _end(x: float, y: float, patch: tuple[int, int]) -> tuple[int, int]:
    return int(x - patch[0] / 2) + patch[0], int(y - patch[1] / 2) + patch[1]


@pytest.mark.parametrize("cell", [(0, 0), (2, 5), (6, 3)])
@pytest.mark.parametrize("size", [(210, 140), (140, 210)])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_panel_is_brightest_where_the_map_is(cell: tuple[int, int], size: tuple[int, int], resize: str) -> None:
    transform = Transform(224, resize)  # type: ignore[arg-type]
    left, top, right, bottom = transform.region(*size)
    caption = Caption(("spot",), (0.0, 0.0), one_cell(cell)[None], fractions(transform, *size))
    figure = plot(Image.new("RGB", size, "black"), caption)
    axis = figure.axes[1]
    _, heat = axis.images
    heat.set_cmap("gray")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    drawn = np.asarray(Image.open(buffer).convert("L"), float)
    box = axis.get_window_extent()
    panel = drawn[
        round(len(drawn) - box.y1) + 1 : round(len(drawn) - box.y0) - 1, round(box.x0) + 1 : round(box.x1) - 1
    ]
    rows, columns = np.nonzero(panel > 0.95 * panel.max())
    x, y = columns.mean() / panel.shape[1] * size[0], rows.mean() / panel.shape[0] * size[1]
    cell_width, cell_height = (right - left) / CELLS, (bottom - top) / CELLS
    assert abs(x - (left + (cell[1] + 0.5) * cell_width)) <= cell_width / 2
    assert abs(y - (top + (cell[0] + 0.5) * cell_height)) <= cell_height / 2


def test_what_the_encoder_did_not_see_has_no_attention() -> None:
    field = spread(np.ones((CELLS, CELLS)), fractions(Transform(224, "crop"), 200, 100), (200, 100))
    assert np.isnan(field[:, :50]).all()
    assert np.isnan(field[:, 150:]).all()
    np.testing.assert_allclose(field[:, 50:150], 1, atol=1e-6)
    painted = np.asarray(paint(Image.new("RGB", (200, 100), "gray"), np.ones((CELLS, CELLS)), (0.25, 0, 0.75, 1)))
    assert (painted[:, :50] == painted[0, 0]).all()
    assert (painted[0, 0] == painted[0, 0, 0]).all()


def test_an_even_map_is_at_its_peak_everywhere() -> None:
    np.testing.assert_allclose(spread(np.full((CELLS, CELLS), 0.02, np.float32), WHOLE, (90, 60)), 1, atol=1e-6)
    assert (spread(np.zeros((CELLS, CELLS), np.float32), WHOLE, (90, 60)) == 0).all()


def test_a_map_rises_smoothly_between_the_centers_of_its_cells() -> None:
    weights = np.zeros((1, 5), np.float32)
    weights[0, 2] = 0.3
    [row] = spread(weights, WHOLE, (500, 1))
    assert row[249:251] == pytest.approx(1, abs=0.01)
    assert row[[149, 150, 349, 350]] == pytest.approx(0, abs=0.01)
    assert 0.4 < row[200] < 0.7  # the edge of two cells
    assert np.abs(np.diff(row)).max() < 0.03


def test_panels_keep_the_photographs_shape_and_stand_in_reading_order() -> None:
    caption = make_caption(*["a", "dog", "runs", "on", "grass"])
    figure = plot(Image.new("RGB", (200, 100)), caption)
    panels = figure.axes[:6]
    assert [axis.get_title() for axis in panels] == ["photograph", *caption.words]
    places = [axis.get_position() for axis in panels]
    assert places == sorted(places, key=lambda place: (-round(place.y0, 6), place.x0))
    for axis in panels:
        box = axis.get_window_extent()
        assert box.width / box.height == pytest.approx(2)
    assert figure.axes[6].get_xticks().tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(("words", "size"), [(1, (30, 30)), (60, (300, 200)), (150, (20, 200)), (3, (1000, 50))])
def test_a_sheet_holds_any_number_of_words(words: int, size: tuple[int, int]) -> None:
    figure = plot(Image.new("RGB", size), make_caption(*["word"] * words))
    width, height = figure.get_size_inches() * 100
    assert len(figure.axes) == words + 2
    assert max(width, height) < 2**15
    for axis in figure.axes:
        place = axis.get_position()
        assert min(place.x0, place.y0) >= 0
        assert max(place.x1, place.y1) <= 1


def test_words_stay_within_their_panels() -> None:
    figure = plot(Image.new("RGB", (50, 90)), make_caption("x", "internationalisation", "long" * 100))
    figure.savefig(BytesIO(), format="png")
    for axis in figure.axes[:4]:
        title = axis.title.get_window_extent()
        assert title.width <= axis.get_window_extent().width + 4


def test_a_dollar_sign_is_no_formula() -> None:
    plot(Image.new("RGB", (20, 20)), make_caption("$x", "^$")).savefig(BytesIO(), format="png")


def test_without_attention_or_words_there_is_nothing_to_draw() -> None:
    image = Image.new("RGB", (20, 20))
    for draw in (plot, animate, partial(draw_page, name="x.jpg")):
        with pytest.raises(CaptionerError, match="there is no attention to show; .* set saliency to gradient$"):
            draw(image, Caption(("a",), (0.0,), None, WHOLE))
    for draw in (plot, animate):
        with pytest.raises(CaptionerError, match="the caption has no words"):
            draw(image, Caption((), (0.0,), np.zeros((0, 2, 2)), WHOLE))


def test_an_animation_shows_the_photograph_then_every_word() -> None:
    caption = make_caption(*["a", "dog", "runs"])
    with Image.open(BytesIO(animate(Image.new("RGB", (280, 210), "gray"), caption))) as gif:
        assert gif.format == "GIF"
        assert gif.n_frames == 4  # type: ignore[attr-defined]
        assert gif.info["loop"] == 0
        durations = []
        for frame in range(4):
            gif.seek(frame)
            durations.append(gif.info["duration"])
            picture = np.asarray(gif.convert("RGB"), int)[:210]
            if frame:
                brightest = picture.sum(axis=2) == picture.sum(axis=2).max()
                rows, columns = brightest.nonzero()
                assert (int(rows.mean() // 30), int(columns.mean() // 40)) == divmod(frame - 1, CELLS)
        assert durations == [2000, 800, 800, 800]


def test_a_long_caption_in_an_animation_takes_more_lines() -> None:
    short, long = (animate(Image.new("RGB", (50, 50)), make_caption(*["word"] * count)) for count in (1, 40))
    heights = [Image.open(BytesIO(content)).height for content in (short, long)]
    assert heights[1] > heights[0] + 100


HOSTILE = ("<script>alert(1)</script>", "</script>", "&amp;", '"', "{{script}}", "\u2028", "<!--")


def test_a_visual_sentinel_is_told_beside_the_map() -> None:
    model, image = make_captioner("adaptive"), Image.effect_noise((90, 60), 80)
    caption = model.caption(image, min_words=1)
    assert caption.looking_away is not None
    notes = [text.get_text() for axis in plot(image, caption).axes for text in axis.texts]
    for share in caption.looking_away:
        assert any(note.endswith(f", away {share:.0%}") for note in notes)


def test_a_panel_tells_its_words_probability_and_its_maps_peak() -> None:
    maps = np.full((2, CELLS, CELLS), 0.01, np.float32)
    maps[0, 0, 0], maps[1, 3, 2] = 0.52, 0.25
    caption = Caption(("a", "dog"), (-0.5, -2.0, -0.1), maps, WHOLE)
    notes = [text.get_text() for axis in plot(Image.new("RGB", (90, 60)), caption).axes for text in axis.texts]
    assert [note for note in notes if note] == ["p = 0.61, peak 52%", "p = 0.14, peak 25%"]


def test_a_page_holds_each_map_as_shares_of_its_peak() -> None:
    maps = np.array([[[0.1, 0.3], [0.2, 0.4]], [[0.0, 0.0], [0.0, 0.5]], [[0.25] * 2] * 2], np.float32)
    caption = Caption(("a", "dog", "runs"), (-0.5, -2.0, -1.0, -0.1), maps, WHOLE)
    page = draw_page(Image.new("RGB", (20, 20)), caption, "dog.jpg")
    data = json.loads(payload_of(page))
    [described] = data["captions"]
    assert (data["rows"], data["columns"]) == (2, 2)
    assert list(base64.b64decode(described["maps"])) == [64, 191, 128, 255, 0, 0, 0, 255, 255, 255, 255, 255]
    assert [peak["cell"] for peak in described["peaks"]] == [[1, 1], [1, 1], [0, 0]]
    assert [peak["share"] for peak in described["peaks"]] == pytest.approx([0.4, 0.5, 0.25])
    assert described["logProbabilities"] == [-0.5, -2.0, -1.0]


def test_a_page_asks_for_nothing_and_escapes_what_it_is_given() -> None:
    page = draw_page(Image.new("RGB", (20, 20)), make_caption(*HOSTILE), "<img src=x>\udce9.jpg")
    page.encode()
    assert page.count("<script") == page.count("</script>") == 2
    assert page.count("<img") == 1
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", page)
    assert "http:" not in page
    assert "https:" not in page
    payload = payload_of(page)
    assert payload.isascii()
    data = json.loads(payload)
    assert data["captions"][0]["words"] == list(HOSTILE)
    assert set(data) >= {"region", "rows", "columns"}


def test_a_gallery_has_a_card_and_a_page_a_photograph(tmp_path: Path) -> None:
    output = tmp_path / "my gällery & co.html"
    photographs = [
        Photograph(f"<b>{number}.jpg", Image.new("RGB", (900, 30 + number)), make_caption("<i>", "dog"))
        for number in range(3)
    ]
    write_gallery(output, photographs, "<u>")
    folder = tmp_path / "my gällery & co_files"
    assert sorted(file.name for file in folder.iterdir()) == [
        f"{number:05}.{kind}" for number in (1, 2, 3) for kind in ("html", "jpg")
    ]
    text = output.read_text()
    assert text.count("<li>") == text.count('loading="lazy"') == 3
    assert not re.search("<[biu]>", text)
    with Image.open(folder / "00001.jpg") as thumbnail:
        assert max(thumbnail.size) == 360
    pages = [(folder / f"{number:05}.html").read_text() for number in (1, 2, 3)]
    assert ['rel="prev"' in page for page in pages] == [False, True, True]
    assert ['rel="next"' in page for page in pages] == [True, True, False]

    write_gallery(output, photographs[:1])
    assert sorted(file.name for file in folder.iterdir()) == ["00001.html", "00001.jpg"]
    with pytest.raises(CaptionerError, match="there is no photograph to show"):
        write_gallery(output, [])


@pytest.mark.parametrize("attention", ["none", "soft"])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_gradients_give_maps_to_any_model(attention: str, resize: str) -> None:
    model = make_captioner(attention, resize=resize)
    image = Image.effect_noise((90, 60), 80)
    caption = model.caption(image, num_captions=2, min_words=1)
    with_maps = gradient_saliency(model, image, caption)
    for before, after in zip((caption, *caption.alternatives), (with_maps, *with_maps.alternatives), strict=True):
        assert after.words == before.words
        assert after.region == before.region
        assert after.attention is not None
        assert after.attention.shape == (len(after.words), 14, 14)
        np.testing.assert_allclose(after.attention.sum(axis=(1, 2)), 1, rtol=1e-5)
    plot(image, with_maps)
    assert not any(parameter.grad is not None for parameter in model.model.parameters())


def test_gradients_of_an_ensemble_are_the_sum_of_its_members() -> None:
    members = [make_captioner("soft", size=112, seed=2), make_captioner("none", size=56)]
    both = Captioner(members[0].model, members[0].vocabulary, {}, others=[members[1].model])
    # Pillow's noise depends on what the process has drawn before.
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (112, 112, 3), dtype=np.uint8))
    caption = both.caption(image)
    assert caption.words
    # A map sums to 1: what the gradients' lengths were is put back by numbers that make their sum the given one.
    shown = [gradient_saliency(model, image, caption).attention for model in (both, *members)]
    for maps in zip(*[each for each in shown if each is not None], strict=True):
        found, *alone = [each.ravel() for each in maps]
        shares, residual, *_ = np.linalg.lstsq(np.stack(alone, axis=1), found, rcond=None)
        assert len(alone) == 2
        assert shares.min() > 0.01
        assert shares.sum() == pytest.approx(1, abs=1e-4)
        assert residual.sum() < 1e-9


def test_gradients_need_members_that_see_one_part_of_the_photograph() -> None:
    one, other = make_captioner(resize="squash"), make_captioner(resize="crop")
    both = Captioner(one.model, one.vocabulary, {}, others=[other.model])
    image = Image.new("RGB", (90, 60))
    with pytest.raises(CaptionerError, match="see other parts of a photograph each; give one of them"):
        gradient_saliency(both, image, both.caption(image))


@pytest.mark.parametrize("attention", ["none", "soft", "hard", "top_down"])
def test_gradient_maps_are_those_of_teacher_forcing(attention: str) -> None:
    model = make_captioner(attention, size=112)
    image = Image.effect_noise((112, 112), 80).convert("RGB")
    words = ("dog", "runs", "on")
    maps = gradient_saliency(model, image, Caption(words, (0.0,) * 4, None, WHOLE)).attention
    assert maps is not None
    pixels = model.transform(image).unsqueeze(0).requires_grad_()
    logits, targets, *_ = model.model(pixels, torch.tensor([[[START, *map(model.vocabulary.id, words), END]]]))
    for index in range(len(words)):
        log_probability = logits.log_softmax(-1)[index, targets[index]]
        (gradient,) = torch.autograd.grad(log_probability, pixels, retain_graph=True)
        cells = gradient.square().sum(dim=1).sqrt()[0].unfold(0, 8, 8).unfold(1, 8, 8).mean(dim=(2, 3))
        np.testing.assert_allclose(maps[index], cells / cells.sum(), rtol=1e-3, atol=1e-6)


def test_everything_is_drawn_over_the_upright_photograph(tmp_path: Path) -> None:
    file = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: 90 × 60 pixels show a photograph of 60 × 90
    Image.new("RGB", (90, 60), "red").save(file, exif=exif)
    caption = make_caption("a", "dog")
    for axis in plot(file, caption).axes[:3]:
        box = axis.get_window_extent()
        assert box.height / box.width == pytest.approx(1.5)
    [photograph] = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', draw_page(file, caption, "turned.jpg"))
    with Image.open(BytesIO(base64.b64decode(photograph))) as embedded:
        assert embedded.size == (60, 90)
        assert 0x0112 not in embedded.getexif()
