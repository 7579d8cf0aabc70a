"""Fits of a confidence to examples whose answer is known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import WORDS as NONSENSE
from conftest import make_captioner
from PIL import Image

from captioner import checkpoint
from captioner.cli import main
from captioner.data.transforms import Transform
from captioner.decoding import DecodingOptions
from captioner.errors import CaptionerError
from captioner.models.caption_features import FEATURES, Suggested, caption_features
from captioner.models.captioner import CaptionerConfig, CaptionModel
from captioner.models.confidence import Confidence, Evidence, suggested
from captioner.models.decoder import DecoderConfig, make_decoder
from captioner.pipeline import Captioner, load
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary
from captioner.training import calibration
from captioner.training.calibration import Photograph, calibrate, fit_logistic, judge, things_of, with_confidence

CHANNELS = 6


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def test_a_logistic_fit_finds_the_weights_that_made_the_examples() -> None:
    chance = np.random.default_rng(0)
    x = chance.normal([1, 2, 0], [1, 5, 0.1], (20_000, 3))
    true = chance.random(len(x)) < sigmoid(x @ [1.0, -0.3, 8.0] - 0.5)
    fit = fit_logistic(x, true, penalty=1e-3)
    assert fit.weights == pytest.approx([1.0, -0.3, 8.0], rel=0.06)
    assert fit.bias == pytest.approx(-0.5, abs=0.06)
    assert fit.predict(x).mean() == pytest.approx(true.mean(), abs=1e-6)


def test_a_logistic_fit_is_the_minimum_of_its_loss() -> None:
    chance = np.random.default_rng(1)
    x, weights = chance.normal(0, 1, (60, 2)), chance.uniform(0.5, 2, 60)
    x = (x - x.mean(0)) / x.std(0)
    true, seen, ridge = chance.random(60) < 0.4, chance.uniform(0.6, 1, 60), np.array([0.7, 3.0])

    def loss(parameters: Any) -> float:
        marked = seen * sigmoid(x @ parameters[:2] + parameters[2])
        losses = -np.log(np.where(true, marked, 1 - marked))
        return float((weights * losses).sum() + (ridge * parameters[:2] ** 2).sum() / 2)

    fit = fit_logistic(x, true, ridge, weights, seen)
    found = np.array([*fit.weights, fit.bias])
    best = loss(found)
    for place in range(3):
        for step in (-1e-2, 1e-2):
            moved = found.copy()
            moved[place] += step
            assert loss(moved) > best
    assert np.array_equal(fit.weights, fit_logistic(x, true, ridge, weights, seen).weights)


def test_marks_that_are_missing_do_not_count_as_false() -> None:
    chance = np.random.default_rng(2)
    x = chance.normal(0, 1, (20_000, 1))
    true = chance.random(len(x)) < sigmoid(2 * x[:, 0] + 1)
    marked = true & (chance.random(len(x)) < 0.6)
    fit = fit_logistic(x, marked, 1e-3, seen=np.full(len(x), 0.6))
    assert (*fit.weights, fit.bias) == pytest.approx((2, 1), abs=0.12)
    assert fit_logistic(x, marked, 1e-3).predict(x).mean() == pytest.approx(0.6 * true.mean(), abs=0.02)


def test_a_feature_that_is_always_the_same_has_no_weight() -> None:
    x = np.column_stack([np.full(100, 3.3), np.linspace(-1, 1, 100)])
    fit = fit_logistic(x, x[:, 1] > 0.1, penalty=1.0)
    assert fit.weights[0] == 0
    assert fit.weights[1] > 1


def evidence(picture: np.ndarray, *captions: np.ndarray) -> Evidence:
    return Evidence(torch.tensor(picture, dtype=torch.float32), torch.tensor(np.array(captions), dtype=torch.float32))


def examples(count: int, seed: int) -> tuple[list[Photograph], list[Evidence], np.ndarray]:
    """Photographs whose captions are right with a known probability, and pictures that are clearly none."""
    chance = np.random.default_rng(seed)
    pictures, captions = chance.normal(0, 1, (count, CHANNELS)), chance.normal(0, 1, (count, len(FEATURES)))
    pictures[:, 0] += 6
    probability = sigmoid(1.5 * captions[:, 3] - captions[:, 0] + 0.5 * pictures[:, 2])
    photographs = [
        Photograph(evidence(picture, caption), bool(right))
        for picture, caption, right in zip(pictures, captions, chance.random(count) < probability, strict=True)
    ]
    others = [
        evidence(chance.normal(0, 1, CHANNELS) - np.eye(CHANNELS)[0] * 6, chance.normal(0, 1, len(FEATURES)))
        for _ in range(count // 4)
    ]
    return photographs, others, probability


def test_a_confidence_is_the_probability_that_made_the_examples() -> None:
    confidence = Confidence(CHANNELS, 20)
    photographs, others, _ = examples(2000, seed=0)
    report = calibrate(confidence, photographs, others)
    assert report.error < 0.04
    assert report.passed == 0
    assert report.kept_right > report.right
    new, new_others, probability = examples(500, seed=1)
    sure = np.array([confidence(each.evidence)[0] for each in new])
    assert np.abs(sure - probability).mean() < 0.05
    assert max(confidence(each)[0] for each in new_others) < report.threshold
    assert np.mean(sure >= report.threshold) == pytest.approx(0.8, abs=0.06)


def test_a_confidence_is_fitted_alike_each_time() -> None:
    photographs, others, _ = examples(200, seed=0)
    one, other = Confidence(CHANNELS, 20), Confidence(CHANNELS, 20)
    assert calibrate(one, photographs, others) == calibrate(other, photographs, others)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_each_caption_of_a_picture_has_its_own_confidence() -> None:
    confidence = Confidence(2, 20)
    confidence.photograph.copy_(torch.tensor([1.0, 0.0]))
    confidence.photograph_bias.fill_(0.5)
    confidence.right[1], confidence.right[2] = 2.0, -1.0  # of the picture's second number, of the first feature
    first, second = np.zeros(len(FEATURES)), np.zeros(len(FEATURES))
    second[0] = 3.0
    found = confidence(evidence(np.array([0.7, 0.2]), first, second))
    assert found == pytest.approx([sigmoid(1.2) * sigmoid(0.4), sigmoid(1.2) * sigmoid(0.4 - 3)])


@pytest.mark.parametrize("count", [0, calibration.FEWEST - 1])
def test_too_little_to_fit_to_is_refused(count: int) -> None:
    photographs, others, _ = examples(300, seed=0)
    with pytest.raises(CaptionerError, match=f"there are {count} photographs to calibrate with; give at least 50"):
        calibrate(Confidence(CHANNELS, 20), photographs[:count], others)
    with pytest.raises(CaptionerError, match=f"there are {count} pictures that are no photographs"):
        calibrate(Confidence(CHANNELS, 20), photographs, others[:count])


def test_captions_that_are_all_right_tell_nothing() -> None:
    photographs, others, _ = examples(300, seed=0)
    right = [each for each in photographs if each.right]
    with pytest.raises(CaptionerError, match=f"all of the {len(right)} captions are right by their references"):
        calibrate(Confidence(CHANNELS, 20), right, others)


def test_a_single_reference_is_as_complete_as_one_of_several() -> None:
    nothing = evidence(np.zeros(CHANNELS), np.zeros(len(FEATURES)))
    captions = ["a dog and a cat", "a dog", "a dog", "a cow", "a tree"]
    references = [
        ["a dog", "a dog with a cat", "the cat"],  # one of three has both
        ["a dog"],
        ["a cat"],
        ["a dog", "a cat"],  # wrong: does not count
        ["grass", "a tree"],  # names nothing: each has all of it
    ]
    photographs = judge(captions, references, [nothing] * 5)
    assert [each.right for each in photographs] == [True, True, False, False, True]
    assert [each.seen for each in photographs] == [1, 3 / 5, 3 / 5, 1, 1]
    [alone] = judge(["a dog"], [["a dog"]], [nothing])
    assert alone.seen == 1


WORDS = Vocabulary((*SPECIAL_WORDS, "a", "boy", "man", "dog", "dogs", "on", "grass"))
THINGS = [0, 0, 0, 0, 0, 1, 1, 2, 2, 0, 0]


def test_words_of_one_category_are_one_thing() -> None:
    assert things_of(WORDS).tolist() == THINGS


def test_features_of_a_caption_are_those_counted_by_hand() -> None:
    concepts = Suggested({5: -2.0, 6: 1.5, 10: 0.25}, {1: 1.5})
    words = WORDS.encode("a boy on a man on grass")[1:-1]
    logs = [-0.1, -2.0, -0.2, -0.3, -0.7, -0.4, -0.5, -0.6]
    found = dict(zip(FEATURES, caption_features(words, logs, THINGS, concepts), strict=True))
    assert found == pytest.approx(
        {
            "mean log-probability": -0.6,
            "least log-probability": -2.0,
            "words": 7,
            "things": 1,
            "mean log-probability of things": -2.0,
            "least log-probability of things": -2.0,
            "mean log-odds of things": 1.5,
            "least log-odds of things": 1.5,
            "mean log-odds of concepts": (-2.0 + 1.5 + 0.25) / 3,
            "least log-odds of concepts": -2.0,
            "greatest log-odds of a concept": 1.5,
        }
    )


def test_a_caption_without_things_and_concepts_has_features_of_zero() -> None:
    found = caption_features([], [-0.5], THINGS, Suggested({}, {}))
    assert found == [-0.5, -0.5, *[0.0] * (len(FEATURES) - 2)]


@pytest.mark.parametrize("members", [1, 2])
def test_what_concepts_suggest_is_their_probability(members: int) -> None:
    config = DecoderConfig(
        concepts="copy", concept_words=4, embedding_size=8, hidden_size=8, attention_size=8, members=members
    )
    torch.manual_seed(0)
    decoder = make_decoder(config, 5, len(WORDS)).eval()
    grid = torch.randn(3, 9, 5)
    for member in decoder.members:
        assert member.concepts is not None
        member.concepts.word_ids.copy_(torch.tensor([0, 5, 6, 10]))
        torch.nn.init.normal_(member.concepts.words.weight)
        torch.nn.init.zeros_(member.concepts.words.bias)
    found = suggested(decoder, grid, torch.tensor(THINGS, dtype=torch.uint8))
    each = [m.concepts.words(grid.mean(1)).sigmoid() for m in decoder.members if m.concepts is not None]
    odds = torch.stack(each).mean(0).logit()[:, 1:].detach()
    for picture, row in zip(found, odds.tolist(), strict=True):
        assert picture.words == pytest.approx(dict(zip((5, 6, 10), row, strict=True)), abs=1e-4)
        assert picture.things == pytest.approx({1: max(row[:2])}, abs=1e-4)


def test_a_decoder_without_concepts_suggests_nothing(tiny: Captioner) -> None:
    assert suggested(tiny.model.decoder, torch.randn(2, 4, 512), torch.zeros(15)) == [Suggested({}, {})] * 2


def write_pictures(folder: Path, count: int) -> Path:
    """Photographs with captions, some right and some not, and a folder of blank pictures."""
    chance = np.random.default_rng(0)
    (folder / "blank").mkdir(parents=True)
    lines = []
    for number in range(count):
        image = chance.integers(0, 256, (4, 4, 3)).astype(np.uint8)
        Image.fromarray(image).resize((40, 40)).save(folder / f"{number}.png")
        Image.new("RGB", (40, 40), (number, 2 * number, 3 * number)).save(folder / "blank" / f"{number}.png")
        captions = ["a dog", "a cat and a dog"] if number % 3 else ["a red road"]
        lines.append({"image": f"{number}.png", "captions": captions, "split": "val"})
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return data


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small captioner, calibrated by the command, beside what it was calibrated with."""
    folder = tmp_path_factory.mktemp("calibrated")
    make_captioner().save(folder / "tiny.safetensors", torch.float16)
    data = write_pictures(folder, calibration.FEWEST + 5)
    command = ["calibrate", "--model", str(folder / "tiny.safetensors"), "--data", str(data), "--require", "dog"]
    command += ["--nonphotos", str(folder / "blank"), "--output", str(folder / "sure.safetensors"), "--max-words", "6"]
    assert main(command) == 0
    return folder


def test_calibrate_writes_the_same_model_with_a_confidence(calibrated: Path) -> None:
    before, after = (checkpoint.read(calibrated / f"{name}.safetensors") for name in ("tiny", "sure"))
    assert {name for name in after.weights if name not in before.weights} == {
        f"confidence.{name}" for name in Confidence(1, 1).state_dict()
    }
    assert all(torch.equal(value, after.weights[name]) for name, value in before.weights.items())
    assert checkpoint.matrix_dtype(calibrated / "sure.safetensors") == torch.float16
    assert after.card["confidence"]["photographs"] == calibration.FEWEST + 5
    assert after.card["licence"] == "CC0"


def test_captions_of_a_calibrated_model_are_what_they_were_and_sure(calibrated: Path) -> None:
    before, after = (load(calibrated / f"{name}.safetensors") for name in ("tiny", "sure"))
    photos = [calibrated / f"{number}.png" for number in range(4)]
    old, new = (each.caption(photos, num_captions=2) for each in (before, after))
    for one, other in zip(old, new, strict=True):
        assert (one.words, one.word_log_probabilities) == (other.words, other.word_log_probabilities)
        assert one.confidence is None
        for caption in (other, *other.alternatives):
            assert caption.confidence is not None
            assert 0 <= caption.confidence <= 1


def test_confidence_is_computed_from_the_mean_feature_vector_and_the_caption(calibrated: Path) -> None:
    sure = load(calibrated / "sure.safetensors")
    confidence = sure.model.confidence
    assert confidence is not None
    photo = calibrated / "1.png"
    [result] = sure.stream_with_evidence([photo], DecodingOptions())
    assert not isinstance(result, CaptionerError)
    caption, found = result
    assert found is not None
    pixels = sure.transform(Image.open(photo)).unsqueeze(0)
    mean = sure.model.encoder(pixels).mean(1)[0].detach()
    torch.testing.assert_close(found.picture, mean, atol=1e-4, rtol=1e-4)
    ids = [sure.vocabulary.id(word) for word in caption.words]
    features = caption_features(ids, caption.word_log_probabilities, confidence.things.tolist(), Suggested({}, {}))
    x = torch.cat([mean, torch.tensor(features)])
    photograph = (mean @ confidence.photograph + confidence.photograph_bias).sigmoid()
    right = (x @ confidence.right + confidence.right_bias).sigmoid()
    assert caption.confidence == pytest.approx(float(photograph * right), abs=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_evidence_of_a_decoder_with_concepts_has_their_log_odds(precision: str, photos: Path) -> None:
    torch.manual_seed(0)
    decoder = DecoderConfig(
        concepts="copy", concept_words=4, concept_size=8, embedding_size=16, hidden_size=16, attention_size=16
    )
    model = CaptionModel(
        CaptionerConfig(encoder_stage="blocks.2", decoder=decoder, transform=Transform(64)), len(NONSENSE)
    )
    concepts = model.decoder.members[0].concepts
    assert concepts is not None
    vocabulary = Vocabulary(NONSENSE)
    concepts.word_ids.copy_(torch.tensor([0, *map(vocabulary.id, ("dog", "cat", "road"))]))
    torch.nn.init.normal_(concepts.words.weight, std=0.02)
    torch.nn.init.zeros_(concepts.words.bias)
    captioner = with_confidence(Captioner(model, vocabulary, {}, precision=precision))
    [result] = captioner.stream_with_evidence(
        [photos / "0.png"], DecodingOptions(required_words=("dog", "road"), forbidden_words=("cat",))
    )
    assert not isinstance(result, CaptionerError)
    caption, found = result
    assert caption.confidence == 0.25  # of weights that are all 0
    assert found is not None
    dog, cat, road = concepts.words(found.picture)[1:].tolist()
    assert dict(zip(FEATURES, found.captions[0].tolist(), strict=True)) == pytest.approx(
        {
            "mean log-probability": np.mean(caption.word_log_probabilities),
            "least log-probability": min(caption.word_log_probabilities),
            "words": len(caption.words),
            "things": 1,
            "mean log-probability of things": caption.word_log_probabilities[caption.words.index("dog")],
            "least log-probability of things": caption.word_log_probabilities[caption.words.index("dog")],
            "mean log-odds of things": dog,
            "least log-odds of things": dog,
            "mean log-odds of concepts": (dog + road) / 2,
            "least log-odds of concepts": min(dog, road),
            "greatest log-odds of a concept": max(dog, cat, road),
        },
        abs=1e-3,
    )


def captions_of(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[str, str]:
    capsys.readouterr()
    assert main(["caption", *options]) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_min_confidence_holds_captions_back(calibrated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = [str(calibrated / "0.png"), str(calibrated / "1.png"), str(calibrated / "blank" / "7.png")]
    command = ["--model", str(calibrated / "sure.safetensors"), *photos, "--max-words", "6"]
    every = [json.loads(line) for line in captions_of(capsys, *command, "--json")[0].splitlines()]
    assert all(isinstance(each["caption"], str) for each in every)
    middle = sorted(each["confidence"] for each in every)[1]
    out, err = captions_of(capsys, *command, "--json", "--min-confidence", str(middle))
    for before, after in zip(every, map(json.loads, out.splitlines()), strict=True):
        assert after["confidence"] == before["confidence"]
        assert after["caption"] == (before["caption"] if before["confidence"] >= middle else None)
    [low] = [each for each in every if each["confidence"] < middle]
    assert err == f"captioner: {low['image']}: no caption; its confidence {low['confidence']:.2f} is too low\n"
    out, _ = captions_of(capsys, *command, "--min-confidence", str(middle))
    assert [line.split("\t")[0] for line in out.splitlines()] == [
        each["image"] for each in every if each["confidence"] >= middle
    ]


def test_captions_that_are_held_back_are_resumed(calibrated: Path, tmp_path: Path) -> None:
    output = tmp_path / "captions.jsonl"
    photos = [str(calibrated / f"{number}.png") for number in range(3)]
    command = [
        "caption",
        "--model",
        str(calibrated / "sure.safetensors"),
        "--output",
        str(output),
        "--num-captions",
        "2",
    ]
    command += ["--min-confidence", "1"]
    assert main([*command, *photos[:2]]) == 0
    assert main([*command, *photos, "--resume"]) == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["caption"] for line in lines] == [None] * 3
    assert all(each["caption"] is None for line in lines for each in line["captions"])


def test_a_model_that_was_not_calibrated_says_so(
    checkpoint: Path, photos: Path, calibrated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = str(photos / "0.png")
    out, _ = captions_of(capsys, "--model", str(checkpoint), photo, "--json")
    assert json.loads(out)["confidence"] is None
    assert main(["caption", "--model", str(checkpoint), photo, "--min-confidence", "0.5"]) == 2
    assert "--min-confidence needs a model with a confidence" in capsys.readouterr().err
    data = str(calibrated / "data.jsonl")
    assert main(["evaluate", "--model", str(checkpoint), "--data", data, "--split", "val", "--confidence"]) == 2
    assert "--confidence needs a model with a confidence" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["-0.1", "1.5", "nan"])
def test_a_probability_has_bounds(value: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", str(photos / "0.png"), f"--min-confidence={value}"]) == 2
    assert "it must be at least 0 and at most 1" in capsys.readouterr().err


def test_an_ensemble_of_calibrated_models_tells_no_confidence(calibrated: Path, tmp_path: Path) -> None:
    """What was fitted to the log-probabilities of one does not hold for the means of two."""
    one, other = calibrated / "sure.safetensors", tmp_path / "other.safetensors"
    make_captioner(seed=2).save(other)
    both = load([one, other])
    assert both.caption(calibrated / "0.png").confidence is None
    photos = [calibrated / f"{number}.png" for number in range(2)]
    with_confidence(both).save(tmp_path / "both.safetensors")
    again = load(tmp_path / "both.safetensors")
    assert all(caption.confidence is not None for caption in again.caption(photos))


def test_a_mean_of_models_keeps_no_confidence(calibrated: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin.safetensors"
    twin.write_bytes((calibrated / "sure.safetensors").read_bytes())
    mean = tmp_path / "mean.safetensors"
    assert main(["export", str(calibrated / "sure.safetensors"), str(twin), "--output", str(mean)]) == 0
    assert load(mean).model.confidence is None
    assert "confidence" not in load(mean).card


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
def test_a_file_is_kept_in_its_precision_to_the_bit(dtype: torch.dtype, tiny: Captioner, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    tiny.save(first, dtype)
    assert checkpoint.matrix_dtype(first) == dtype
    load(first).save(second, checkpoint.matrix_dtype(first))
    one, other = checkpoint.read(first).weights, checkpoint.read(second).weights
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_evaluate_tells_how_far_confidence_can_be_trusted(calibrated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--model", str(calibrated / "sure.safetensors"), "--data", str(calibrated / "data.jsonl")]
    command += ["--split", "val", "--confidence", "--nonphotos", str(calibrated / "blank"), "--max-words", "6"]
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["confidence"]
    assert 0 <= found["calibration error"] <= 1
    assert sum(each["captions"] for each in found["reliability"]) == calibration.FEWEST + 5
    assert found["usual"]["coverage"] == pytest.approx(0.8, abs=0.02)
    assert (found["nonphotos"], found["risk coverage"][0]["coverage"]) == (calibration.FEWEST + 5, 1)
    assert main(command) == 0
    out = capsys.readouterr().out
    assert f"expected calibration error {found['calibration error']:.4f}" in out
    assert f"of {calibration.FEWEST + 5} pictures that are no photographs {found['nonphotos kept']:.1%} reach" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nonphotos", "nowhere"], "nowhere: is not a folder; give one with images that are no photographs"),
        (["--split", "test"], "no image is in split 'test'; choose another --split"),
        (["--output", "DATA"], "would be replaced, but is read as well"),
        (["--nonphotos", "EMPTY"], "there are 0 pictures that are no photographs to calibrate with; give at least 50"),
    ],
)
def test_mistakes_of_calibrate_are_told(
    options: list[str], message: str, calibrated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    names = {"DATA": str(calibrated / "data.jsonl"), "EMPTY": str(tmp_path / "empty")}
    given = {
        "--model": str(calibrated / "tiny.safetensors"),
        "--data": str(calibrated / "data.jsonl"),
        "--nonphotos": str(calibrated / "blank"),
        "--output": str(tmp_path / "out.safetensors"),
        **dict(zip(options[::2], options[1::2], strict=True)),
    }
    command = [names.get(word, word) for pair in given.items() for word in pair]
    assert main(["calibrate", *command]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_confidence_is_a_number_between_zero_and_one_for_any_evidence() -> None:
    confidence = Confidence(2, 5)
    confidence.photograph.fill_(1e6)
    for sign in (-1, 1):
        [found] = confidence(evidence(np.full(2, sign * 1e6), np.zeros(len(FEATURES))))
        assert 0 <= found <= 1
        assert math.isfinite(found)
