"""Captions the same photographs with torch and with onnxruntime: are the captions the same, and which is faster?

    python tools/experiments/compare_backends.py ../shared/coco/val2017 [--first N] [--model FILE --exported FILE.onnx]

For every way of decoding it prints how many captions differ, in how many of these the two captions are equally likely
(their ranks differ by 1e-5 at most), the largest difference between log-probabilities of the same caption, and the
milliseconds of CPU that each backend took for a photograph, reading it included: other work on the machine changes
these less than those of a clock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import captioner
from captioner import Caption, CaptionerError
from captioner.captioning import BaseCaptioner
from captioner.data.folders import find_images
from captioner.decoding import DecodingOptions
from captioner.text.function_words import FUNCTION_WORDS

WAYS: dict[str, dict[str, Any]] = {
    "beam": {},
    "greedy": {"beam_size": 1},
    "n best": {"num_captions": 5},
    "length penalty": {"length_penalty": 0.0, "beam_size": 3},
    "GNMT length": {"length_normalization": "gnmt", "min_words": 9},
    "n-gram blocks": {"no_repeat_ngram": 1, "min_words": 8},
    "forbidden words": {"forbidden_words": ("man", "dog", "a")},
    "bad endings": {"bad_endings": FUNCTION_WORDS, "max_words": 7},
    "required words": {"required_words": ("red", "dog"), "beam_size": 3},
    "diverse groups": {"diverse_groups": 5, "num_captions": 5},
}
TIE = 1e-5
"""Ranks that differ by less are no reason to prefer one caption."""


def compare(torch: BaseCaptioner, onnx: BaseCaptioner, photographs: Sequence[Path], options: DecodingOptions) -> str:
    """One line of the table."""
    results, seconds = [], []
    for model in (torch, onnx):
        begin = time.process_time()
        results.append(list(model.stream(photographs, options)))
        seconds.append(time.process_time() - begin)
    count = different = ties = 0
    largest = 0.0
    for one, other in zip(*results, strict=True):
        if isinstance(one, CaptionerError) or isinstance(other, CaptionerError):
            continue
        pairs = list(zip((one, *one.alternatives), (other, *other.alternatives), strict=True))
        count += len(pairs)
        for ours, theirs in pairs:
            if ours.words != theirs.words:
                different += 1
                ties += abs(_rank(ours, options) - _rank(theirs, options)) <= TIE
            else:
                largest = max(largest, abs(ours.log_probability - theirs.log_probability))
    times = " ".join(f"{1000 * each / len(photographs):8.1f}" for each in seconds)
    return f"{count:9} {different:10} {ties:5} {largest:11.1e} {times}"


def _rank(caption: Caption, options: DecodingOptions) -> float:
    length = len(caption.word_log_probabilities)
    scale = (5 + length) / 6 if options.length_normalization == "gnmt" else length
    return float(caption.log_probability / scale**options.length_penalty)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="image file or folder of images")
    parser.add_argument("--first", type=int, metavar="N", help="take so many of them")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="of decoding (default: all)")
    parser.add_argument("--model", default="default", help="the checkpoint (default: the embedded one)")
    parser.add_argument("--exported", default="default", help="the same as .onnx (default: the embedded one)")
    args = parser.parse_args()
    photographs = [path for given in args.photos for path in find_images(given)][: args.first]
    torch = captioner.load(args.model, backend="torch")
    onnx = captioner.load(args.exported, backend="onnx")
    for model in (torch, onnx):
        model.caption(photographs[:1])  # what is done once is not measured
    print(f"{'':16} captions  different  ties  difference  torch ms  onnx ms")
    for name in args.ways:
        print(f"{name:16} {compare(torch, onnx, photographs, DecodingOptions(**WAYS[name]))}", flush=True)


if __name__ == "__main__":
    main()
