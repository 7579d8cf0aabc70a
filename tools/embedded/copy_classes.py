"""Lets the decoder copy more of what the pretrained CNN's classifier sees: things that no caption taught.

    python tools/embedded/copy_classes.py CHECKPOINT OUTPUT --captions FILE...

The kept classifier learns soft targets, which leaves its probabilities flat, and the gate has hardly met pictures of
its classes in training, so that what it sees is seldom copied. Here its logits are sharpened, and the gate's bias is
raised. Two things hold back classes that would be copied in error: those that come up on ordinary photographs more
often than by chance lose what they gain by that (a correction of the prior: Saerens et al., 2002), and those whose
words the captions taught stand for no concept, since the detector of words knows them better. The constants were
chosen on validation photographs (docs/runs.md).
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rare_words import read_training
from torch import Tensor

from captioner import checkpoint
from captioner.checkpoint.low_rank import encode_files
from captioner.data.records import Record
from captioner.errors import CaptionerError
from captioner.models.captioner import CaptionModel
from captioner.models.decoder import Decoder
from captioner.text.vocabulary import split_words

SHARPNESS = 5.0
"""Factor of the classifier's logits."""
GATE = 0.5
"""What the gate's bias gains."""
TAUGHT = 400
"""Words that the training captions have as often stand for no class."""
IMAGES = 2000
"""Photographs that are measured."""

_CONCEPTS = "decoder.concepts"


@torch.inference_mode()
def measure_logits(whole: checkpoint.Checkpoint, images: Sequence[Path]) -> Tensor:
    """The classifier's logits of photographs.

    Args:
        whole: The captioner, whose decoder copies and has classes.
        images: Image files, at least one.

    Returns:
        Shape (images, classes).

    Raises:
        CaptionerError: The captioner has no such classifier, or an image cannot be read.
    """
    model, _ = whole.build()
    decoder = model.decoder if isinstance(model, CaptionModel) else None
    concepts = decoder.concepts if isinstance(decoder, Decoder) else None
    if concepts is None or concepts.classes is None or concepts.gate is None:
        raise CaptionerError(f"{whole.origin}: has no classes to copy; train with decoder.concepts copy")
    found = [concepts.classify(grid, concepts.classes) for grid in encode_files(model, images)]
    return torch.cat(found)


def open_copying(whole: checkpoint.Checkpoint, logits: Tensor, counts: Mapping[str, int]) -> checkpoint.Checkpoint:
    """The captioner with another classifier and another gate; see the module.

    Args:
        whole: The captioner.
        logits: The classifier's, of ordinary photographs, shape (images, classes).
        counts: How often the training captions have each word.
    """
    weights = dict(whole.weights)
    classes = f"{_CONCEPTS}.classes"
    usual = (SHARPNESS * logits).softmax(-1).mean(0)
    excess = (usual.log() + math.log(len(usual))).clamp(min=0)
    weights[f"{classes}.weight"] = SHARPNESS * weights[f"{classes}.weight"].float()
    weights[f"{classes}.bias"] = SHARPNESS * weights[f"{classes}.bias"].float() - excess
    weights[f"{_CONCEPTS}.gate.bias"] = weights[f"{_CONCEPTS}.gate.bias"].float() + GATE
    concepts = weights[f"{_CONCEPTS}.class_words"]
    words = [whole.words[id_] for id_ in weights[f"{_CONCEPTS}.word_ids"][concepts.long()].tolist()]
    taught = torch.tensor([counts.get(word, 0) >= TAUGHT for word in words])
    weights[f"{_CONCEPTS}.class_words"] = concepts.masked_fill(taught, 0)  # concept 0 is never a candidate
    return replace(whole, weights=weights)


def open_copying_for(whole: checkpoint.Checkpoint, records: Sequence[Record]) -> checkpoint.Checkpoint:
    """`open_copying` by training photographs: some are measured, the words of all are counted.

    Raises:
        CaptionerError: As for `measure_logits`.
    """
    chosen = random.Random(1).sample(records, min(len(records), IMAGES))
    counts = Counter(word for record in records for caption in record.captions for word in split_words(caption))
    return open_copying(whole, measure_logits(whole, [record.image for record in chosen]), counts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the captioner."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--captions", type=Path, nargs="+", required=True, metavar="FILE", help="training captions")
    args = parser.parse_args(arguments)
    try:
        whole = open_copying_for(checkpoint.read(args.checkpoint), read_training(args.captions))
        checkpoint.write(args.output, whole)
    except CaptionerError as error:
        print(f"copy_classes: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
