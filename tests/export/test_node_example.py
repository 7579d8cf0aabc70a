"""The example for Node, on the embedded model's graphs."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from processes import LONGEST

from captioner.runtime.captioner import OnnxCaptioner

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "node" / "caption.mjs"
MODEL = ROOT / "captioner" / "pretrained" / "captioner.onnx"
SAMPLES = sorted((ROOT / "data" / "samples").glob("*.jpg"))
PACKAGES = ("onnxruntime-node", "protobufjs", "sharp")

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not all((ROOT / "node_modules" / name).is_dir() for name in PACKAGES),
    reason=f"needs Node and npm install {' '.join(PACKAGES)}",
)


def run(*arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", str(EXAMPLE), *map(str, arguments)], capture_output=True, text=True, timeout=LONGEST, check=False
    )


def test_captions_are_those_of_python(tmp_path: Path) -> None:
    captioner = OnnxCaptioner(MODEL)
    scaled = []  # by Pillow, whose pixels sharp's are not exactly
    for sample in SAMPLES:
        scaled.append(tmp_path / f"{sample.stem}.png")
        captioner.description.transforms[0].scale(Image.open(sample).convert("RGB")).save(scaled[-1])
    outcome = run(MODEL, *scaled, *SAMPLES)
    assert outcome.returncode == 0, outcome.stderr
    lines = [json.loads(line) for line in outcome.stdout.splitlines()]
    for line, caption in zip(lines, captioner.caption(scaled, beam_size=1, no_repeat_ngram=0), strict=False):
        assert line["caption"].replace(" an ", " a ") == caption.text.replace(" an ", " a ")
        assert line["log_probability"] == pytest.approx(caption.log_probability, abs=1e-3)
    assert [line["image"] for line in lines] == [str(file) for file in (*scaled, *SAMPLES)]
    assert all(line["caption"] for line in lines)


def test_mistakes_are_told() -> None:
    assert "usage: node caption.mjs model.onnx photo.jpg" in run().stderr
    outcome = run(MODEL.with_name("captioner.step.onnx"), SAMPLES[0])
    assert outcome.returncode != 0
    assert "captioner.step.step.onnx" in outcome.stderr
