"""Scores as text and JSON."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from captioner.errors import CaptionerError
from captioner.text.tokenization import TOKENIZERS, Tokenization
from captioner.utils.console import print_status, printable

if TYPE_CHECKING:
    from captioner.metrics import Evaluation
    from captioner.metrics.calibration import Kept
    from captioner.metrics.naming import Naming

FEW_IMAGES = 500
"""Number of images below which CIDEr's document frequencies are unreliable."""

UNSPACED_CURE = "score them with --tokenizer char, or "
"""Cure for text in which the tokenizer finds one word a caption."""


def add_java_arguments(parser: argparse.ArgumentParser) -> None:
    """Scores that are off by default."""
    parser.add_argument("--meteor", action="store_true", help="METEOR too (Java, pip install 'captioner[coco]')")
    parser.add_argument("--spice", action="store_true", help="SPICE too (OpenJDK 8, its models, minutes)")


def add_tokenizer_arguments(parser: argparse.ArgumentParser) -> None:
    """What the scores count."""
    text = "what scores count: ptb, the official one, for English; another of sacreBLEU's (default: ptb)"
    parser.add_argument("--tokenizer", choices=TOKENIZERS, default="ptb", help=text)
    parser.add_argument("--lowercase", action="store_true", help="count capitals as small letters, as ptb always does")


def tokenization_of(args: argparse.Namespace) -> Tokenization:
    """The tokenization that is asked for; METEOR and SPICE have their own, for English."""
    for option in ("meteor", "spice"):
        if args.tokenizer != "ptb" and getattr(args, option):
            raise CaptionerError(f"--{option} is for English, in tokens of ptb; leave out --tokenizer {args.tokenizer}")
    return Tokenization(args.tokenizer, args.lowercase)


def refuse_without_java(args: argparse.Namespace) -> None:
    """Refuse requested scores that are unavailable, before captions are generated."""
    if args.meteor:
        from captioner.metrics import meteor

        meteor.refuse_without_java()
    if args.spice:
        from captioner.metrics import spice

        spice.refuse_without_java()


def score_with_java(
    evaluation: Evaluation[int | str], args: argparse.Namespace
) -> dict[str, tuple[float, list[float]]]:
    """Compute the requested scores of the corpus and of each image."""
    scores = {}
    if args.meteor:
        from captioner.metrics.meteor import meteor

        scores["METEOR"] = meteor(evaluation.hypotheses, evaluation.references)
    if args.spice:
        from captioner.metrics.spice import spice

        scores["SPICE"] = spice(evaluation.hypotheses, evaluation.references)
    return scores


def describe(evaluation: Evaluation[int | str], training: set[str] | None = None) -> dict[str, Any]:
    """Describe the scores of a corpus with 95 % intervals, and the diversity and completeness of its captions.

    Args:
        evaluation: The scores.
        training: Training captions, as tokens joined by spaces, to identify novel captions.
    """
    from captioner.metrics import diversity
    from captioner.metrics.bootstrap import intervals

    return {
        "images": len(evaluation.images),
        **evaluation.corpus(),
        "intervals": intervals(evaluation),
        "diversity": diversity.describe(evaluation.hypotheses, training, evaluation.tokenization.is_official),
        "signature": evaluation.signature(),
    }


def print_report(title: str, report: Mapping[str, Any]) -> None:
    """Format the result of `describe` as a table."""
    images, intervals = report["images"], report["intervals"]
    print(f"{printable(title)}: {images} images; score and 95 % interval")
    for name, value in report.items():
        if isinstance(value, float):
            span = f"   {intervals[name].low:.4f} to {intervals[name].high:.4f}" if name in intervals else ""
            print(f"{name:<12} {value:8.4f}{span}")
    for name, value in report["diversity"].items():
        print(f"{name:<12} {value:8}" if name == "vocabulary" else f"{name:<12} {value:8.4f}")
    print(f"signature: {report['signature']}")
    if images < FEW_IMAGES:
        print_status(f"captioner: CIDEr of {images} images is not comparable to that of a full test set")


def describe_naming(naming: Naming) -> dict[str, Any]:
    """Describe the objects that captions name, as a JSON object; a share of nothing is null."""
    shares, intervals = naming.corpus(), naming.intervals()
    return {
        **{name: None if math.isnan(share) else share for name, share in shares.items()},
        "intervals": {name: None if math.isnan(intervals[name].low) else intervals[name] for name in shares},
        "categories": naming.categories(),
    }


def print_naming(naming: Mapping[str, Any]) -> None:
    """Format the result of `describe_naming` as a table, the most frequent categories first."""
    print("things of COCO's 80 categories; share and 95 % interval")
    for name, interval in naming["intervals"].items():
        if naming[name] is not None:
            print(f"{name:<12} {naming[name]:8.4f}   {interval[0]:.4f} to {interval[1]:.4f}")
    print(f"{'category':<16} {'named':>6} {'hallucinated':>13} {'agreed':>7} {'found':>6}")
    for category, counts in sorted(naming["categories"].items(), key=lambda item: (-item[1]["agreed"], item[0])):
        named, wrong, agreed, found = (counts[name] for name in ("named", "hallucinated", "agreed", "found"))
        print(f"{category:<16} {named:>6} {wrong:>13} {agreed:>7} {found:>6}")


def describe_confidence(confidences: Sequence[float], naming: Naming, others: Sequence[float]) -> dict[str, Any]:
    """Describe the calibration of confidences, as a JSON object; a share of nothing is null.

    Args:
        confidences: Confidences of photographs' captions.
        naming: The objects that these name, in the same order.
        others: Confidences of captions of other images.
    """
    import numpy as np

    from captioner.metrics import calibration

    sure, right = np.array(confidences), calibration.are_right(naming)
    curve = calibration.risk_coverage(naming, sure)
    usual = calibration.keep(naming, sure, calibration.threshold_keeping(sure))
    return {
        "calibration error": calibration.expected_calibration_error(sure, right),
        "by chance": calibration.calibration_error_by_chance(sure),
        "reliability": [each._asdict() for each in calibration.reliability(sure, right)],
        "usual": _describe_kept(usual),
        "risk coverage": [_describe_kept(each) for each in curve],
        "nonphotos": len(others),
        "nonphotos kept": sum(each >= usual.threshold for each in others) / len(others) if others else None,
    }


def _describe_kept(kept: Kept) -> dict[str, float | None]:
    return {
        "threshold": kept.threshold,
        "coverage": kept.coverage,
        "CHAIRi": None if math.isnan(kept.chair_i) else kept.chair_i,
        "CHAIRs": kept.chair_s,
    }


def print_confidence(confidence: Mapping[str, Any]) -> None:
    """Format the result of `describe_confidence` as tables."""
    print(
        f"confidence: expected calibration error {confidence['calibration error']:.4f} "
        f"(perfectly calibrated, as few captions have {confidence['by chance']:.4f})"
    )
    print(f"{'confidence':<12} {'captions':>8} {'mean':>8} {'right':>8}")
    for each in confidence["reliability"]:
        span = f"{each['low']:.1f} to {each['high']:.1f}"
        print(f"{span:<12} {each['captions']:>8} {each['confidence']:>8.4f} {each['right']:>8.4f}")
    print(f"{'threshold':<12} {'kept':>8} {'CHAIRi':>8} {'CHAIRs':>8}")
    for each in confidence["risk coverage"][::2]:
        wrong = "" if each["CHAIRi"] is None else f"{each['CHAIRi']:.4f}"
        print(f"{each['threshold']:<12.4f} {each['coverage']:>8.4f} {wrong:>8} {each['CHAIRs']:>8.4f}")
    if confidence["nonphotos"]:
        print(
            f"of {confidence['nonphotos']} pictures that are no photographs {confidence['nonphotos kept']:.1%} reach "
            f"{confidence['usual']['threshold']:.4f}, as {confidence['usual']['coverage']:.1%} of the photographs do"
        )
