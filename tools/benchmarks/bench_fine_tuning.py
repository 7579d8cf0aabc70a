"""A CNN's training step, forward and backward, against the same network as timm has it."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import timm
import torch
from timing import add_counts, fastest, training_step
from torch import Tensor, nn

from captioner.models.backbones import WEIGHTS_NONE
from captioner.models.efficientnet_lite import VARIANTS
from captioner.models.encoder import GridEncoder
from captioner.utils.runtime import keep_freed_memory

SUMMARY = "a training step of the CNN in milliseconds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The section's arguments; the defaults are those of configs/flickr8k/finetune.yaml."""
    parser.add_argument("--cnn", default="tf_efficientnet_lite0", choices=VARIANTS, help="default: %(default)s")
    parser.add_argument("--stage", default="blocks.3", help="the first that learns (default: %(default)s)")
    add_counts(
        parser,
        ("--images", 32, "images in the batch"),
        ("--size", 256, "pixels a side"),
        ("--repeats", 3, "runs of each, in turn; the fastest counts"),
    )


def measure(args: argparse.Namespace) -> list[dict[str, str | float]]:
    """Times both in both precisions, with batch norm fixed and the stages before the first that learns frozen.

    Raises:
        AssertionError: Gradients of both differ.
    """
    keep_freed_memory()
    torch.manual_seed(1)
    encoder = GridEncoder(f"timm/{args.cnn}", WEIGHTS_NONE)
    encoder.train_from(args.stage)
    encoder.train()
    own = encoder.trunk.to(memory_format=torch.channels_last)
    theirs = timm.create_model(args.cnn, num_classes=0).to(memory_format=torch.channels_last)
    theirs.load_state_dict(own.state_dict())
    for part, copied in zip(own.parameters(), theirs.parameters(), strict=True):
        copied.requires_grad_(part.requires_grad)
    theirs.eval()
    images = torch.rand(args.images, 3, args.size, args.size).to(memory_format=torch.channels_last)
    networks: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]] = {
        "timm": (theirs, theirs.forward_features),  # type: ignore[dict-item]
        "captioner": (own, own),
    }

    def step(who: str, dtype: torch.dtype) -> Callable[[], None]:
        network, forward = networks[who]
        return training_step(network, lambda: forward(images).float().square().mean(), dtype)

    def forward_alone() -> None:
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            own(images)

    ways: dict[str, Callable[[], object]] = {
        f"{who}, {name}": step(who, dtype)
        for dtype, name in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16"))
        for who in networks
    }
    for who in networks:
        ways[f"{who}, float32"]()
    for part, copied in zip(own.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(part.grad, copied.grad, rtol=1e-3, atol=1e-6)
    seconds = fastest({**ways, "limit: forward alone, bfloat16": forward_alone}, args.repeats)
    slowest = seconds["timm, float32"]
    return [{"step": name, "ms": 1000 * each, "timm's time / this": slowest / each} for name, each in seconds.items()]
