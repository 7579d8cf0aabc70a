"""tools/experiments/text_tasks: the text encoder against torch, tasks whose answers are known, and stopped runs."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import classify
import numpy as np
import pytest
import torch
import translate
from PIL import Image
from text_alignment import of_words
from text_encoder import CELLS, CHOICES, TextConfig, TextEncoder, TextModel, equal_lengths, write_together
from text_training import LAST, FitOptions, Pair, Trained, fit, make_batches, read_checkpoint

from captioner.decoding import DecodingOptions
from captioner.errors import CaptionerError
from captioner.text.vocabulary import END, PAD, SPECIAL_WORDS, START, Vocabulary
from captioner.training.objectives.words import word_loss

WORDS = ["hund", "katze", "rot", "blau", "geht", "steht"]
IN_ENGLISH = dict(zip(WORDS, ["dog", "cat", "red", "blue", "walks", "stands"], strict=True))
TINY = ["--embedding-size", "32", "--hidden-size", "64", "--batch-size", "16", "--no-bf16"]
TINY += ["--embedding-scale", "1", "--word-dropout", "0", "--dropout", "0", "--label-smoothing", "0", "--ema", "0"]
LEARNING = ["--patience", "25", "--learning-rate", "1e-2"]
SEARCH = DecodingOptions(beam_size=3, max_words=6, no_repeat_ngram=0)


def config(**more: object) -> TextConfig:
    return TextConfig(**{"embedding_size": 6, "hidden_size": 8, "dropout": 0.0, **more})  # type: ignore[arg-type]


def model(**more: object) -> TextModel:
    torch.manual_seed(3)
    made = TextModel(config(**more), 20, 12)
    for parameter in made.parameters():  # far from the start, where all predictions are alike
        torch.nn.init.normal_(parameter)
    return made.eval()


def ids(lengths: Sequence[int]) -> list[list[int]]:
    chosen = random.Random(5)
    return [[chosen.randrange(4, 20) for _ in range(length)] for length in lengths]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_last_states_are_the_ones_that_the_network_ends_with(cell: str, bidirectional: bool) -> None:
    torch.manual_seed(3)
    encoder = TextEncoder(config(cell=cell, view="last", bidirectional=bidirectional), 20).eval()
    sentences = torch.tensor(ids([5, 5, 5]))
    grid = encoder(sentences)
    ends = encoder.cells(encoder.embedding(sentences))[1]
    ends = ends[0] if cell == "lstm" else ends
    torch.testing.assert_close(grid, torch.cat(list(ends), dim=1).unsqueeze(1))


@pytest.mark.parametrize(("bidirectional", "changed"), [(False, [3, 4]), (True, [0, 1, 2, 3, 4])])
def test_a_word_changes_later_states_and_of_two_directions_all(bidirectional: bool, changed: list[int]) -> None:
    encoder = model(bidirectional=bidirectional).encoder
    one = torch.tensor(ids([5]))
    other = one.clone()
    other[0, 3] = 4 if one[0, 3] != 4 else 5
    differs = (encoder(one) != encoder(other)).any(dim=2)[0]
    assert differs.nonzero().flatten().tolist() == changed


@pytest.mark.parametrize(
    ("view", "attention"),
    [("last", "soft"), ("mean", "soft"), *(("attention", each) for each in CHOICES["attention"])],
)
def test_what_is_written_depends_on_no_other_sentence(view: str, attention: str) -> None:
    made, sentences = model(view=view, attention=attention), ids([3, 1, 7, 3, 4, 1, 7])
    together = made.write(sentences, SEARCH)
    for sentence, found in zip(sentences, together, strict=True):
        [alone] = made.write([sentence], SEARCH)
        assert found.words == alone.words
        assert found.log_probabilities == pytest.approx(alone.log_probabilities, rel=1e-3)
        if view == "attention":
            assert found.attention is not None
            # There is no state of padding that could be attended to.
            assert found.attention.shape == (len(found.words), len(sentence))
            torch.testing.assert_close(found.attention.sum(dim=1), torch.ones(len(found.words)))
        else:
            assert found.attention is None
    assert len({round(found.log_probability, 3) for found in together}) > 3  # they differ by what is read


def test_normalized_states_differ_in_direction_alone() -> None:
    torch.manual_seed(3)
    grid = TextEncoder(config(hidden_size=64, normalized=True), 20).eval()(torch.tensor(ids([5, 5, 5])))
    torch.testing.assert_close(grid.mean(-1), torch.zeros(3, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(grid.norm(dim=-1), torch.full((3, 5), 8.0), atol=0.05, rtol=0)


def test_batches_are_of_one_length_and_hold_everything_once() -> None:
    lengths = [3, 1, 3, 3, 2, 1, 3]
    batches = equal_lengths(lengths, 2, order=[6, 5, 4, 3, 2, 1, 0])
    assert sorted(index for batch in batches for index in batch) == list(range(7))
    for batch in batches:
        assert len(batch) <= 2
        assert len({lengths[index] for index in batch}) == 1
    pairs = [Pair([7] * length, [START, *range(4, 4 + index), END]) for index, length in enumerate(lengths)]
    for sources, targets in make_batches(pairs, 2):
        assert len({len(source) for source in sources}) == 1
        kept = [[id_ for id_ in row if id_ != PAD] for row in targets.tolist()]
        assert all(pairs[len(row) - 2].target == row for row in kept)
        assert [len(row) for row in kept] == sorted(map(len, kept), reverse=True)


def test_several_networks_write_what_is_most_likely_by_their_mean() -> None:
    one_word = DecodingOptions(beam_size=1, min_words=1, max_words=1)
    first, second = model(view="mean"), model(bidirectional=False)
    torch.nn.init.normal_(second.decoder.output_bias)
    sentences = ids([3] * 20)
    grids = [each.encoder.encode(sentences) for each in (first, second)]
    start = torch.full((20,), START)
    logits = [
        each.decoder.step(start, each.decoder.start(grid), grid).logits
        for each, grid in zip((first, second), grids, strict=True)
    ]
    mean = torch.stack([each.log_softmax(-1) for each in logits]).mean(0)
    mean[:, [PAD, START, END, 3]] = -torch.inf
    found = [hypothesis.words[0] for hypothesis in write_together([first, second], sentences, one_word)]
    assert found == mean.argmax(1).tolist()
    assert found != [hypothesis.words[0] for hypothesis in first.write(sentences, one_word)]


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # Newcombe, 1998, Statistics in Medicine 17, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_the_published_ones(right: int, count: int, low: float, high: float) -> None:
    assert classify.wilson_interval(right / count, count) == pytest.approx((low, high), abs=5e-5)


def test_the_attention_of_words_is_the_sum_over_pieces_read_and_the_mean_over_those_written() -> None:
    weights = np.array([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(of_words(weights, [1, 2], [2, 1]), [[0.2, 0.8], [1.0, 0.0]])


def test_no_translation_is_empty() -> None:
    made = model()
    with torch.no_grad():
        made.decoder.output_bias[END] = 1e4
    found = made.write(ids([3, 1]), translate.GREEDY)
    assert [len(hypothesis.words) for hypothesis in found] == [1, 1]


def reversed_pairs(folder: Path) -> None:
    """German sentences, and English ones that say the same backwards: different ones in each split."""
    chosen = random.Random(1)
    sentences = {tuple(chosen.choices(WORDS, k=length)) for length in (1, 2, 3) for _ in range(500)}
    shuffled = sorted(sentences)
    chosen.shuffle(shuffled)
    parts = {"val": shuffled[:10], "test_2016_flickr": shuffled[10:30], "train": shuffled[30:]}
    for split, part in parts.items():
        german = "".join(f"{' '.join(words)}.\n" for words in part)
        english = "".join(f"{' '.join(IN_ENGLISH[word] for word in reversed(words)).capitalize()}.\n" for words in part)
        (folder / f"{split}.de").write_text(german)
        (folder / f"{split}.en.gz").write_bytes(gzip.compress(english.encode()))


@pytest.mark.slow
def test_it_learns_to_translate_backwards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reversed_pairs(tmp_path)
    run, data = str(tmp_path / "run"), ["--data", str(tmp_path)]
    assert translate.main(["train", run, *data, *TINY, *LEARNING, "--epochs", "25"]) == 0
    assert translate.main(["test", run, *data]) == 0
    assert float(capsys.readouterr().out.split("beam of 5: ")[1].split()[0]) > 95
    figure = tmp_path / "alignment.png"
    assert translate.main(["say", run, "rot geht hund.", "--figure", str(figure)]) == 0
    assert capsys.readouterr().out == "Dog walks red.\n"
    with Image.open(figure) as picture:
        assert picture.format == "PNG"
    # The first word is written while looking further to the end than for the last one.
    trained = Trained.load(tmp_path / "run")
    source = translate.encode(trained.source, "katze steht rot.")
    assert trained.source.text(source) == "katze steht rot."
    [found] = trained.model.write([source], SEARCH)
    assert found.attention is not None
    places = found.attention @ torch.arange(float(len(source)))
    assert places[0] > places[2]


def labeled_files(folder: Path) -> list[str]:
    """Sentences of three classes, each of which has a word that no other has, at any place."""
    chosen = random.Random(2)
    named = []
    for label, telling in (("animal", "dog"), ("plant", "tree"), ("stone", "rock")):
        lines = []
        for _ in range(100):
            words = chosen.choices(["a", "the", "big", "small", "old"], k=chosen.randint(1, 6))
            words.insert(chosen.randint(0, len(words)), telling)
            lines.append(" ".join(words))
        file = folder / f"{label}.txt"
        file.write_text("\n".join(lines) + "\n")
        named.append(f"{label}={file}")
    return named


@pytest.mark.parametrize(
    "way", [["--view", "last", "--no-bidirectional"], ["--view", "last"], ["--view", "mean"], ["--view", "attention"]]
)
def test_it_learns_to_classify(tmp_path: Path, capsys: pytest.CaptureFixture[str], way: list[str]) -> None:
    run, data = str(tmp_path / "run"), ["--data", *labeled_files(tmp_path)]
    assert classify.main(["train", run, *data, *TINY, *way, *LEARNING, "--epochs", "6"]) == 0
    assert classify.main(["test", run, *data]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert float(told.removeprefix("accuracy on 30 sentences: ").split("%")[0]) > 90
    assert classify.main(["test", run, *data, "--together", run, run]) == 0
    assert capsys.readouterr().out == f"{told}\n"
    assert classify.main(["say", run, "The old TREE"]) == 0
    assert capsys.readouterr().out.startswith("plant ")
    figure = tmp_path / "attention.png"
    drawn = classify.main(["say", run, "the old tree", "--figure", str(figure)])
    assert (drawn == 0) == figure.exists() == ("attention" in way)


def toy() -> tuple[Trained, list[Pair], Callable[[TextModel], float]]:
    target = Vocabulary([*SPECIAL_WORDS, "even", "odd"])
    source = Vocabulary([*SPECIAL_WORDS, *map(str, range(16))])
    pairs = [Pair(sentence, [START, 4 + sum(sentence) % 2, END]) for sentence in ids([1, 2, 3] * 20)]
    trained = Trained.new(config(dropout=0.3), source, target, seed=1)

    @torch.no_grad()
    def score(made: TextModel) -> float:
        made.eval()
        return -sum(float(word_loss(made(*batch))) for batch in make_batches(pairs, 60))

    return trained, pairs, score


OPTIONS = FitOptions(epochs=4, patience=4, batch_size=8, learning_rate=1e-2, ema=0.9, bf16=False)


def test_a_run_that_was_stopped_ends_like_one_that_was_not(tmp_path: Path) -> None:
    trained, pairs, score = toy()
    best = fit(trained, pairs, score, OPTIONS, tmp_path / "whole")

    calls = []

    def interrupted(made: TextModel) -> float:
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(made)

    stopped, _, _ = toy()
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, pairs, interrupted, OPTIONS, tmp_path / "stopped")
    resumed, _, _ = toy()
    assert fit(resumed, pairs, score, OPTIONS, tmp_path / "stopped") == best
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_training_stops_without_a_better_score_and_keeps_the_best(tmp_path: Path) -> None:
    trained, pairs, _ = toy()
    scores = iter([1.0, 2.0, 1.5, 1.9])
    kept: list[torch.Tensor] = []

    def score(made: TextModel) -> float:
        kept.append(made.decoder.output_bias.detach().clone())
        return next(scores)

    assert fit(trained, pairs, score, FitOptions(epochs=9, patience=2, batch_size=8, ema=0.9), tmp_path) == 2.0
    assert next(scores, None) is None
    assert torch.equal(Trained.load(tmp_path).model.decoder.output_bias, kept[1])
    assert not torch.equal(kept[1], kept[3])


def test_a_run_with_other_options_is_not_continued(tmp_path: Path) -> None:
    trained, pairs, score = toy()
    fit(trained, pairs, score, FitOptions(epochs=1), tmp_path)
    with pytest.raises(CaptionerError, match="has a run with other data or options"):
        fit(trained, pairs, score, FitOptions(epochs=2), tmp_path)
    (tmp_path / LAST).write_bytes(b"no checkpoint")
    with pytest.raises(CaptionerError, match="cannot be read as a checkpoint"):
        read_checkpoint(tmp_path / LAST)
    torch.save({"state_dict": {}}, tmp_path / LAST)
    with pytest.raises(CaptionerError, match="is the checkpoint of another tool"):
        read_checkpoint(tmp_path / LAST)


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        (translate, ["train", "run", "--data", "."], "train.de.gz: cannot be read"),
        (translate, ["train", "run", "--data", "uneven"], "uneven/train.de has 2 lines and uneven/train.en has 1"),
        (translate, ["say", "run", "ein Hund"], "run: has no best.ckpt; train first"),
        (classify, ["train", "run", "--data", "a.txt", "b.txt"], "class 'a.txt' is not NAME=FILE"),
        (classify, ["train", "run", "--data", "a=a.txt", "a=b.txt"], "classes are a, a; give two or more, each once"),
        (classify, ["train", "run", "--data", "a=a.txt", "b=b.txt"], "a.txt: has too few lines to learn from"),
        (classify, ["train", "run", "--data", "a=a.txt", "b=b.txt", "--dropout", "1"], "dropout is 1.0"),
        (classify, ["train", "run", "--data", "a=a.txt", "b=b.txt", "--hidden-size", "7"], "hidden size is 7"),
    ],
)
def test_wrong_use_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tool: object,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "uneven").mkdir()
    (tmp_path / "uneven" / "train.de").write_text("ein Hund\neine Katze\n")
    (tmp_path / "uneven" / "train.en").write_text("a dog\n")
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("one line\n")
    assert tool.main(arguments) == 2  # type: ignore[attr-defined]
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "run").exists()
