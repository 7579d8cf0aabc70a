"""Learning from other captioners."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_captioner
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from training_runs import arguments, run, small_config

from captioner import Captioner, load
from captioner.data.images import open_image
from captioner.data.transforms import to_pixels
from captioner.errors import CaptionerError
from captioner.text.vocabulary import END, PAD, START
from captioner.training.module import CaptioningModule
from captioner.training.objectives.distillation import Teachers, distillation_loss
from captioner.training.objectives.self_critical import make_reward, self_critical_loss
from captioner.training.run import parse
from captioner.utils.seeding import batch_seed

PICTURES = 40
CAPTIONS = torch.tensor([[[START, 4, 5, 6, END], [START, 7, END, PAD, PAD]], [[START, 6, 4, END, PAD], [PAD] * 5]])


def saved(captioner: Captioner, folder: Path, name: str) -> str:
    captioner.save(folder / name)
    return str(folder / name)


def step_by_step(captioner: Captioner, grid: torch.Tensor) -> torch.Tensor:
    """Probabilities after each word of the captions, by the loop that decoding takes."""
    rows: list[torch.Tensor] = []
    [decoder] = captioner.model.decoder.members
    for image, captions in zip(grid, CAPTIONS, strict=True):
        for caption in captions:
            state = decoder.start(image[None])
            for word, target in pairwise(caption):
                if target != PAD:
                    logits, state, _ = decoder.step(word[None], state, image[None])
                    rows.append(logits[0].softmax(-1))
    return torch.stack(rows)


def test_teachers_expect_the_mean_of_what_each_expects_of_what_it_sees(tmp_path: Path) -> None:
    student, colleague, stranger = make_captioner(seed=1), make_captioner("adaptive", seed=2), make_captioner(seed=3)
    colleague.model.encoder.load_state_dict(student.model.encoder.state_dict())
    files = [saved(colleague, tmp_path, "a.safetensors"), saved(stranger, tmp_path, "b.safetensors")]
    teachers = Teachers(files, student.model, student.vocabulary)
    pixels = torch.randn(2, 3, 64, 64)
    grid = student.model.encoder(pixels)
    found = teachers.distribution(pixels, grid, CAPTIONS)
    expected = (step_by_step(colleague, grid) + step_by_step(stranger, stranger.model.encoder(pixels))) / 2
    torch.testing.assert_close(found, expected)
    with pytest.raises(CaptionerError, match=r"teacher .*b\.safetensors: has another CNN than the cached features"):
        teachers.distribution(None, grid, CAPTIONS)
    torch.testing.assert_close(
        Teachers(files[:1], student.model, student.vocabulary).distribution(None, grid, CAPTIONS),
        step_by_step(colleague, grid),
    )


def test_a_cnn_that_is_trained_is_not_shared(tmp_path: Path) -> None:
    student = make_captioner()
    file = saved(student, tmp_path, "same.safetensors")
    student.model.encoder.train_from("all")
    assert Teachers([file], student.model, student.vocabulary).sharing == [False]


def test_a_student_who_expects_the_same_has_nothing_to_learn(tmp_path: Path) -> None:
    student, other = make_captioner(seed=1), make_captioner(seed=2)
    file = saved(student, tmp_path, "same.safetensors")
    grid = student.model.encoder(torch.randn(2, 3, 64, 64))
    expected = Teachers([file], student.model, student.vocabulary).distribution(None, grid, CAPTIONS)
    gradients = []
    for decoder in (student.model.decoder, other.model.decoder):
        loss = distillation_loss(decoder(grid, CAPTIONS), expected)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients.append(max(float(each.grad.abs().max()) for each in decoder.parameters() if each.grad is not None))
        entropy = -(expected * expected.log()).sum(1).mean()
        assert loss >= entropy - 1e-6
    assert gradients[0] < 1e-6 < 1e-3 < gradients[1]


@pytest.fixture
def config(shapes: Path, tmp_path: Path) -> dict[str, Any]:
    changes = {
        "seed_everything": 1,
        "trainer": {"max_epochs": 8, "gradient_clip_val": 5.0},
        "model": {
            "optimizer": {"learning_rate": 5e-3},
            "noise": {"feature_dropout": 0.2},
            "decoder": {"dropout": 0.1},
        },
        "data": {"batch_size": 8},
        "early_stopping": {"patience": 99},
    }
    return small_config(shapes / "captions.jsonl", changes)


def test_a_student_comes_to_expect_what_its_teacher_expects(
    config: dict[str, Any], shapes: Path, tmp_path: Path
) -> None:
    folders = {name: tmp_path / name for name in ("teacher", "taught", "untaught")}
    teacher = folders["teacher"] / "last.ckpt"
    options = {name: ["--trainer.default_root_dir", str(folder)] for name, folder in folders.items()}
    assert run(config, tmp_path, *options["teacher"]) == 0
    student = ["--seed_everything", "2", "--model.start.checkpoint", str(teacher), "--model.start.part", "encoder"]
    taught = ["--model.distillation.teachers", f"[{teacher}]", "--model.distillation.weight", "1"]
    cached = ["--data.feature_cache", str(tmp_path / "features.safetensors")]
    assert run(config, tmp_path, *options["taught"], *student, *taught, *cached) == 0
    assert run(config, tmp_path, *options["untaught"], *student, *cached) == 0
    lines = [json.loads(line) for line in (shapes / "captions.jsonl").read_text().splitlines()[:20]]
    distance = {}
    for name in ("taught", "untaught"):
        model = load(folders[name] / "last.ckpt")
        transform = model.model.config.transform
        images = [to_pixels(transform.scale(open_image(shapes / line["image"]))) for line in lines]
        captions = [torch.tensor(model.vocabulary.encode(line["captions"][0])) for line in lines]
        ids = torch.nn.utils.rnn.pad_sequence(captions, batch_first=True, padding_value=PAD)[:, None]
        with torch.no_grad():
            grid = model.model.encoder(transform.normalize(torch.stack(images)))
            expected = Teachers([teacher], model.model, model.vocabulary).distribution(None, grid, ids)
            distance[name] = float(distillation_loss(model.model.decoder(grid, ids), expected))
    assert distance["taught"] < distance["untaught"], distance
    assert load(folders["taught"] / "last.ckpt").card["training"]["teachers"] == ["last.ckpt"]


class Weighed(Callback):
    """Compares the loss of each step of a model without dropout with the sum of its parts, made anew."""

    def __init__(self, teacher: Path, shares: dict[str, float]) -> None:
        self.teacher = load(teacher).model
        self.shares = shares
        self.steps = 0

    @torch.no_grad()
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, CaptioningModule)
        model, pixels = pl_module.model, pl_module.model.config.transform.normalize(batch.images)
        grid = model.encoder(pixels)
        outcome = model.decoder(grid, batch.captions)
        assert outcome.attention is not None
        looked = [sentence for sentence in outcome.attention[..., : grid.shape[1]].sum(1) if sentence.any()]
        said = outcome.logits.log_softmax(-1)
        parts = {
            "words": -said[range(len(said)), outcome.targets].mean(),
            "smooth": -said.mean(),
            "taught": self.surprise(pixels, batch.captions, said),
            "looked": (1 - torch.stack(looked)).square().mean(),
        }
        if pl_module.self_critical.weight > 0:
            reward = make_reward(pl_module.data.train.captions)
            places, seed = batch.indices.tolist(), batch_seed(0, batch_idx)
            drawn = self_critical_loss(model.decoder, grid, places, reward, 3, seed)
            read = model.decoder(grid, drawn.captions).logits.log_softmax(-1)
            parts |= {"rewarded": drawn.loss, "taught drawn": self.surprise(pixels, drawn.captions, read)}
        self.expected = sum(share * parts[name] for name, share in self.shares.items())

    def surprise(self, pixels: torch.Tensor, captions: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        """Of the model, by what the teacher expects."""
        taught: torch.Tensor = self.teacher.decoder(self.teacher.encoder(pixels), captions).logits.softmax(-1)
        return -(taught * said).sum(1).mean()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        torch.testing.assert_close(outputs["loss"], self.expected)
        self.steps += 1


@pytest.fixture
def teacher(config: dict[str, Any], tmp_path: Path) -> Path:
    """A teacher of one epoch; after it, the configuration is that of as short a run in another folder."""
    config["trainer"] |= {"max_epochs": 1, "default_root_dir": str(tmp_path / "teacher")}
    assert run(config, tmp_path) == 0
    config["trainer"]["default_root_dir"] = str(tmp_path / "run")
    return tmp_path / "teacher" / "last.ckpt"


@pytest.mark.parametrize(
    ("self_critical", "shares"),
    [
        (0, {"words": 0.7 * 0.9, "smooth": 0.7 * 0.1, "taught": 0.3, "looked": 0.6}),
        # Where captions are drawn, the teacher tells what it expects of these.
        (
            0.8,
            {"words": 0.2 * 0.9, "smooth": 0.2 * 0.1, "rewarded": 0.8 * 0.7, "taught drawn": 0.8 * 0.3, "looked": 0.12},
        ),
    ],
    ids=["references", "rewards"],
)
def test_the_loss_is_the_weighted_sum_of_its_parts(
    config: dict[str, Any], teacher: Path, tmp_path: Path, self_critical: float, shares: dict[str, float]
) -> None:
    config["model"] |= {"distillation": {"teachers": [str(teacher)], "weight": 0.3}, "noise": {"feature_dropout": 0.0}}
    config["model"] |= {"losses": {"label_smoothing": 0.1, "attention_regularization": 0.6}}
    config["model"] |= {"self_critical": {"weight": self_critical, "samples": 3}}
    config["model"]["decoder"] |= {"dropout": 0.0, "attention": "adaptive"}
    cli, weighed = parse(arguments(config, tmp_path)), Weighed(teacher, shares)
    cli.trainer.callbacks.append(weighed)  # type: ignore[attr-defined]
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    assert weighed.steps == 4


def test_teachers_see_all_features(
    config: dict[str, Any], teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def distribution(self: Teachers, pixels: Any, grid: torch.Tensor, captions: torch.Tensor) -> torch.Tensor:
        seen.append(torch.equal(grid, self.models[0].encoder(pixels)))
        return whole(self, pixels, grid, captions)

    whole = Teachers.distribution
    monkeypatch.setattr(Teachers, "distribution", distribution)
    config["model"] |= {"distillation": {"teachers": [str(teacher)]}, "start": {"checkpoint": str(teacher)}}
    config["model"]["noise"] = {"feature_dropout": 0.5}
    assert run(config, tmp_path) == 0
    assert seen == [True] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data.min_count", "30"], "has other words; train one on the same captions"),
        (["--model.encoder.image_size", "64"], "set model.encoder.image_size and model.encoder.resize as it has them"),
        (
            ["--model.distillation.weight", "1.1"],
            "model.distillation.weight is 1.1; it must be at least 0 and at most 1",
        ),
        (["--model.distillation.teachers", "[nowhere.ckpt]"], "nowhere.ckpt"),
    ],
    ids=["words", "images", "share", "file"],
)
def test_a_teacher_that_does_not_fit_is_refused(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    root = ["--trainer.default_root_dir"]
    assert run(config, tmp_path, *root, str(tmp_path / "teacher"), "--trainer.max_epochs", "1") == 0
    teachers = ["--model.distillation.teachers", f"[{tmp_path / 'teacher' / 'last.ckpt'}]"]
    capsys.readouterr()
    assert run(config, tmp_path, *root, str(tmp_path / "student"), *teachers, *options) == 2
    [told] = capsys.readouterr().err.splitlines()
    assert message in told


def test_a_teacher_with_another_cnn_than_the_cached_features_is_refused(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--trainer.default_root_dir"]
    assert run(config, tmp_path, *root, str(tmp_path / "teacher"), "--trainer.max_epochs", "1") == 0
    teachers = ["--model.distillation.teachers", f"[{tmp_path / 'teacher' / 'last.ckpt'}]", "--seed_everything", "2"]
    cached = ["--data.feature_cache", str(tmp_path / "features.safetensors")]
    capsys.readouterr()
    assert run(config, tmp_path, *root, str(tmp_path / "student"), *teachers, *cached) == 2
    assert "has another CNN than the cached features are of; drop data.feature_cache" in capsys.readouterr().err
