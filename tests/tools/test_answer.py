"""tools/experiments/text_tasks/answer.py: VQA accuracy by its formula, files, the encoder, and questions to learn."""

from __future__ import annotations

import csv
import itertools
import json
import random
from pathlib import Path

import answer
import pytest
import torch
from answer import points_at
from PIL import Image
from question_encoder import Question, QuestionConfig, QuestionEncoder, append_places
from question_files import Asked, read_questions
from text_encoder import TextConfig, TextModel
from text_training import BEST, Trained, write_checkpoint
from vqa_accuracy import consensus, normalize, vqa_accuracy

from captioner.errors import CaptionerError
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary

COLORS = {"red": (220, 30, 30), "green": (40, 160, 60), "blue": (40, 70, 210)}
TINY = ["--image-size", "32", "--embedding-size", "16", "--hidden-size", "32"]
TINY += ["--no-bf16", "--dropout", "0", "--ema", "0"]
LEARNING = ["--batch-size", "16", "--learning-rate", "1e-2", "--epochs", "20", "--patience", "20"]


@pytest.mark.parametrize(
    ("same", "accuracy"),
    # Of ten people, n say the same: each of the n leaves n - 1 others, each of the rest leaves n.
    [(0, 0.0), (1, 9 / 30), (2, (2 * 1 + 8 * 2) / 30), (3, (3 * 2 + 7 * 3) / 30), (4, 1.0), (9, 1.0), (10, 1.0)],
)
def test_accuracy_by_hand(same: int, accuracy: float) -> None:
    assert vqa_accuracy("red", ["red"] * same + ["blue"] * (10 - same)) == pytest.approx(accuracy)


def test_accuracy_is_the_mean_over_the_subsets_of_nine() -> None:
    chosen = random.Random(3)
    for _ in range(200):
        people = chosen.choices(["yes", "no", "maybe", "unsure"], k=10)
        for given in ("yes", "maybe", "never"):
            subsets = [min(nine.count(given) / 3, 1.0) for nine in itertools.combinations(people, 9)]
            assert vqa_accuracy(given, people) == pytest.approx(sum(subsets) / 10)


@pytest.mark.parametrize(
    ("answer", "normalized"),
    [
        ("The red one", "red 1"),
        ("Yes!", "yes"),
        ("none", "0"),
        ("ten, or eleven", "10 or eleven"),
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("3,000", "3000"),
        ("0.5", "0.5"),
        ("u.s.", "us"),
        ("at 5.", "at 5"),
        ("dont", "don't"),
        ("couldntve", "couldntve"),  # only one apostrophe is added
        ("couldnt've", "couldn't've"),
        ("somebody'd", "somebodyd"),  # as in the official table
        ("dog's", "dog's"),
        ("a", ""),
        ("t-shirt", "t shirt"),
    ],
)
def test_answers_are_normalized(answer: str, normalized: str) -> None:
    assert normalize(answer) == normalized


def test_only_answers_that_differ_are_normalized() -> None:
    assert vqa_accuracy("the dog", ["a dog"] * 9 + ["cat"]) == 1.0
    assert vqa_accuracy("the dog", ["a dog"] * 10) == 0.0
    assert vqa_accuracy(" a dog\n", ["a dog"] * 10) == 1.0
    assert vqa_accuracy("Two", ["2"]) == 1.0  # a table has one answer
    assert consensus(["two", "2", "The cat", "cat"]) == "2"


def vqa_files(folder: Path) -> tuple[dict[str, object], dict[str, object]]:
    """Questions about pictures 20 and 21 of the training subset; of these, validation has the first."""
    questions = [{"question_id": 10 * image, "image_id": image, "question": f"what is {image}?"} for image in (20, 21)]
    annotations = [
        {
            "question_id": 10 * image,
            "image_id": image,
            "answer_type": "other",
            "answers": [{"answer": f"thing {person}", "answer_id": person} for person in range(10)],
        }
        for image in (20, 21)
    ]
    return {"questions": questions}, {"annotations": annotations}


def write_vqa(folder: Path, subset: str, asked: object, answered: object) -> None:
    (folder / f"v2_OpenEnded_mscoco_{subset}_questions.json").write_text(json.dumps(asked))
    (folder / f"v2_mscoco_{subset}_annotations.json").write_text(json.dumps(answered))


def test_the_files_of_vqa_v2(tmp_path: Path) -> None:
    for subset in ("train2014", "val2014"):
        write_vqa(tmp_path, subset, *vqa_files(tmp_path))
    ten = tuple(f"thing {person}" for person in range(10))
    picture = tmp_path / "train2014" / "COCO_train2014_000000000021.jpg"
    assert read_questions(tmp_path, "train") == [Asked(picture, "what is 21?", ten, "other")]
    assert [each.question for each in read_questions(tmp_path, "val")] == ["what is 20?"]
    tested = read_questions(tmp_path, "test")
    assert [each.question for each in tested] == ["what is 20?", "what is 21?"]
    assert tested[0].picture == tmp_path / "val2014" / "COCO_val2014_000000000020.jpg"


def table(folder: Path, *rows: str) -> None:
    (folder / "questions.csv").write_text("\n".join(rows) + "\n")


def test_a_table_of_questions(tmp_path: Path) -> None:
    table(
        tmp_path,
        "answer,image,question,split,note",
        'blue,a.png,"what color, please?",train,good',
        "two,b/c.png,how many?,val,",
    )
    assert read_questions(tmp_path, "train") == [Asked(tmp_path / "a.png", "what color, please?", ("blue",))]
    assert read_questions(tmp_path, "val") == [Asked(tmp_path / "b" / "c.png", "how many?", ("two",))]
    table(tmp_path, "image,question,answer,split,type,box", "a.png,where?,here,test,place,1 2 3 4.5")
    assert read_questions(tmp_path, "test") == [
        Asked(tmp_path / "a.png", "where?", ("here",), "place", (1.0, 2.0, 3.0, 4.5))
    ]


HEADER = "image,question,answer,split,box"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["image,question,answer", "a.png,q?,a"], "has the columns 'image', 'question', 'answer', without 'split'"),
        ([HEADER, "a.png,q?,a,train"], "line 2: has not as many fields as the header"),
        ([HEADER, "a.png,q?,a,train,,more"], "line 2: has not as many fields as the header"),
        ([HEADER, "a.png,q?,a,dev,"], "line 2: has the split 'dev'; choose train or val or test"),
        ([HEADER, "a.png,q?, ,train,"], "line 2: lacks image, question or answer"),
        ([HEADER, "a.png,q?,a,train,1 2 3"], "line 2: has the box '1 2 3'"),
        ([HEADER, "a.png,q?,a,val,"], "has no question of the split train"),
        ([HEADER, 'a.png,"q?,a,train,'], "is not CSV"),
        ([""], "is empty"),
    ],
)
def test_a_bad_table_is_told_in_one_line(tmp_path: Path, rows: list[str], message: str) -> None:
    table(tmp_path, *rows)
    with pytest.raises(CaptionerError) as told:
        read_questions(tmp_path, "train")
    assert message in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("where", "name", "value", "message"),
    [
        ("questions", "question_id", None, '"question_id" of questions[1] of'),
        ("questions", "question", 7, '"question" of questions[1] of'),
        ("annotations", "image_id", "21", '"image_id" of annotations[1] of'),
        ("annotations", "question_id", 5, "answers question 5, which v2_OpenEnded"),
        ("annotations", "answers", [], "has no answers"),
        ("annotations", "answers", [{"answer": 3}], '"answer" of an answer of annotations[1] of'),
        ("annotations", "answer_type", None, '"answer_type" of annotations[1] of'),
    ],
)
def test_bad_files_of_vqa_v2_are_told_in_one_line(
    tmp_path: Path, where: str, name: str, value: object, message: str
) -> None:
    files = vqa_files(tmp_path)
    for content in files:
        if where in content:
            content[where][1][name] = value  # type: ignore[index]
    write_vqa(tmp_path, "train2014", *files)
    with pytest.raises(CaptionerError) as told:
        read_questions(tmp_path, "train")
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_places_run_from_corner_to_corner() -> None:
    placed = append_places(torch.zeros(2, 9, 4))
    assert placed.shape == (2, 9, 6)
    assert placed[0, :, 4:].tolist() == [[y, x] for y in (-1.0, 0.0, 1.0) for x in (-1.0, 0.0, 1.0)]
    assert torch.equal(placed[0], placed[1])


def config(**more: object) -> QuestionConfig:
    return QuestionConfig(**{"embedding_size": 6, "hidden_size": 8, "dropout": 0.0, "image_size": 32, **more})  # type: ignore[arg-type]


def pictures(folder: Path) -> list[Path]:
    files = []
    for name, color in COLORS.items():
        files.append(folder / f"{name}.png")
        Image.new("RGB", (30, 20), color).save(files[-1])
    return files


def test_each_question_has_its_own_grid_and_answer(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = TextModel(config(), 20, 12).eval()
    for parameter in model.parameters():  # far from the start, where all predictions are alike
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    asked = [Question(file, words) for file in pictures(tmp_path) for words in ([4, 5], [6, 5], [7])]
    together = model.write(asked, answer.SEARCH)
    for each, found in zip(asked, together, strict=True):
        [alone] = model.write([each], answer.SEARCH)
        assert found.words == alone.words
        assert found.log_probabilities == pytest.approx(alone.log_probabilities, rel=1e-3)
        assert found.attention is not None
        assert found.attention.shape == (len(found.words), 16)
    grids = [model.encoder.encode([each]) for each in asked]
    for one, other in itertools.combinations(grids, 2):
        assert not torch.allclose(one, other, atol=1e-3)


def test_the_words_are_read_in_their_order(tmp_path: Path) -> None:
    torch.manual_seed(3)
    encoder = QuestionEncoder(config(), 20).eval()
    [file, *_] = pictures(tmp_path)
    one, other = (encoder.encode([Question(file, words)]) for words in ([4, 5, 6], [6, 5, 4]))
    assert not torch.allclose(one, other, atol=1e-4)


def test_the_pretrained_network_stays_as_it_is(tmp_path: Path) -> None:
    encoder = QuestionEncoder(config(stage="", image_size=64), 20).train()
    grid = encoder.encode([Question(pictures(tmp_path)[0], [4])])
    assert grid.shape == (1, 4, 8)
    grid.sum().backward()  # type: ignore[no-untyped-call]
    moved = {name.split(".")[0] for name, each in encoder.named_parameters() if each.grad is not None}
    assert "network" not in moved
    assert {"words", "of_features", "as_asked"} <= moved


@pytest.mark.parametrize(("region", "hit"), [(5, True), (6, True), (4, False), (1, False), (9, False), (10, False)])
def test_the_greatest_region_has_to_be_on_the_box(region: int, hit: bool) -> None:
    # A grid of 4 × 4 on a picture of 80 × 40 pixels: region 5, row 1 and column 1, is from (20, 10) to (40, 20).
    weights = torch.full((16,), 0.01)
    weights[region] = 0.8
    assert points_at(weights, (29.0, 14.0, 12.0, 2.0), (80, 40)) == hit


def colored(folder: Path) -> None:
    """Pictures of one color each, which two questions ask about."""
    chosen = random.Random(1)
    (folder / "images").mkdir()
    rows = [("image", "question", "answer", "split", "type")]
    for number in range(60):
        name, color = chosen.choice([*COLORS.items()])
        picture = f"images/{number}.png"
        tint = tuple(part + chosen.randint(-20, 20) for part in color)
        Image.new("RGB", (16, 16), tint).save(folder / picture)
        split = ("test", "val", "train", "train", "train")[number % 5]
        rows.append((picture, "What color is it?", f"all {name}", split, "color"))
        rows.append((picture, "Is it red?", "yes" if name == "red" else "no", split, "yes/no"))
    with (folder / "questions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_it_learns_to_answer_in_one_and_two_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colored(tmp_path)
    run, data = str(tmp_path / "run"), ["--data", str(tmp_path)]
    assert answer.main(["train", run, *data, *TINY, *LEARNING]) == 0
    assert answer.main(["test", run, *data]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert float(lines[1].removeprefix("VQA accuracy on 24 questions: ").rstrip("%")) > 90
    assert [line.split(":")[0] for line in lines[2:]] == ["  color", "  yes/no"]
    green = str(pictures(tmp_path)[1])
    figure = tmp_path / "look.png"
    assert answer.main(["answer", run, green, "what color is it", "--figure", str(figure)]) == 0
    assert capsys.readouterr().out.startswith("all green ")
    with Image.open(figure) as drawn:
        assert drawn.format == "PNG"
    assert answer.main(["answer", run, green, "Is it red?"]) == 0
    assert capsys.readouterr().out.startswith("no ")
    assert answer.main(["answer", run, green, "is it edible?"]) == 0
    assert capsys.readouterr().err == "words that no training question has: edible\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "run", "--data", "empty"], "empty: has neither questions.csv nor v2_OpenEnded_mscoco_train2014_que"),
        (["train", "run", "--data", "rare"], "no word of the training captions occurs 2 times or more"),
        (["train", "run", "--data", "gone", "--min-count", "1"], "missing.png: "),
        (["train", "run", "--data", "gone", "--min-count", "1", "--view", "last"], "view 'last' is of sentences alone"),
        (["train", "run", "--data", "gone", "--image-size", "4"], "image size is 4; it must be at least 32"),
        (["train", "run", "--data", "gone", "--min-count", "1", "--network", "none"], "none"),
        (["test", "run", "--data", "gone"], "run: has no best.ckpt; train first"),
        (["answer", "run", "a.png", "why?"], "run: has no best.ckpt; train first"),
        (["answer", "translator", "a.png", "why?"], "is the checkpoint of another tool"),
        (["answer", "answers", "a.png", "?"], "a.png: "),
        (["answer", "answers", "a.png", " "], "the sentence has no words"),
    ],
)
def test_wrong_use_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "rare", "gone"):
        Path(name).mkdir()
    table(Path("rare"), HEADER, "a.png,what?,once,train,")
    table(Path("gone"), HEADER, "missing.png,what?,once,train,", "missing.png,what?,once,val,")
    words = Vocabulary([*SPECIAL_WORDS, "what"])
    for name, made in (("translator", TextConfig()), ("answers", config())):
        trained = Trained.new(made, words, words)
        write_checkpoint(Path(name) / BEST, {**trained.describe(), "model": trained.model.state_dict()})
    assert answer.main(arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not Path("run", BEST).exists()
