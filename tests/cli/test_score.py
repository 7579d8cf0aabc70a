"""``captioner score`` as its users run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import captioner
from captioner.cli import main
from captioner.metrics.coco_files import read_references

REFERENCES = {1: ["a dog runs on grass", "the dog is running"], 2: ["a cat sits"], 3: ["two men talk on a road"]}
RESULTS = {1: "a dog runs", 2: "a cat sits on", 3: "two men on a road"}


def write_references(path: Path, references: dict[int, list[str]]) -> str:
    annotations = [{"image_id": image, "caption": text} for image, group in references.items() for text in group]
    path.write_text(json.dumps({"images": [{"id": image} for image in references], "annotations": annotations}))
    return str(path)


def write_results(path: Path, results: dict[int, str]) -> str:
    path.write_text(json.dumps([{"image_id": image, "caption": caption} for image, caption in results.items()]))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    references = write_references(tmp_path / "refs.json", REFERENCES)
    return ["score", "--references", references, "--candidates", write_results(tmp_path / "a.json", RESULTS)]


@pytest.mark.shared_data
def test_annotations_are_read_as_pycocotools_reads_them(capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    file = Path(__file__).parents[3] / "shared" / "coco" / "annotations" / "captions_val2017.json"
    if not file.exists():
        pytest.skip(f"{file} is not here")
    coco = COCO(str(file))
    capsys.readouterr()
    expected = {image: [entry["caption"] for entry in coco.imgToAnns[image]] for image in coco.getImgIds()}
    found = read_references(file).captions
    assert found == expected
    assert list(found) == list(expected)


def test_scores_intervals_and_diversity_in_one_object(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = captioner.score(RESULTS, REFERENCES)
    assert {name: found[name] for name in expected} == expected
    assert found["images"] == 3
    assert all(found["intervals"][name][0] <= expected[name] <= found["intervals"][name][1] for name in expected)
    assert found["diversity"]["cut off"] == pytest.approx(1 / 3)


def test_a_table_for_people(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(files) == 0
    out, err = capsys.readouterr()
    assert "a.json: 3 images; score and 95 % interval" in out
    assert out.endswith(f"signature: images:3|nrefs:var|case:lc|punct:no|tok:ptb|captioner:{captioner.__version__}\n")
    assert f"CIDEr        {captioner.score(RESULTS, REFERENCES)['CIDEr']:8.4f}" in out
    assert "CIDEr of 3 images is not comparable" in err


def test_two_files_are_compared(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worse = write_results(tmp_path / "b.json", {**RESULTS, 3: "no idea"})
    assert main([*files, worse, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    first, second = found["candidates"]
    for name, each in found["differences"].items():
        assert each["difference"] == pytest.approx(second[name] - first[name])
    assert main([*files, worse]) == 0
    assert "b.json minus" in capsys.readouterr().out


def test_scores_of_each_image(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--json", "--per-image", str(tmp_path / "each.jsonl")]) == 0
    corpus = json.loads(capsys.readouterr().out)
    lines = [json.loads(line) for line in (tmp_path / "each.jsonl").read_text().splitlines()]
    assert [line["image_id"] for line in lines] == [1, 2, 3]
    assert lines[1]["tokens"] == ["a", "cat", "sits", "on"]
    assert sum(line["CIDEr"] for line in lines) / 3 == pytest.approx(corpus["CIDEr"])


def test_any_image_id_can_be_told(tmp_path: Path) -> None:
    image: Any = "half a pair: \ud800"
    references = write_references(tmp_path / "refs.json", {image: ["a dog"]})
    results, scores = write_results(tmp_path / "a.json", {image: "a dog"}), tmp_path / "scores.jsonl"
    command = ["score", "--references", references, "--candidates", results, "--per-image", str(scores)]
    assert main(command) == 0
    assert json.loads(scores.read_text())["image_id"] == image


def test_captions_of_other_images_are_not_compared(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_results(tmp_path / "b.json", {1: "a dog", 2: "a cat"})
    assert main([*files, other, "--subset"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"{files[-1]} and {other} have captions of other images, such as 3; give both the same ones" in told


def test_novel_captions_are_told_by_the_training_file(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = tmp_path / "train.jsonl"
    lines = [{"image": "1.jpg", "captions": ["A dog runs!"], "split": "train"}]
    lines += [{"image": "2.jpg", "captions": ["two men on a road"], "split": "test"}]
    training.write_text("\n".join(map(json.dumps, lines)))
    assert main([*files, "--json", "--training", str(training)]) == 0
    assert json.loads(capsys.readouterr().out)["diversity"]["novel"] == pytest.approx(2 / 3)


def test_a_part_of_the_images_is_scored_only_when_asked(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path / "a.json", {2: "a cat", 1: "a dog"})
    assert main(files) == 2
    assert "image 3 has no caption; caption all 3 images, or set --subset to score the others alone" in (
        capsys.readouterr().err
    )
    assert main([*files, "--subset", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["images"] == 2
    assert "scored on 2 of 3 images" in err


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ("[", "a.json is not JSON"),
        ('{"a": 1}', "a.json is a JSON object with the fields 'a'"),
        ("[]", "a.json: has no caption"),
        ('["dog"]', 'a.json is a JSON list that begins with "dog"'),
        ('[{"image_id": 1}]', "a.json has no \"captions\" (its fields: 'image_id')"),
        ('[{"image_id": true, "caption": "a"}]', "a.json is true: it must be a whole number or a text"),
        (
            '[{"image_id": 1, "caption": "a"}, {"image_id": 1, "caption": "b"}]',
            "a.json: image 1 has two captions; keep one",
        ),
        ('[{"image_id": 9, "caption": "a"}]', "a.json: image 9 has no reference"),
        (
            '[{"image_id": 1, "caption": "a\\u0008dog"}]',
            "a.json: the caption of image 1 holds the control character U+0008; remove it",
        ),
    ],
)
def test_a_result_file_that_cannot_be_scored(
    results: str, message: str, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text(results)
    assert main(files) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ("[]", "refs.json: has no caption; give a file with reference captions"),
        ('{"annotations": {}}', "refs.json is {}: it must be a list"),
        ('{"annotations": []}', "refs.json: has no caption; give a file with reference captions"),
        ('{"annotations": [{"image_id": 1, "caption": 5}]}', "refs.json is 5: it must be a text"),
    ],
)
def test_an_annotation_file_that_cannot_be_used(
    references: str, message: str, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "refs.json").write_text(references)
    assert main(files) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["x.json", "y.json"], "--candidates names 3 files; give one, or two to compare"),
        (["a.json", "--per-image", "each.jsonl"], "--per-image takes the scores of one file"),
        (["--training", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_flags_that_clash(more: list[str], message: str, files: list[str], capsys: pytest.CaptureFixture[Any]) -> None:
    assert main([*files, *more]) == 2
    assert message in capsys.readouterr().err


def test_a_place_that_cannot_be_written_to_is_told_first(capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--references", "nowhere.json", "--candidates", "nowhere.json"]
    assert main(["score", *files, "--per-image", "/proc/each.jsonl"]) == 2
    assert "/proc/each.jsonl" in capsys.readouterr().err


GERMAN = {1: ["Ein Hund, der rennt.", "Der Hund rennt »schnell«."], 2: ["Zwei Männer stehen.", "Männer an der Straße."]}
GERMAN_RESULTS = {1: "ein Hund rennt »schnell«.", 2: "Zwei Männer an der Straße."}


@pytest.mark.parametrize("tokenizer", ["13a", "intl", "char", "zh", "none"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_bleu_is_sacrebleus_in_its_tokens(
    tokenizer: str, lowercase: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sacrebleu.metrics import BLEU

    references = write_references(tmp_path / "refs.json", GERMAN)
    results = write_results(tmp_path / "a.json", GERMAN_RESULTS)
    command = ["score", "--references", references, "--candidates", results, "--tokenizer", tokenizer, "--json"]
    assert main([*command, *(["--lowercase"] if lowercase else [])]) == 0
    found = json.loads(capsys.readouterr().out)
    oracle = BLEU(tokenize=tokenizer, lowercase=lowercase, smooth_method="none")
    expected = oracle.corpus_score(list(GERMAN_RESULTS.values()), list(zip(*GERMAN.values(), strict=True)))
    assert 100 * found["BLEU-4"] == pytest.approx(expected.score)
    theirs = dict(entry.split(":") for entry in str(oracle.get_signature()).split("|"))
    ours = dict(entry.split(":") for entry in found["signature"].split("|"))
    assert {**ours, "version": ours.get("sacrebleu", theirs["version"])}.items() >= {
        (name, theirs[name]) for name in ("nrefs", "case", "tok", "version")
    }
    assert "cut off" not in found["diversity"]


def test_novel_captions_are_told_in_the_same_tokens(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = tmp_path / "train.jsonl"
    training.write_text('{"image": "1.jpg", "captions": ["A dog runs", "a cat sits on"], "split": "train"}')
    command = [*files, "--json", "--training", str(training), "--tokenizer", "13a"]
    for more, novel in (([], 2 / 3), (["--lowercase"], 1 / 3)):
        assert main([*command, *more]) == 0
        assert json.loads(capsys.readouterr().out)["diversity"]["novel"] == pytest.approx(novel)


def test_a_tokenizer_without_its_dictionary_is_told(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--tokenizer", "ko-mecab"]) == 2
    assert "tokenizer 'ko-mecab' needs a dictionary; run pip install 'sacrebleu[ko]'" in capsys.readouterr().err


def test_scores_for_english_refuse_other_tokens(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--tokenizer", "intl", "--meteor"]) == 2
    assert "--meteor is for English, in tokens of ptb; leave out --tokenizer intl" in capsys.readouterr().err


def test_text_without_spaces_is_told_where_it_would_be_one_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    references = write_references(tmp_path / "refs.json", {1: ["一只黑色的狗在雪地里奔跑。"]})
    command = ["score", "--references", references, "--candidates", write_results(tmp_path / "a.json", {1: "一只狗。"})]
    for tokenizer, told in (("13a", True), ("char", False), ("zh", False)):
        assert main([*command, "--tokenizer", tokenizer]) == 0
        assert ("score them with --tokenizer char" in capsys.readouterr().err) == told
