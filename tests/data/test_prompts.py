"""Captions that continue a prompt: how they are read, and what of them is learned."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from training_runs import run, small_config

import captioner
from captioner.data.caption_files import read_records
from captioner.data.dataset import IGNORED, Batch, CaptionDataset, collate
from captioner.data.records import Record, write_jsonl
from captioner.data.sampler import Draw
from captioner.data.split_files import draw_validation
from captioner.data.transforms import Transform
from captioner.models.decoder import Decoder, DecoderConfig, MemberDecoders, make_decoder
from captioner.text.vocabulary import PAD, Vocabulary
from captioner.training.objectives.words import word_loss

ROWS = [
    {"image": "a.png", "prompt": "what color?", "caption": "red", "split": "train"},
    {"image": "a.png", "prompt": "what shape?", "caption": "a square", "split": "train"},
    {"image": "b.png", "prompt": "what color?", "caption": "blue", "split": "val"},
    {"image": "a.png", "prompt": "what color?", "caption": "dark red", "split": "train"},
    {"image": "b.png", "prompt": "", "caption": "a blue circle", "split": "val"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (32, 32), "red").save(tmp_path / name)
    return tmp_path


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def told(records: list[Record]) -> list[tuple[str, str, tuple[str, ...], str]]:
    return [(record.image.name, record.prompt, record.captions, record.split) for record in records]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_image_has_a_record_for_each_prompt(folder: Path, form: str) -> None:
    file = folder / f"captions.{form}"
    if form == "csv":
        write_csv(file, ROWS)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    expected = [
        ("a.png", "what color?", ("red", "dark red"), "train"),
        ("a.png", "what shape?", ("a square",), "train"),
        ("b.png", "what color?", ("blue",), "val"),
        ("b.png", "", ("a blue circle",), "val"),
    ]
    records = read_records(file, prompts=True)
    assert told(records) == expected
    write_jsonl(records, folder / "again.jsonl")
    assert told(read_records(folder / "again.jsonl", prompts=True)) == expected
    assert told(read_records(file)) == [
        ("a.png", "", ("red", "a square", "dark red"), "train"),
        ("b.png", "", ("blue", "a blue circle"), "val"),
    ]


def test_split_files_list_an_image_with_all_of_its_prompts(folder: Path) -> None:
    file = write_csv(folder / "captions.csv", [{k: v for k, v in row.items() if k != "split"} for row in ROWS])
    for name, images in (("train", "a.png\n"), ("val", "b.png\n"), ("test", "c.png\n")):
        (folder / f"{name}.txt").write_text(images)
    records = read_records(file, splits=folder, wanted=("train", "val"), prompts=True)
    assert [record[1:] for record in told(records)] == [
        ("what color?", ("red", "dark red"), "train"),
        ("what shape?", ("a square",), "train"),
        ("what color?", ("blue",), "val"),
        ("", ("a blue circle",), "val"),
    ]


def test_an_image_is_drawn_for_validation_with_all_of_its_prompts() -> None:
    records = [Record(Path(f"{n}.png"), ("x",), "train", n, prompt=p) for n in range(10) for p in ("one", "two")]
    drawn = {record.image for record in draw_validation(records, 0.3, 1) if record.split == "val"}
    assert len(drawn) == 3
    assert not drawn & {record.image for record in draw_validation(records, 0.3, 1) if record.split == "train"}


def batch_of(folder: Path) -> tuple[Batch, Vocabulary]:
    records = [
        Record(folder / "a.png", ("a dog", "the dog runs"), "train", 1, prompt="it is"),
        Record(folder / "b.png", ("a cat",), "train", 2),
    ]
    vocabulary = Vocabulary.from_captions(["it is a dog", "the dog runs", "a cat"], min_count=1)
    dataset = CaptionDataset(records, vocabulary, Transform(32, "squash"), 5)
    return collate([dataset[Draw(place, 1)] for place in range(2)]), vocabulary


def test_targets_are_the_words_after_the_prompt(folder: Path) -> None:
    batch, vocabulary = batch_of(folder)
    words = [[vocabulary.decode(ids.tolist()) for ids in captions] for captions in batch.captions]
    assert words == [[["it", "is", "the", "dog", "runs"], ["it", "is", "a", "dog"]], [["a", "cat"], []]]
    ignored = batch.targets == IGNORED
    assert ignored[0].tolist() == [[False, True, True] + [False] * 4] * 2
    assert not ignored[1].any()
    torch.testing.assert_close(batch.targets[~ignored], batch.captions[~ignored])
    assert [vocabulary.decode(prompt) for prompt in batch.prompts] == [["it", "is"], []]


def losses_by_hand(decoder: Decoder, grid: Tensor, batch: Batch) -> list[Tensor]:
    """Of each word after the prompts, one at a time."""
    assert batch.given is not None
    losses = []
    for image, given in enumerate(batch.given.tolist()):
        for caption in batch.captions[image]:
            state, words = decoder.start(grid[image : image + 1]), caption[caption != PAD]
            for place in range(1, len(words)):
                step = decoder.step(words[place - 1 : place], state, grid[image : image + 1])
                state = step.state
                if place > given:
                    losses.append(-step.logits[0].log_softmax(-1)[words[place]])
    return losses


@pytest.mark.parametrize("attention", ["soft", "none"])
@pytest.mark.parametrize("members", [1, 2])
def test_the_loss_is_that_of_the_words_after_the_prompt(folder: Path, attention: Any, members: int) -> None:
    batch, vocabulary = batch_of(folder)
    torch.manual_seed(2)
    config = DecoderConfig(
        attention=attention, embedding_size=8, hidden_size=7, attention_size=5, dropout=0.0, members=members
    )
    decoder, grid = make_decoder(config, 10, len(vocabulary)), torch.randn(2, 9, 10)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    each = decoder.members if isinstance(decoder, MemberDecoders) else [decoder]
    expected = torch.stack([torch.stack(losses_by_hand(member, grid, batch)).mean() for member in each]).mean()
    loss = word_loss(decoder(grid, batch.targets, batch.captions))
    torch.testing.assert_close(loss, expected)


@pytest.fixture
def questions(folder: Path) -> dict[str, Any]:
    """One picture says it all: what is answered depends on the question alone."""
    for number in range(8):
        Image.new("RGB", (32, 32), "red").save(folder / f"{number}.png")
    rows = [
        {"image": f"{number}.png", "prompt": prompt, "caption": answer, "split": "val" if number == 7 else "train"}
        for number in range(8)
        for prompt, answer in (("what color", "red"), ("how many", "one"))
    ]
    changes = {
        "trainer": {"default_root_dir": str(folder / "run"), "max_epochs": 40, "check_val_every_n_epoch": 10},
        "model": {"optimizer": {"learning_rate": 0.02}, "noise": {"word_dropout": 0.9}},
        "checkpoint": {"monitor": "val/loss", "mode": "min"},
        "early_stopping": {"monitor": "val/loss", "mode": "min", "patience": 40},
        "data": {"prompts": True, "feature_cache": str(folder / "features")},
    }
    return small_config(write_csv(folder / "captions.csv", rows), changes)


def test_a_prompt_decides_what_is_answered(questions: dict[str, Any], folder: Path) -> None:
    assert run(questions, folder) == 0
    model = captioner.load(folder / "run" / "captioner.safetensors")
    assert model.card["validation scores"]["BLEU-1"] == pytest.approx(1)  # of the answers
    for prompt, answer in (("What color?", "red"), ("How many?", "one")):
        caption = model.caption(folder / "7.png", prompt=prompt)
        assert caption.words[caption.given :] == (answer,)
        assert caption.log_probability > -0.5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["--model.self_critical.weight", "0.5"],
            "data.prompts is only for the cross-entropy of words; drop model",
        ),
        (["--model.decoder.attention", "hard"], "and choose another model.decoder.attention than hard"),
        (["--data.captions", "[plain.csv]"], "plain.csv: no caption has a prompt; write one into a column or field"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_told_in_one_line(
    questions: dict[str, Any],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    write_csv(folder / "plain.csv", [{"image": "a.png", "prompt": "", "caption": "red"}] * 2)
    assert run(questions, folder, *overrides) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
