"""Weights of another captioner as a beginning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import make_captioner

from captioner.checkpoint import Checkpoint, read, write
from captioner.errors import CaptionerError
from captioner.models.captioner import CaptionModel
from captioner.models.language_model import LanguageConfig, LanguageModel
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary
from captioner.training.datamodule import CaptionData
from captioner.training.warm_start import warm_start

PICTURES = 12
"""Of the module's data set."""


def test_what_belongs_to_a_word_goes_to_that_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = make_captioner()
    old.save(tmp_path / "old.safetensors")
    kept = old.vocabulary.words[5:]
    vocabulary = Vocabulary([*old.vocabulary.words[:4], "zebra", *reversed(kept)])
    model = CaptionModel(old.model.config, len(vocabulary))
    [decoder] = model.decoder.members
    zebra = decoder.embedding.weight[4].clone()
    tensors = len(model.state_dict())
    taken = warm_start(model, vocabulary, tmp_path / "old.safetensors")
    assert taken == (len(vocabulary) - 1, tensors)
    told = f"{tensors} of {tensors} tensors and {len(vocabulary) - 1} of {len(vocabulary)} words"
    assert capsys.readouterr().err == f"captioner: starts from {str(tmp_path / 'old.safetensors')!r}: {told}\n"
    for name, value in model.state_dict().items():
        other = old.model.state_dict()[name]
        if value.ndim and value.shape[0] == len(vocabulary):
            assert all(torch.equal(value[vocabulary.id(word)], other[old.vocabulary.id(word)]) for word in kept)
        else:
            assert torch.equal(value, other)
    assert torch.equal(decoder.embedding.weight[4], zebra)


def test_a_language_model_gives_its_words_and_cells_and_leaves_what_looks(tmp_path: Path) -> None:
    captioner = make_captioner()
    model, vocabulary = captioner.model, captioner.vocabulary
    words = [*SPECIAL_WORDS, "quark", "runs", "dog"]
    decoder = replace(model.config.decoder, attention="none", image_input="none")
    blind = LanguageModel(LanguageConfig(decoder), len(words))
    write(tmp_path / "language.safetensors", Checkpoint(blind.config, tuple(words), blind.state_dict(), {}))
    before = {name: value.clone() for name, value in model.state_dict().items()}

    assert warm_start(model, vocabulary, tmp_path / "language.safetensors").words == len(SPECIAL_WORDS) + 2
    after, given = model.state_dict(), blind.state_dict()
    of_words = {name for name in given if given[name].shape[:1] == (len(words),)}
    assert of_words == {"decoder.embedding.weight", "decoder.output.weight", "decoder.output_bias"}
    for name, value in after.items():
        if name in of_words:
            for id_, word in enumerate(vocabulary.words):
                source = given[name][words.index(word)] if word in words else before[name][id_]
                assert torch.equal(value[id_], source)
        else:
            assert torch.equal(value, given.get(name, before[name]))
    assert {name for name in after if not torch.equal(after[name], before[name])} == set(given)


def test_a_vocabulary_can_be_taken_from_a_checkpoint(shapes: Path, tmp_path: Path) -> None:
    old = make_captioner()
    old.save(tmp_path / "old.safetensors")
    captions = str(shapes / "captions.jsonl")
    counted = CaptionData(captions, min_count=1)
    data = CaptionData(captions, vocabulary_from=str(tmp_path / "old.safetensors"))
    assert data.vocabulary.words == old.vocabulary.words != counted.vocabulary.words
    told = data.describe()["vocabulary"]
    assert told == f"the {len(old.vocabulary)} words of old.safetensors"


def test_the_encoder_alone_leaves_the_decoder_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = make_captioner()
    old.save(tmp_path / "old.safetensors")
    # The decoder may be of any other shape.
    config = replace(old.model.config, decoder=replace(old.model.config.decoder, attention="spatial", hidden_size=24))
    model = CaptionModel(config, len(old.vocabulary))
    for parameter in model.encoder.parameters():
        torch.nn.init.zeros_(parameter)
    before = {name: value.clone() for name, value in model.decoder.state_dict().items()}

    taken = warm_start(model, old.vocabulary, tmp_path / "old.safetensors", "encoder")

    wanted = old.model.encoder.state_dict()
    assert taken == (0, len(wanted))
    assert f"{len(wanted)} of {len(model.state_dict())} tensors and 0 of" in capsys.readouterr().err
    assert all(torch.equal(value, wanted[name]) for name, value in model.encoder.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in model.decoder.state_dict().items())


def test_a_layer_of_another_shape_is_named(tmp_path: Path) -> None:
    tiny = make_captioner()
    tiny.save(tmp_path / "tiny.safetensors")
    config = replace(tiny.model.config, decoder=replace(tiny.model.config.decoder, hidden_size=24))
    larger = CaptionModel(config, len(tiny.vocabulary))
    with pytest.raises(CaptionerError, match=r"tiny.safetensors: decoder.* has shape .*start from a checkpoint"):
        warm_start(larger, tiny.vocabulary, tmp_path / "tiny.safetensors")


def test_a_checkpoint_with_nothing_of_the_decoder_is_refused(tmp_path: Path) -> None:
    tiny = make_captioner()
    tiny.save(tmp_path / "tiny.safetensors")
    content = read(tmp_path / "tiny.safetensors")
    renamed = {name.replace("decoder.", "old_decoder."): value for name, value in content.weights.items()}
    write(tmp_path / "renamed.safetensors", replace(content, weights=renamed))
    with pytest.raises(CaptionerError, match=r"renamed.safetensors: has no weights of this decoder; start from"):
        warm_start(tiny.model, tiny.vocabulary, tmp_path / "renamed.safetensors")


def test_an_encoder_is_not_taken_from_a_language_model(tmp_path: Path) -> None:
    tiny = make_captioner()
    blind = LanguageModel(LanguageConfig(replace(tiny.model.config.decoder, attention="none", image_input="none")), 4)
    write(tmp_path / "blind.safetensors", Checkpoint(blind.config, SPECIAL_WORDS, blind.state_dict(), {}))
    with pytest.raises(CaptionerError, match=r"blind.safetensors: has no weights of this encoder; start from"):
        warm_start(tiny.model, tiny.vocabulary, tmp_path / "blind.safetensors", "encoder")
