"""Language models: text in, perplexity and sentences out."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from training_runs import load_ckpt, run, small_config

from captioner import checkpoint
from captioner.cli import main
from captioner.data.text_files import read_lines, read_text
from captioner.errors import CaptionerError
from captioner.models.decoder import DecoderConfig
from captioner.models.language_model import BLIND, LanguageConfig, LanguageModel
from captioner.text.vocabulary import END, START, UNKNOWN
from captioner.training.text_datamodule import ChunkSampler, Stream, TextData
from captioner.utils.seeding import batch_seed

LINES = [
    f"{number} {size} {animal} {verb}"
    for number, size, animal, verb in itertools.product(
        ("one", "two", "three"), ("big", "small"), ("dogs", "cats", "birds"), ("run", "sit", "sleep")
    )
]


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(LINES * 4) + "\n")
    decoder = {"attention": "none", "image_input": "none", "embedding_size": 16, "hidden_size": 16, "dropout": 0.1}
    return {
        "task": "language_model",
        "trainer": {"default_root_dir": str(tmp_path / "run"), "max_epochs": 2, "gradient_clip_val": 1.0},
        "model": {"decoder": decoder, "optimizer": {"learning_rate": 0.02}},
        "data": {"text": [str(text)], "min_count": 1, "batch_size": 4, "steps": 7},
    }


# Text files.


def test_plain_text_is_tested_on_its_last_lines(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_bytes("\ufeffa b\n\n  \nc\nd\ne é\n".encode())
    assert read_text(file, held_out=0.5) == (["a b", "c"], ["d", "e é"])


@pytest.mark.parametrize("name", ["captions.jsonl", "captions.jsonl.gz"])
def test_captions_have_their_own_splits(tmp_path: Path, name: str) -> None:
    entries = [
        {"captions": ["a dog", " "], "split": "val"},
        {"captions": ["a cat", "two cats"], "split": "train"},
        {"captions": ["never read"], "split": "test"},
    ]
    content = "\n".join(json.dumps(entry) for entry in entries).encode()
    file = tmp_path / name
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert read_text(file, held_out=0.5) == (["a cat", "two cats"], ["a dog"])


def test_a_line_of_captions_ends_at_a_line_feed_and_is_to_learn_from_unless_it_says_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "captions.jsonl"
    file.write_text('{"captions": ["a\x85dog\u2028runs"]}\n{"captions": ["a cat"], "split": "val"}\n', encoding="utf-8")
    assert read_text(file, held_out=0.5) == (["a\x85dog\u2028runs"], ["a cat"])


def test_captions_of_an_image_stay_together_where_there_are_no_splits(tmp_path: Path) -> None:
    file = tmp_path / "captions.jsonl"
    file.write_text("\n".join(json.dumps({"captions": [f"{n}a", f"{n}b"]}) for n in range(4)))
    assert read_text(file, held_out=0.25) == (["0a", "0b", "1a", "1b", "2a", "2b"], ["3a", "3b"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.txt", b"one line\n", "too few lines"),
        ("text.txt", b"a\nb\xff\n", "is not UTF-8 at byte 3"),
        ("text.txt.gz", gzip.compress(b"a\nb\nc" * 99, mtime=0)[:-9], "is damaged or truncated"),
        ("text.jsonl", b'{"captions": ["a"]}\n{"captions"', "line 2 is not JSON"),
        ("text.jsonl", b'{"captions": ' + b"[" * 99_999, "line 1 is not usable JSON"),
        ("text.jsonl", b'{"captions": "a dog"}\n', '"captions" of text .*, line 1 is "a dog": it must be a list'),
        ("text.jsonl", b'{"captions": [7]}\n', "a caption of text .*, line 1 is 7: it must be a text"),
        ("text.jsonl", b'{"captions": ["a"], "split": "test"}\n', "too few lines"),
    ],
)
def test_text_that_cannot_be_used_is_told(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(CaptionerError, match=message) as caught:
        read_text(file, held_out=0.5)
    assert str(file) in str(caught.value)


def test_a_held_out_text_leaves_all_of_the_other_to_learn_from(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("mr. <unk> said N\n\nN n.v.\n")
    (tmp_path / "valid.jsonl").write_text('{"captions": ["<unk> N"], "split": "train"}\n')
    files = [str(tmp_path / "train.txt"), str(tmp_path / "train.txt")]
    data = TextData(files, unit="tokens", min_count=1, held_out_text=str(tmp_path / "valid.jsonl"))
    assert data.lines == ([["mr.", "<unk>", "said", "N"], ["N", "n.v."]] * 2, [["<unk>", "N"]])
    assert set(data.vocabulary.words[4:]) == {"mr.", "said", "N", "n.v."}
    assert data.vocabulary.id("<unk>") == UNKNOWN


def test_an_empty_held_out_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(CaptionerError, match=r"empty\.txt: has no line; name a file with text"):
        read_lines(tmp_path / "empty.txt")


# Chunks.


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("tracks", "steps"), [(1, 5), (3, 4), (2, 100)])
def test_chunks_go_on_where_the_last_one_ended(shuffle: bool, tracks: int, steps: int) -> None:
    lines = [[START, *range(10 * n, 10 * n + n % 4 + 1), END] for n in range(1, 20)]
    stream = Stream(lines)
    sampler = ChunkSampler(stream, tracks, steps, shuffle)
    sampler.set_epoch(1)
    chunks = [stream[places] for places in sampler]
    assert len(chunks) == len(sampler)
    for one, following in itertools.pairwise(chunks):
        assert torch.equal(one[:, -1], following[:, 0])
    rows = torch.cat([chunks[0], *(chunk[:, 1:] for chunk in chunks[1:])], dim=1)
    assert rows.numel() == len(stream) // tracks * tracks
    ids = rows.flatten().tolist()
    starts = [*(place for place, id_ in enumerate(ids) if id_ == START), len(ids)]
    read = [ids[a:b] for a, b in itertools.pairwise(starts)]
    assert all(line in lines for line in read[:-1])
    assert (read[:-1] == lines[: len(read) - 1]) != shuffle


def test_every_epoch_has_its_own_order_and_a_resumed_one_the_rest_of_it() -> None:
    stream = Stream([[START, n, END] for n in range(4, 60)])

    def epoch(number: int, seen: tuple[int, int] = (0, 0)) -> list[list[int]]:
        sampler = ChunkSampler(stream, 2, 5, shuffle=True, seen=seen)
        sampler.set_epoch(number)
        return [places.tolist() for places in sampler]

    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1)
    assert epoch(1, seen=(1, 4)) == epoch(1)[4:]
    assert epoch(2, seen=(1, 4)) == epoch(2)


def test_held_out_text_is_read_in_as_many_tracks_as_it_has_long_ones(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    for lines, tracks in ((500, 1), (1250, 2), (10_000, 4)):
        text.write_text("one two\n" * lines)
        data = TextData([str(text)], batch_size=4, steps=10, held_out=0.5)
        data.setup("fit")
        assert {len(chunk) for chunk in data.val_dataloader()} == {tracks}
        assert {len(chunk) for chunk in data.train_dataloader()} == {4}


# Training.


def test_it_learns_the_language_and_speaks_it(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What can be said has 54 sentences, equally likely: the perplexity of 5 words, END included, is 54^(1/5)."""
    config["trainer"]["max_epochs"] = 12
    assert run(config, tmp_path) == 0
    file = tmp_path / "run" / "language_model.safetensors"
    printed = capsys.readouterr()
    assert printed.out == f"{file}\n"
    perplexity = checkpoint.read(file).card["validation scores"]["perplexity"]
    told = [float(value) for value in re.findall(r"perplexity (\d+\.\d+)", printed.err)]
    assert min(told) == pytest.approx(perplexity, abs=1e-3)
    assert 54 ** (1 / 5) - 0.1 < perplexity < 54 ** (1 / 5) + 0.3

    assert main(["sample", "--model", str(file), "--count", "50", "--temperature", "0.6"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 50
    assert sum(sentence in LINES for sentence in said) >= 45
    assert len(set(said)) > 10
    assert main(["sample", "--model", str(file), "--count", "50", "--temperature", "0.6"]) == 0
    assert capsys.readouterr().out.splitlines() == said


def test_characters_are_learned_as_words_are(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config["data"] |= {"unit": "characters", "steps": 20}
    config["trainer"]["max_epochs"] = 6
    assert run(config, tmp_path) == 0
    file = tmp_path / "run" / "language_model.safetensors"
    content = checkpoint.read(file)
    assert set(content.words[4:]) == set("".join(LINES))
    assert content.card["validation scores"]["perplexity"] < 3
    capsys.readouterr()
    assert main(["sample", "--model", str(file), "--count", "20", "--temperature", "0.3", "--max-words", "30"]) == 0
    assert set("".join(capsys.readouterr().out.split())) <= set("".join(LINES))
    assert main(["info", "--model", str(file)]) == 0
    assert f"size: {file.stat().st_size / 1000:.1f} kB" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("tracks", [1, 8])
def test_the_perplexity_is_that_of_the_whole_stream(config: dict[str, Any], tracks: int, tmp_path: Path) -> None:
    config["data"] |= {"batch_size": tracks, "shuffle": False}
    assert run(config, tmp_path) == 0
    content = checkpoint.read(tmp_path / "run" / "language_model.safetensors")
    model, vocabulary = content.build_language_model()
    lines = read_text(config["data"]["text"][0], 0.05)[1]
    ids = [id_ for line in lines for id_ in (START, *(vocabulary.id(word) for word in line.split()), END)]
    grid = model.nothing(1)
    state, losses = model.start(grid), []
    with torch.no_grad():
        for word, following in itertools.pairwise(ids):
            logits, state, _ = model.step(torch.tensor([word]), state, grid)
            if following != START:
                losses.append(float(cross_entropy(logits, torch.tensor([following]))))
    expected = math.exp(sum(losses) / len(losses))
    assert content.card["validation scores"]["perplexity"] == pytest.approx(expected, abs=2e-3)


def test_words_are_dropped_from_what_is_learned_alone(config: dict[str, Any], tmp_path: Path) -> None:
    config["model"]["optimizer"]["learning_rate"] = 1e-30
    perplexities = []
    for share in ("0", "1"):
        folder = tmp_path / share
        assert (
            run(config, tmp_path, "--trainer.default_root_dir", str(folder), "--model.noise.word_dropout", share) == 0
        )
        perplexities.append(
            checkpoint.read(folder / "language_model.safetensors").card["validation scores"]["perplexity"]
        )
    assert perplexities[0] == perplexities[1]


def test_gradients_end_where_the_chunk_begins_and_the_state_does_not() -> None:
    torch.manual_seed(0)
    model = LanguageModel(LanguageConfig(DecoderConfig(attention="none", image_input="none", hidden_size=8)), 9)
    model.eval()
    words, grid = torch.tensor([[START, 4, 5, END, START, 6]]), model.nothing(1)
    whole, _ = model.decoder.unroll(words, model.start(grid), grid)
    first, state = model.decoder.unroll(words[:, :3], model.start(grid), grid)
    second, _ = model.decoder.unroll(words[:, 3:], state, grid)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)


@pytest.mark.parametrize("overrides", [[], ["--model.decoder.variational_dropout", "true"]])
def test_a_run_resumed_within_an_epoch_ends_where_an_uninterrupted_one_does(
    config: dict[str, Any],
    tmp_path: Path,
    overrides: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(config, tmp_path, *overrides) == 0
    expected = load_ckpt(tmp_path / "run" / "last.ckpt")["state_dict"]

    class StopError(Exception):
        pass

    def stop(epoch: int, batch: int) -> int:
        if (epoch, batch) == (1, 9):
            raise StopError
        return batch_seed(epoch, batch)

    cut = ["--trainer.default_root_dir", str(tmp_path / "cut"), "--save_every_steps", "4", *overrides]
    with monkeypatch.context() as patch, pytest.raises(StopError):
        patch.setattr("captioner.training.base.batch_seed", stop)
        run(config, tmp_path, *cut)
    last = tmp_path / "cut" / "last.ckpt"
    assert 0 < load_ckpt(last)["TextData"]["chunks"] <= 9
    assert run(config, tmp_path, *cut, "--resume", str(last), "--data.batch_size", "2") == 2
    assert "is within an epoch of other chunks (text, data.batch_size, data.steps: [" in capsys.readouterr().err
    assert run(config, tmp_path, *cut, "--resume", str(last)) == 0
    found = load_ckpt(last)["state_dict"]
    assert [name for name, value in expected.items() if not torch.equal(value, found[name])] == []


def test_a_captioner_starts_from_its_weights(config: dict[str, Any], tmp_path: Path) -> None:
    from make_shapes import write_shapes

    assert run(config, tmp_path) == 0
    language = tmp_path / "run" / "language_model.safetensors"
    write_shapes(tmp_path / "shapes", 20, seed=1, size=64)
    changes = {
        "trainer": {"default_root_dir": str(tmp_path / "captioner"), "max_epochs": 1},
        "model": {"start": {"checkpoint": str(language)}, "optimizer": {"learning_rate": 1e-30}},
    }
    assert run(small_config(tmp_path / "shapes" / "captions.jsonl", changes), tmp_path) == 0
    before, _ = checkpoint.read(language).build_language_model()
    after, _ = checkpoint.read(tmp_path / "captioner" / "captioner.safetensors").build()
    for name, value in before.decoder.core.cells.named_parameters():
        torch.testing.assert_close(after.decoder.members[0].core.cells.get_parameter(name), value)


# Mistakes.


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--model.decoder.attention", "soft"], "decoder.attention is soft; a language model has no picture"),
        (["--model.decoder.image_input", "first_word"], "decoder.image_input is first_word; a language model has no"),
        (["--data.text", "[nowhere.txt]"], "text nowhere.txt: cannot be read: No such file"),
        (["--data.batch_size", "999"], "do not fill 999 tracks; lower data.batch_size or add text"),
        (["--data.held_out", "1"], "data.held_out is 1.0; it must be greater than 0 and less than 1"),
        (["--data.unit", "letters"], "letters"),
        (["--task", "painting"], "train: task 'painting' is unknown; choose captioning or language_model"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_told_in_one_line(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    assert run(config, tmp_path, *overrides) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_task_that_is_no_name_is_told(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run({**config, "task": ["language_model"]}, tmp_path) == 2
    assert "train: task ['language_model'] is unknown; choose captioning or" in capsys.readouterr().err


def test_a_captioner_cannot_be_sampled_nor_a_language_model_caption(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from captioner.checkpoint import Checkpoint, write

    assert main(["sample", "--model", str(checkpoint)]) == 2
    assert "is of a captioner, no language model" in capsys.readouterr().err
    words = ("<pad>", "<start>", "<end>", "<unk>", "dog")
    blind = LanguageModel(LanguageConfig(BLIND), len(words))
    file = tmp_path / "language.safetensors"
    write(file, Checkpoint(blind.config, words, blind.state_dict(), {}))
    assert main(["caption", "--model", str(file), "photo.jpg"]) == 2
    assert "is of a language model, which sees no pictures" in capsys.readouterr().err
    assert main(["info", "--model", str(file)]) == 0
    assert "language model of: words" in capsys.readouterr().out
    small = tmp_path / "small.safetensors"
    assert main(["export", str(file), "--dtype", "float16", "--output", str(small)]) == 0
    assert small.stat().st_size < file.stat().st_size
    assert main(["sample", "--model", str(small), "--count", "1"]) == 0
    capsys.readouterr()
    assert main(["sample", "--model", str(small), "--count", "2", "--prompt", "Dog dog"]) == 0
    assert [line.startswith("dog dog") for line in capsys.readouterr().out.splitlines()] == [True, True]
    assert main(["sample", "--model", str(small), "--prompt", "a dog"]) == 2
    assert "prompt has 'a', which the model does not know; use its words" in capsys.readouterr().err


def test_a_chunk_that_has_nothing_but_a_start_to_tell_has_a_loss(config: dict[str, Any], tmp_path: Path) -> None:
    config["data"] |= {"batch_size": 1, "steps": 1}
    assert run(config, tmp_path, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "30") == 0
    content = checkpoint.read(tmp_path / "run" / "language_model.safetensors")
    assert math.isfinite(content.card["validation scores"]["perplexity"])
