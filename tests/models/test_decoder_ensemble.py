"""Several decoders on one CNN: what they write, what teaches each, and whole runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_captioner
from torch import Tensor
from torch.nn.functional import cross_entropy
from training_runs import load_ckpt, run, small_config

import captioner
from captioner import checkpoint
from captioner.checkpoint.merge import select_members
from captioner.decoding.ensemble import Ensemble
from captioner.errors import CaptionerError
from captioner.models.captioner import CaptionModel
from captioner.models.decoder import Decoder, MemberDecoders
from captioner.models.inference import choose_dtypes, prepare
from captioner.pipeline import Captioner
from captioner.text.vocabulary import END, PAD, START
from captioner.training.objectives.distillation import distillation_loss
from captioner.training.objectives.words import word_loss
from captioner.training.warm_start import warm_start_members

PICTURES = 40
CAPTIONS = torch.tensor([[[START, 4, 5, 6, END], [START, 7, END, PAD, PAD]], [[START, 6, 4, END, PAD], [PAD] * 5]])


@pytest.fixture
def three() -> Captioner:
    return make_captioner("multiplicative", members=3)


def grid_for(model: Captioner) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(2, 4, model.model.encoder.channels)


def test_logarithms_of_the_members_chances_have_a_mean(three: Captioner) -> None:
    decoder, grid, words = three.model.decoder, grid_for(three), torch.tensor([5, 7])
    log_probabilities, attention = Ensemble([decoder], [grid]).step(words)
    apart = [member.step(words, member.start(grid), grid) for member in decoder.members]
    product = torch.stack([step.logits.softmax(-1) for step in apart]).prod(0) ** (1 / 3)
    torch.testing.assert_close(log_probabilities.exp(), product)
    maps = [step.attention for step in apart if step.attention is not None]
    torch.testing.assert_close(attention, sum(maps) / 3)


@pytest.mark.parametrize("attention", ["multiplicative", "none"])
def test_known_captions_are_read_as_they_are_written(attention: str) -> None:
    three = make_captioner(attention, members=3)
    decoder, grid = three.model.decoder.eval(), grid_for(three)
    outcome = decoder(grid, CAPTIONS)
    ensemble = Ensemble([decoder], [grid])
    ensemble.repeat(2)
    words = CAPTIONS.flatten(0, 1)
    read, looked = zip(*(ensemble.step(words[:, position]) for position in range(words.shape[1] - 1)), strict=True)
    real = words[:, 1:] != PAD
    torch.testing.assert_close(outcome.logits, torch.stack(read, dim=1)[real])
    maps = [each for each in looked if each is not None]
    if attention == "none":
        assert outcome.attention is None
        assert not maps
    else:
        torch.testing.assert_close(outcome.attention, torch.stack(maps, dim=1) * real.unsqueeze(-1))


def parts(whole: Captioner) -> list[CaptionModel]:
    """The members of a model, as models."""
    models = []
    for member in whole.model.decoder.members:
        one = make_captioner("multiplicative").model
        one.encoder = whole.model.encoder
        one.decoder = member
        models.append(one)
    return models


def test_members_write_what_as_many_models_write(three: Captioner, photos: Path) -> None:
    pictures = sorted(photos.iterdir())
    whole = three.caption(pictures)
    one, *others = parts(three)
    assert Captioner(one, three.vocabulary, {}, others=others).caption(pictures) == whole
    assert len({each.words for each in whole}) > 1


def test_in_an_ensemble_each_member_counts_as_much_as_a_model(three: Captioner, photos: Path) -> None:
    pictures = sorted(photos.iterdir())
    another = make_captioner("multiplicative", seed=8).model
    one, *others = parts(three)
    apart = Captioner(one, three.vocabulary, {}, others=[*others, another])
    together = Captioner(three.model, three.vocabulary, {}, others=[another])
    assert together.caption(pictures) == apart.caption(pictures)


def test_known_captions_teach_each_member_by_itself(three: Captioner) -> None:
    decoder, grid = three.model.decoder.train(), grid_for(three)
    for member in decoder.members:
        member.dropout.p = 0.0
    expected = torch.rand(int((CAPTIONS[:, :, 1:] != PAD).sum()), len(three.vocabulary)).softmax(-1)
    outcome = decoder(grid, CAPTIONS)
    parameters = list(decoder.parameters())
    apart = [member(grid, CAPTIONS) for member in decoder.members]
    words = [cross_entropy(one.logits, one.targets, label_smoothing=0.1) for one in apart]
    taught = [cross_entropy(one.logits, expected) for one in apart]
    for loss, losses in ((word_loss(outcome, 0.1), words), (distillation_loss(outcome, expected), taught)):
        mean = torch.stack(losses).mean()
        torch.testing.assert_close(loss, mean)
        options: dict[str, Any] = {"retain_graph": True, "materialize_grads": True}
        found, wanted = (torch.autograd.grad(each, parameters, **options) for each in (loss, mean))
        for one, two in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, two)


def test_what_is_validated_is_what_they_tell_together(three: Captioner) -> None:
    decoder, grid = three.model.decoder.eval(), grid_for(three)
    outcome = decoder(grid, CAPTIONS)
    torch.testing.assert_close(word_loss(outcome), cross_entropy(outcome.logits, outcome.targets))
    assert word_loss(outcome) < sum(word_loss(member(grid, CAPTIONS)) for member in decoder.members) / 3


def test_a_file_keeps_all_members(three: Captioner, tmp_path: Path, photos: Path) -> None:
    three.save(tmp_path / "three.safetensors")
    again = captioner.load(tmp_path / "three.safetensors")
    assert isinstance(again.model.decoder, MemberDecoders)
    assert again.caption(sorted(photos.iterdir())) == three.caption(sorted(photos.iterdir()))


def test_all_members_are_prepared_for_bfloat16(three: Captioner) -> None:
    ready = prepare(three.model, choose_dtypes("bfloat16", torch.device("cpu")))
    for member in ready.decoder.members:
        assert {p.dtype for p in member.core.parameters()} == {torch.bfloat16}
        assert member.embedding.weight.dtype == torch.float32


def test_each_member_begins_with_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    ones = [make_captioner("multiplicative", seed=seed) for seed in (5, 6)]
    files = [tmp_path / f"{index}.safetensors" for index in range(2)]
    for one, file in zip(ones, files, strict=True):
        one.save(file)
    two = make_captioner("multiplicative", members=2).model
    warm_start_members(two, ones[0].vocabulary, files)
    assert all(torch.equal(v, ones[0].model.encoder.state_dict()[n]) for n, v in two.encoder.state_dict().items())
    for member, one in zip(two.decoder.members, ones, strict=True):
        assert isinstance(one.model.decoder, Decoder)
        for name, value in member.state_dict().items():
            assert torch.equal(value, one.model.decoder.state_dict()[name])
    with pytest.raises(CaptionerError, match=r"lists 1 checkpoints, and model.decoder.members is 2; give one for each"):
        warm_start_members(two, ones[0].vocabulary, files[:1])


def test_a_file_that_claims_too_many_members_is_refused(tmp_path: Path) -> None:
    one = make_captioner()
    content = checkpoint.Checkpoint(one.model.config, one.vocabulary.words, one.model.state_dict(), {})
    config = replace(content.config, decoder=replace(content.config.decoder, members=10**6))
    with pytest.raises(CaptionerError, match=r"has no weights for 1000000 members; it was edited"):
        replace(content, config=config).build()


@pytest.mark.parametrize("indices", [[0], [2, 0]])
def test_some_members_can_be_kept(indices: list[int], three: Captioner, photos: Path) -> None:
    content = checkpoint.Checkpoint(three.model.config, three.vocabulary.words, three.model.state_dict(), {})
    model, _ = select_members(content, indices).build()
    assert len(model.decoder.members) == len(indices)
    for member, index in zip(model.decoder.members, indices, strict=True):
        kept = three.model.decoder.members[index].state_dict()
        assert all(torch.equal(value, kept[name]) for name, value in member.state_dict().items())
    assert all(torch.equal(v, three.model.encoder.state_dict()[n]) for n, v in model.encoder.state_dict().items())
    with pytest.raises(CaptionerError, match="has no member 3; it has 3, from 0"):
        select_members(content, [3])


@pytest.fixture
def config(shapes: Path, tmp_path: Path) -> dict[str, Any]:
    changes = {
        "trainer": {"default_root_dir": str(tmp_path / "run")},
        "model": {"encoder": {"image_size": 64}, "decoder": {"dropout": 0.1}},
        "data": {"batch_size": 8},
    }
    return small_config(shapes / "captions.jsonl", changes)


def test_members_learn_apart_then_together_by_rewards(
    config: dict[str, Any], shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [tmp_path / f"run{seed}" for seed in (1, 2)]
    for seed, folder in enumerate(runs, start=1):
        assert run(config, tmp_path, "--trainer.default_root_dir", str(folder), "--seed_everything", str(seed)) == 0
    config["model"]["decoder"]["members"] = 2
    config["model"]["encoder"]["unfreeze_from"] = "blocks.2"
    config["model"]["start"] = {"checkpoint": [str(folder / "last.ckpt") for folder in runs]}
    assert run(config, tmp_path) == 0
    before = load_ckpt(tmp_path / "run" / "last.ckpt")["state_dict"]
    config["trainer"]["default_root_dir"] = str(tmp_path / "rewarded")
    config["model"] |= {"start": {"checkpoint": str(tmp_path / "run" / "last.ckpt")}, "self_critical": {"weight": 0.9}}
    config["model"]["optimizer"] = {"ema": 0.9}
    assert run(config, tmp_path) == 0
    after = load_ckpt(tmp_path / "rewarded" / "last.ckpt")["state_dict"]
    learned = [name for name in after if "weight_hh" in name and not torch.equal(after[name], before[name])]
    assert len(learned) == 2
    capsys.readouterr()
    model = captioner.load(tmp_path / "rewarded" / "captioner.safetensors")
    assert model.card["training"]["started from"] == "last.ckpt"
    assert model.caption(shapes / "images" / "00000.jpg").attention is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.decoder.members", "0"], "decoder.members is 0; it must be at least 1"),
        (["--model.decoder.members", "2", "--model.decoder.attention", "hard"], "merge them into an ensemble"),
        (
            ["--model.start.checkpoint", "[a.ckpt, b.ckpt]"],
            "model.start.checkpoint lists 2 checkpoints, and model.decoder.members",
        ),
        (
            ["--model.start.checkpoint", "[a.ckpt]", "--model.start.part", "encoder"],
            "model.start.part encoder takes from one checkpoint; model.start.checkpoint is a list",
        ),
        (
            ["--task", "language_model", "--model.decoder.members", "2"],
            "decoder.members is 2; a language model has 1",
        ),
    ],
)
def test_what_members_cannot_do_is_told_in_a_line(
    config: dict[str, Any], tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if options[0] == "--task":
        text = tmp_path / "text.txt"
        text.write_text("a dog runs\n" * 20)
        blind = {"attention": "none", "image_input": "none", "embedding_size": 8, "hidden_size": 8}
        config = {"model": {"decoder": blind}, "data": {"text": [str(text)]}}
    assert run(config, tmp_path, *options) == 2
    assert message in capsys.readouterr().err
