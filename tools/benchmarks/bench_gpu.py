"""A GPU at captioning and at training: pictures a second and memory.

Captions are of drawn JPEGs of 640 × 480 pixels, training is a whole run of a configuration on shards of such pictures
without its pretrained weights, which change no speed. The tests that say whether a GPU computes the right thing are
``pytest -m gpu``. ``--device cpu`` tries the section where there is no GPU.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from bench_shards import write_shards
from timing import add_counts, fastest

from captioner.captioning import BATCH_SIZE, LoadedImage, resolve
from captioner.decoding import DecodingOptions
from captioner.errors import CaptionerError
from captioner.pipeline import Captioner, load
from captioner.training.run import parse
from captioner.utils.runtime import keep_freed_memory
from captioner.utils.threads import map_in_threads

SUMMARY = "captioning and training on a GPU: pictures a second, and memory"

PRECISIONS = ("float32", "bfloat16")

Row = dict[str, str | float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The section's arguments."""
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="default: cuda")
    parser.add_argument("--model", metavar="FILE", help="checkpoint that captions (default: the embedded one)")
    text = "configuration that trains (default: %(default)s)"
    parser.add_argument("--config", default="configs/show_attend_tell.yaml", metavar="FILE", help=text)
    parser.add_argument("--compile", default=True, action=argparse.BooleanOptionalAction, help="try torch.compile too")
    add_counts(
        parser,
        ("--count", 1024, "pictures that are captioned"),
        ("--batch-size", BATCH_SIZE, "of them at once"),
        ("--beam-size", 3, "width of the beam"),
        ("--repeats", 2, "runs of captioning; the fastest counts"),
        ("--pictures", 1600, "written for training and validation"),
        ("--steps", 40, "of training"),
        ("--warm-up", 10, "of them that are not timed"),
        ("--workers", 8, "processes that load pictures for training"),
    )


def measure(args: argparse.Namespace) -> list[Row]:
    """Captions in both precisions, then trains in both."""
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here; --device cpu tries the section without one")
    torch.set_float32_matmul_precision("high")  # as captioner train does
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shards(folder, args.pictures)
        files = list(itertools.islice(itertools.cycle(sorted(folder.glob("*.jpg"))), args.count))
        rows = [row for precision in PRECISIONS for row in _captioning(args, device, precision, files)]
        return rows + _training(args, folder)


def _captioning(args: argparse.Namespace, device: torch.device, precision: str, files: list[Path]) -> list[Row]:
    """Captions with what they consist of; the encoder is compiled last, since it stays so."""
    captioner = load(args.model, device, precision)
    options = DecodingOptions(beam_size=args.beam_size)
    batches = [files[start : start + args.batch_size] for start in range(0, len(files), args.batch_size)]
    loaded = read(captioner, batches[0])
    encoder = captioner._prepared[0].encoder

    def caption() -> None:
        for _ in captioner.stream(files, options, args.batch_size):
            pass

    def decode_files() -> None:
        for batch in batches:
            read(captioner, batch)

    def encode() -> None:
        for _ in batches:
            captioner._grids(loaded)

    def encode_channels_first() -> None:
        captioner._prepared[0].encoder = plain  # type: ignore[assignment]
        encode()
        captioner._prepared[0].encoder = encoder

    plain = _ChannelsFirst(copy.deepcopy(encoder))
    ways: dict[str, Callable[[], object]] = {
        "captions": caption,
        "captions, files decoded beside the network": lambda: caption_beside(captioner, batches, options),
        "limit: decoding the files": decode_files,
        "limit: the CNN": encode,
        "the CNN, channels first": encode_channels_first,
    }
    rows = _timed(ways, precision, len(files), args.repeats, device)
    if args.compile:
        encoder.compile()
        ways = {"the CNN, compiled": encode, "captions, CNN compiled": caption}
        rows += _timed(ways, precision, len(files), args.repeats, device)
    return rows


class _ChannelsFirst(torch.nn.Module):
    """An encoder in the other layout of its weights and images."""

    def __init__(self, encoder: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.encoder = encoder.to(memory_format=torch.contiguous_format)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        grids: torch.Tensor = self.encoder.encode_at_once(images.contiguous())
        return grids


def read(captioner: Captioner, files: Sequence[Path]) -> list[LoadedImage]:
    """Decodes and scales files in as many threads as the captioner does."""
    found = map_in_threads(captioner._load, files, torch.get_num_threads())
    return [image for image in found if not isinstance(image, CaptionerError)]


def caption_beside(captioner: Captioner, batches: Sequence[Sequence[Path]], options: DecodingOptions) -> None:
    """Captions batches while the files of the next one are decoded."""
    resolved, rules = resolve(options, captioner.vocabulary)
    with ThreadPoolExecutor(1) as reader:
        coming = [reader.submit(read, captioner, batch) for batch in batches[:1]]
        for number in range(len(batches)):
            images = coming.pop().result()
            coming += [reader.submit(read, captioner, batch) for batch in batches[number + 1 : number + 2]]
            captioner._decode(images, resolved, rules)


def _timed(
    ways: dict[str, Callable[[], object]], precision: str, images: int, repeats: int, device: torch.device
) -> list[Row]:
    def to_its_end(way: Callable[[], object]) -> None:
        way()
        _wait(device)

    rows = []
    for name, way in ways.items():
        _forget_memory(device)
        seconds = fastest({name: partial(to_its_end, way)}, repeats)[name]
        rows.append(_row(f"{name}, {precision}", images, seconds, device))
    return rows


def _training(args: argparse.Namespace, folder: Path) -> list[Row]:
    rows = []
    for precision, compiled in (("32-true", False), ("bf16-mixed", False), ("bf16-mixed", True)):
        if compiled and not args.compile:
            continue
        _forget_memory(torch.device(args.device))
        pace = Pace(args.warm_up)
        run = folder / f"{precision}-{compiled}"
        cli = parse(_arguments(args, folder / "shards", run, precision))
        cli.trainer.callbacks.append(pace)  # type: ignore[attr-defined]
        cli.model.configure_model()
        if compiled:
            cli.model.model.encoder.compile()
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        name = f"training by {Path(args.config).name}, {precision}{', CNN compiled' if compiled else ''}"
        rows.append(_row(name, pace.images, pace.seconds, torch.device(args.device)))
    return rows


def _arguments(args: argparse.Namespace, shards: Path, run: Path, precision: str) -> list[str]:
    options = {
        "data.captions": f"[{shards}]",
        "data.images": "null",
        "data.workers": args.workers,
        "model.encoder.weights": "none",
        "trainer.accelerator": "gpu" if args.device == "cuda" else "cpu",
        "trainer.devices": 1,
        "trainer.precision": precision,
        "trainer.max_epochs": 1,
        "trainer.limit_train_batches": args.steps,
        "trainer.limit_val_batches": 1,
        "trainer.enable_progress_bar": "false",
        "trainer.default_root_dir": run,
        "save_every_minutes": 0,
    }
    return ["--config", args.config, *itertools.chain(*((f"--{name}", str(value)) for name, value in options.items()))]


class Pace(lightning.Callback):
    """Times the steps of a run after the first.

    Args:
        skipped: Steps that are not timed.

    Attributes:
        images: Pictures of the timed steps.
        seconds: What these took.
    """

    def __init__(self, skipped: int) -> None:
        self.images = 0
        self.seconds = 0.0
        self._skipped = skipped
        self._begin = 0.0

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: Any,  # noqa: ANN401
        number: int,
    ) -> None:
        """Lightning's hook."""
        if number + 1 <= self._skipped:
            _wait(pl_module.device)
            self._begin = time.perf_counter()
            return
        self.images += len(batch.indices)
        if trainer.is_last_batch:
            _wait(pl_module.device)
            self.seconds = time.perf_counter() - self._begin


def _wait(device: torch.device) -> None:
    """Waits until the GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def _forget_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _row(what: str, images: int, seconds: float, device: torch.device) -> Row:
    memory = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")
    return {"what": what, "images/s": images / seconds, "ms an image": 1000 * seconds / images, "GB at most": memory}
