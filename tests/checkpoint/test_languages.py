"""One encoder, decoders of several languages: files named after the model's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import make_captioner
from safetensors.torch import load_file

import captioner
from captioner import checkpoint as checkpoints
from captioner.checkpoint.file_names import language_files, step_file
from captioner.checkpoint.pretrained import languages_of
from captioner.cli import main
from captioner.errors import CaptionerError
from captioner.text.pieces import Pieces
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary

GERMAN = Vocabulary([*SPECIAL_WORDS, "▁Ein", "▁Hund", "▁rennt", "▁über", "▁die", "▁Straße", "."], Pieces("words"))
MOST_BYTES = 7_000_000
"""Of a further language of the embedded model, graphs included."""
SAMPLES = sorted((Path(__file__).parents[2] / "data" / "samples").glob("*.jpg"))


@pytest.fixture
def german(tmp_path: Path) -> Path:
    """A whole German model, whose encoder is that of the fixture ``model``."""
    path = tmp_path / "run" / "captioner.safetensors"
    make_captioner("multiplicative", seed=1, vocabulary=GERMAN).save(path)
    return path


@pytest.fixture
def model(german: Path, tmp_path: Path) -> Path:
    """An English model with a German decoder beside it."""
    path = tmp_path / "models" / "photos.safetensors"
    make_captioner("multiplicative", seed=1).save(path)
    beside = ["--output", str(path.with_name("photos.de.safetensors"))]
    assert main(["export", str(german), "--without-encoder", *beside]) == 0
    return path


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_a_decoder_alone_captions_as_its_whole_model_does(model: Path, german: Path, photos: Path) -> None:
    pictures = sorted(photos.iterdir())
    expected = captioner.load(german).caption(pictures, num_captions=2)
    assert captioner.load(model, language="de").caption(pictures, num_captions=2) == expected
    assert captioner.load(model, language="DE").caption(pictures, num_captions=2) == expected
    assert captioner.load(model.with_name("photos.de.safetensors")).caption(pictures, num_captions=2) == expected
    english = make_captioner("multiplicative", seed=1).caption(pictures, num_captions=2)
    assert captioner.load(model).caption(pictures, num_captions=2) == english


def test_options_of_decoding_mean_words_of_the_language(model: Path, photos: Path) -> None:
    caption = captioner.load(model, language="de").caption(
        photos / "0.png", required_words=["straße"], forbidden_words=["hund"], max_words=6
    )
    words = [word.lower() for word in caption.words]
    assert "straße" in words
    assert "hund" not in words
    with pytest.raises(CaptionerError, match="'dog'"):
        captioner.load(model, language="de").caption(photos / "0.png", required_words=["dog"])


def test_the_file_has_the_decoder_alone(model: Path, german: Path) -> None:
    beside = load_file(model.with_name("photos.de.safetensors"))
    whole = load_file(german)
    assert beside.keys() == {name for name in whole if name.startswith("decoder.")}
    assert all(torch.equal(value, whole[name]) for name, value in beside.items())


@pytest.mark.parametrize("external", [pytest.param(False, marks=pytest.mark.slow), True])
def test_graphs_caption_alike(external: bool, model: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("photos", "photos.de"):
        source, output = (str(model.with_name(name + end)) for end in (".safetensors", ".onnx"))
        assert main(["export", source, "--output", output, *(["--external-weights"] if external else [])]) == 0
    graphs, pictures = model.with_suffix(".onnx"), sorted(photos.iterdir())
    assert list(languages_of(graphs)) == ["de"]
    for language in (None, "de"):
        ours = captioner.load(graphs, language=language).caption(pictures, num_captions=2)
        theirs = captioner.load(model, language=language).caption(pictures, num_captions=2)
        assert [each.text for each in ours] == [each.text for each in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one.word_log_probabilities == pytest.approx(other.word_log_probabilities, abs=1e-3)
    if external:  # the bytes of another encoder would be taken for this one's
        size = sum(file.stat().st_size for file in model.parent.glob("photos.de*.onnx"))
        assert size < 0.1 * model.stat().st_size
        capsys.readouterr()
        make_captioner("multiplicative", seed=2).save(model)
        message = refusal(["caption", str(photos), "--model", str(graphs), "--language", "de"], capsys)
        assert "photos.de.onnx: was made of another photos.safetensors than lies beside it" in message


def test_every_verb_takes_a_language(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = captioner.load(model, language="de").caption(photos / "0.png").text
    german = ["--model", str(model), "--language", "de"]
    assert main(["caption", str(photos / "0.png"), *german]) == 0
    assert capsys.readouterr().out == f"{photos / '0.png'}\t{expected}\n"
    page = tmp_path / "page.html"
    assert main(["visualize", str(photos / "0.png"), "--output", str(page), *german]) == 0
    assert expected in page.read_text(encoding="utf-8")
    assert main(["write", str(photos), "--as", "txt", *german]) == 0
    assert (photos / "0.txt").read_text(encoding="utf-8").strip() == expected
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"image": "photos/0.png", "captions": [expected], "split": "test"}), encoding="utf-8")
    capsys.readouterr()
    assert main(["evaluate", "--data", str(data), "--tokenizer", "13a", "--json", *german]) == 0
    assert json.loads(capsys.readouterr().out)["BLEU-1"] == pytest.approx(1)
    assert main(["info", *german, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["languages"], facts["words"]) == (["de"], len(GERMAN))
    whole = tmp_path / "whole.safetensors"
    assert main(["export", str(model), "--language", "de", "--output", str(whole)]) == 0
    assert captioner.load(whole).caption(photos / "0.png").text == expected


def test_another_language_is_another_model_to_what_was_written(model: Path, photos: Path) -> None:
    for language in ([], ["--language", "de"]):
        assert main(["write", str(photos), "--as", "txt", "--model", str(model), *language]) == 0
    assert (photos / "0.txt").read_text(encoding="utf-8").strip() == captioner.load(model, language="de").caption(
        photos / "0.png"
    ).text


@pytest.mark.parametrize("language", ["fr", "../x", "*"])
def test_an_unknown_language_is_told(
    language: str, model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(["caption", str(photos), "--model", str(model), "--language", language], capsys)
    assert message == f"captioner: model {model}: has no captions in {language!r}; choose de\n"


def test_a_model_without_languages_says_so(checkpoint: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(["caption", str(photos), "--model", str(checkpoint), "--language", "de"], capsys)
    assert message == f"captioner: model {checkpoint}: has no captions in 'de'; leave the language out\n"
    assert main(["info", "--model", str(checkpoint), "--json"]) == 0
    assert "languages" not in json.loads(capsys.readouterr().out)
    message = refusal(["caption", str(photos), "--model", "nowhere", "--language", "de"], capsys)
    assert "checkpoint nowhere: no such file" in message
    message = refusal(["caption", str(photos), "--model", "hf://me/tiny", "--language", "de"], capsys)
    assert "a model on the Hub has one language" in message


def test_other_names_are_no_languages(tmp_path: Path) -> None:
    names = ["a.de", "a.pt-BR", "a.step", "a.v2", "a.de.step", "b.fr", "a.float16"]
    for name in names:
        (tmp_path / f"{name}.onnx").touch()
    assert list(language_files(tmp_path / "a.onnx")) == ["de", "pt-BR"]
    assert step_file(tmp_path / "a.de.onnx").name == "a.de.step.onnx"


def test_a_decoder_on_another_encoder_is_not_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, output = tmp_path / "other.safetensors", model.with_name("photos.fr.safetensors")
    make_captioner("multiplicative", seed=2, vocabulary=GERMAN).save(other)
    message = refusal(["export", str(other), "--without-encoder", "--output", str(output)], capsys)
    assert f"checkpoint {other}: its encoder is not that of {model}; train the decoder on that one, frozen" in message
    for name, cure in (("french.safetensors", "name it like photos.de.safetensors"), ("dog.fr.safetensors", "no such")):
        output = model.with_name(name)
        assert cure in refusal(["export", str(other), "--without-encoder", "--output", str(output)], capsys)
        assert not output.exists()
    for name, more in (("a.de.onnx", []), ("a.de.safetensors", ["--ensemble"])):
        command = ["export", str(other), "--without-encoder", "--output", name, *more]
        assert "--without-encoder is for one .safetensors file" in refusal(command, capsys)


def test_a_decoder_away_from_its_encoder_is_told(model: Path, tmp_path: Path, photos: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    for name, message in (
        ("dogs.de.safetensors", "holds a decoder alone, whose encoder is in dogs.safetensors; put that beside it"),
        ("german.safetensors", "holds a decoder alone; name it after its encoder's file"),
    ):
        shutil.copy(model.with_name("photos.de.safetensors"), alone / name)
        with pytest.raises(CaptionerError, match=message):
            captioner.load(alone / name)
    make_captioner("multiplicative", seed=2).save(alone / "dogs.safetensors")
    with pytest.raises(CaptionerError, match=r"trained on another encoder than that of dogs\.safetensors"):
        captioner.load(alone / "dogs.safetensors", language="de")
    make_captioner("multiplicative", seed=1).save(alone / "dogs.safetensors")
    assert captioner.load(alone / "dogs.safetensors", language="de").caption(photos / "0.png").text


def test_what_is_loaded_is_saved_whole(model: Path, german: Path, photos: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    captioner.load(model, language="de").save(copy)
    assert captioner.load(copy).caption(photos / "0.png") == captioner.load(german).caption(photos / "0.png")
    assert checkpoints.read(copy).weights.keys() == checkpoints.read(german).weights.keys()
