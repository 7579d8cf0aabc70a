"""What several test files need: a small captioner with random weights."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import Hub, serving
from make_shapes import write_shapes
from PIL import Image

from captioner.data.transforms import Transform
from captioner.models.captioner import CaptionerConfig, CaptionModel
from captioner.models.decoder import DecoderConfig
from captioner.pipeline import Captioner
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary

# Started by `nohup pytest &`, this process ignores Ctrl-C, and so would the commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

WORDS = (*SPECIAL_WORDS, *["a", "the", "dog", "cat", "runs", "sits", "on", "grass", "road", "red", "'s"])


def make_captioner(
    attention: str = "soft",
    size: int = 64,
    resize: str = "squash",
    seed: int = 1,
    members: int = 1,
    vocabulary: Vocabulary | None = None,
) -> Captioner:
    """A captioner that talks nonsense, the same each time."""
    vocabulary = vocabulary or Vocabulary(WORDS)
    torch.manual_seed(seed + 4)  # the first seeds that have words for any picture
    decoder = DecoderConfig(attention=attention, embedding_size=16, hidden_size=16, attention_size=16, members=members)  # type: ignore[arg-type]
    transform = Transform(size, resize)  # type: ignore[arg-type]
    # The first stages alone, whose weights take 0.2 MB.
    config = CaptionerConfig(encoder_stage="blocks.2", decoder=decoder, transform=transform)
    model = CaptionModel(config, len(vocabulary))
    for parameter in model.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    return Captioner(model, vocabulary, {"data": "none", "licence": "CC0"})


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests compare with float32 whatever this machine's CPU is fast at."""
    monkeypatch.setattr("captioner.models.inference.has_fast_bfloat16", lambda: False)


@pytest.fixture
def exact_products() -> Iterator[None]:
    """Products of a GPU in whole float32: it rounds their factors in convolutions by default, and in training."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.fixture(scope="module", autouse=True)
def _freed() -> Iterator[None]:
    """Return what a file's tests have freed: training has malloc keep it, which suits a run, not a suite."""
    yield
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@pytest.fixture(scope="session")
def tiny() -> Captioner:
    """The small captioner."""
    return make_captioner()


@pytest.fixture(scope="session")
def checkpoint(tiny: Captioner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small captioner as a file."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    tiny.save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three photographs."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, color in enumerate(("red", "green", "blue")):
        image = Image.new("RGB", (90, 60), color)
        image.paste("white", (10 * number, 5, 10 * number + 30, 50))
        image.save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def official() -> dict[str, Any]:
    """Captions of 234 images with the tokens and scores of the official code."""
    file = Path(__file__).parents[2] / "shared" / "metrics" / "fakecap234.json"
    if not file.exists():
        pytest.skip(f"{file} with the official scores is not here")
    content: dict[str, Any] = json.loads(file.read_text())
    return content


@pytest.fixture(scope="module")
def shapes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of the module's own number of PICTURES."""
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, request.module.PICTURES, seed=1, size=64)
    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser, for tests that have the marks `browser.NEEDS_CHROMIUM`."""
    from browser import playwright
    from browsers import CHROMIUM

    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A server that is the Hub of this process, with an empty cache and nobody logged in."""
    # What the library reads from the environment when it is imported, which was long ago.
    constants = "huggingface_hub.constants"
    with serving() as server:
        monkeypatch.setattr(f"{constants}.ENDPOINT", server.address)
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(f"{constants}.HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(f"{constants}.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.fixture
def without_instantiation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """COCO, Flickr8k and weights are not here: configurations alone are tried, in a folder without runs."""
    (tmp_path / "configs").symlink_to(Path(__file__).parents[1] / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("captioner.training.run.CaptionerCLI.instantiate_classes", lambda self: None)
