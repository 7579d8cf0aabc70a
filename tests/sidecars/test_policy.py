"""Which text is written where."""

from __future__ import annotations

import pytest

from captioner.sidecars.policy import Captioned, Decision, Policy, Slot

CAPTION = Captioned("a dog runs", -2.0, 0.6)


@pytest.mark.parametrize(
    ("policy", "slot", "decision"),
    [
        (Policy(), Slot(), Decision("write", "a dog runs")),
        (Policy(), Slot.of(" \n", None, None), Decision("write", "a dog runs")),
        (Policy(), Slot.of("my dog", None, None), Decision("keep")),
        (Policy("overwrite"), Slot.of("my dog", None, None), Decision("overwrite", "a dog runs")),
        (Policy("append"), Slot.of("my dog", None, None), Decision("append", "my dog, a dog runs")),
        (Policy("append"), Slot.of("My dog.", None, None), Decision("append", "My dog. a dog runs")),
        (Policy("prepend"), Slot.of("my dog", None, None), Decision("prepend", "a dog runs, my dog")),
        (Policy("append"), Slot(), Decision("write", "a dog runs")),
        (Policy(), Slot.of(None, None, None, elsewhere="Rex"), Decision("keep")),
        (Policy("append"), Slot.of(None, None, None, elsewhere="Rex"), Decision("append", "Rex, a dog runs")),
    ],
)
def test_a_persons_words_stay_unless_told_otherwise(policy: Policy, slot: Slot, decision: Decision) -> None:
    assert policy.decide(slot, CAPTION) == decision


@pytest.mark.parametrize("mode", ["keep", "overwrite", "append", "prepend"])
def test_ours_is_replaced_in_every_mode_and_never_doubled(mode: str) -> None:
    policy = Policy(mode)  # type: ignore[arg-type]
    old = Slot.of("a cat", "a cat", None)
    assert policy.decide(old, CAPTION) == Decision("replace", "a dog runs")
    assert policy.decide(Slot.of("a dog runs", "a dog runs", None), CAPTION) == Decision("same")


@pytest.mark.parametrize(
    ("text", "new"),
    [("my pet, a cat", "my pet, a dog runs"), ("a cat, my pet", "a dog runs, my pet"), ("a cat", "a dog runs")],
)
def test_ours_beside_a_persons_words_is_replaced_alone(text: str, new: str) -> None:
    assert Policy().decide(Slot.of(text, text, "my pet"), CAPTION) == Decision("replace", new)


def test_ours_that_somebody_changed_is_theirs() -> None:
    assert Policy().decide(Slot.of("a cat called Tom", "a cat", None), CAPTION) == Decision("keep")


@pytest.mark.parametrize(
    ("prefix", "suffix", "text"),
    [
        ("photo of", "", "photo of a dog runs"),
        ("", ", 35 mm", "a dog runs, 35 mm"),
        ("sks ", "on film", "sks a dog runs on film"),
        ("two\nlines", "", "two lines a dog runs"),
    ],
)
def test_prefix_and_suffix_are_set_off_by_one_space(prefix: str, suffix: str, text: str) -> None:
    assert Policy(prefix=prefix, suffix=suffix).decide(Slot(), CAPTION) == Decision("write", text)


@pytest.mark.parametrize(("confidence", "action"), [(0.5, "write"), (0.49, "unsure"), (None, "write")])
def test_captions_below_the_least_confidence_are_not_written(confidence: float | None, action: str) -> None:
    assert Policy(min_confidence=0.5).decide(Slot(), Captioned("a dog", -1.0, confidence)).action == action


def test_no_caption_is_needed_where_a_persons_words_stay() -> None:
    theirs, ours = Slot.of("my dog", None, None), Slot.of("a dog", "a dog", None)
    assert not Policy().wants(theirs)
    assert Policy("append").wants(theirs)
    assert Policy().wants(ours)
    assert Policy().wants(Slot())
