"""The command line as a user meets it: real processes, real files."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_captioner
from PIL import Image
from processes import CAPTIONER, LONGEST, run, started

from captioner.cli import VERBS, main
from captioner.cli.options import add_decoding_arguments
from captioner.decoding import DecodingOptions
from captioner.pipeline import Captioner
from captioner.text.function_words import FUNCTION_WORDS

README = Path(__file__).parents[2] / "README.md"
PHOTO = README.parent / "data" / "samples" / "astronaut.jpg"


def captioner(
    *args: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return run([*CAPTIONER, *args], input=stdin, capture_output=True, env=env)


def lines(text: str) -> list[str]:
    return text.splitlines()


def test_a_folder_is_captioned_in_sorted_order(
    checkpoint: Path, photos: Path, tiny: Captioner, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["caption", str(photos), "--model", str(checkpoint)]) == 0
    files = sorted(photos.iterdir())
    expected = [f"{file}\t{caption.text}" for file, caption in zip(files, tiny.caption(files), strict=True)]
    assert lines(capsys.readouterr().out) == expected


def test_json_has_an_object_a_line(checkpoint: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", str(photos), "--model", str(checkpoint), "--json", "--num-captions", "2"]) == 0
    entries = [json.loads(line) for line in lines(capsys.readouterr().out)]
    assert [entry["image"] for entry in entries] == [str(file) for file in sorted(photos.iterdir())]
    for entry in entries:
        assert entry.keys() == {"image", "caption", "log_probability", "confidence", "captions"}
        assert entry["captions"][0] == {k: entry[k] for k in ("caption", "log_probability", "confidence")}
        assert len(entry["captions"]) == 2


def test_decoding_options_are_those_of_python(
    checkpoint: Path, photos: Path, tiny: Captioner, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = photos / "0.png"
    cases: list[tuple[str, dict[str, Any]]] = [
        ("--sample --seed 3 --top-p 0.9 --temperature 2", {"sample": True, "seed": 3, "top_p": 0.9, "temperature": 2}),
        ("--require dog,red --forbid cat", {"required_words": ["dog", "red"], "forbidden_words": ["cat"]}),
        (
            "--no-bad-endings --min-words 3 --max-words 4",
            {"bad_endings": FUNCTION_WORDS, "min_words": 3, "max_words": 4},
        ),
        ("--beam-size 4 --diverse-groups 2", {"beam_size": 4, "diverse_groups": 2}),
        ("--no-repeat-ngram 2 --length-penalty 1", {"no_repeat_ngram": 2, "length_penalty": 1.0}),
        ("--prompt 'The dog'", {"prompt": "the dog"}),
    ]
    for flags, options in cases:
        assert main(["caption", str(photo), "--model", str(checkpoint), *shlex.split(flags)]) == 0
        assert capsys.readouterr().out == f"{photo}\t{tiny.caption(photo, **options).text}\n"


def test_photographs_stand_before_and_after_options(
    checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos)
    Path("-z.png").write_bytes(Path("0.png").read_bytes())
    line = ["caption", "0.png", "--model", str(checkpoint), "1.png", "--beam-size", "2", "2.png", "--", "-z.png"]
    assert main(line) == 0
    captioned = [line.split("\t")[0] for line in lines(capsys.readouterr().out)]
    assert captioned == ["0.png", "1.png", "2.png", "-z.png"]
    assert main(["caption", "0.png", "--json", "1.png", "--colour"]) == 2
    assert "unrecognized arguments: 1.png --colour" in capsys.readouterr().err
    assert main(["visualize", "0.png", "--output", "a.html", "1.png"]) == 2
    assert "unrecognized arguments: 1.png" in capsys.readouterr().err


def test_two_models_are_an_ensemble(checkpoint: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", str(photos), "--model", str(checkpoint)]) == 0
    alone = capsys.readouterr().out
    assert main(["caption", str(photos), "--model", str(checkpoint), "--model", str(checkpoint)]) == 0
    assert capsys.readouterr().out == alone


def test_output_goes_to_a_file(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "captions.jsonl"
    assert main(["caption", str(photos), "--model", str(checkpoint), "--output", str(file)]) == 0
    assert capsys.readouterr().out == ""
    assert [json.loads(line)["image"] for line in lines(file.read_text())] == [str(f) for f in sorted(photos.iterdir())]


def test_a_bad_photograph_is_named_and_the_others_get_their_captions(checkpoint: Path, photos: Path) -> None:
    (photos / "1b.jpg").write_text("no picture")
    done = captioner("caption", photos, photos / "gone.jpg", "--model", checkpoint)
    assert done.returncode == 1
    assert len(lines(done.stdout.decode())) == 3
    errors = lines(done.stderr.decode())
    assert [error.split(": ")[:2] for error in errors] == [
        ["captioner", str(photos / "1b.jpg")],
        ["captioner", str(photos / "gone.jpg")],
    ]


def test_a_photograph_comes_on_standard_input(checkpoint: Path, photos: Path, tiny: Captioner) -> None:
    file = photos / "0.png"
    done = captioner("caption", "-", "--model", checkpoint, stdin=file.read_bytes())
    assert done.stdout.decode() == f"-\t{tiny.caption(file).text}\n"


def test_any_file_name_can_be_told(checkpoint: Path, photos: Path) -> None:
    strange = [b"line\nbreak.png", b"latin\xe9.png", b"escape\x1b[31m.png"]
    for name in strange:
        Image.new("RGB", (8, 8)).save(photos / "new.png")
        os.rename(photos / "new.png", os.fsencode(photos) + b"/" + name)
    done = captioner("caption", photos, "--model", checkpoint)
    assert done.returncode == 0, done.stderr
    assert len(lines(done.stdout.decode())) == 6
    assert b"\x1b" not in done.stdout
    done = captioner("caption", photos, "--model", checkpoint, "--json")
    names = {os.fsencode(json.loads(line)["image"]) for line in lines(done.stdout.decode())}
    assert {os.fsencode(photos) + b"/" + name for name in strange} <= names


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["caption", "PHOTO", "--model", "nowhere"], "checkpoint nowhere: no such file; check the path"),
        (["caption", "PHOTO", "--beam-size", "0"], "beam size is 0; it must be at least 1"),
        (["caption", "PHOTO", "--num-captions", "9"], "9 captions cannot come from a beam of 5; widen the beam"),
        (["caption", "PHOTO", "--top-k", "5"], "top k is 5, which only sampling uses; set --sample"),
        (["caption", "PHOTO", "--require", "a b"], "required words has 'a b', which is 2 words to the model; give"),
        (["caption", "PHOTO", "--require", ","], "argument --require: names no word; leave it out, or name some"),
        (["caption", "PHOTO", "--require", "Dog", "--forbid", "dog"], "word 'dog' is both required and forbidden"),
        (["evaluate", "--data", "DATA", "--output", "/dev/full"], "cannot write /dev/full: it is not a regular file"),
        (["evaluate", "--data", "DATA", "--meteor"], "java is not on the PATH"),
        (["evaluate", "--data", "DATA", "--spice"], "java is not on the PATH"),
        (["caption", "PHOTO", "--batch-size", "0"], "batch size is 0; it must be a whole number of at least 1"),
        (["caption", "EMPTY"], "has no image; give one with .jpg"),
        (["caption", "-", "-"], "standard input (-) was given twice"),
        (["visualize", "PHOTO", "--output", "map.bmp"], "only .png, .gif and .html can be written; name it map.png"),
        (["visualize", "PHOTOS", "--output", "map.png"], "a folder becomes a gallery; name it map.html"),
        (["visualize", "EMPTY", "--output", "map.html"], "has no image; give one with .jpg"),
        (["export", "nowhere.ckpt", "--output", "x"], "checkpoint nowhere.ckpt: no such file"),
        (["info", "--model", "nowhere"], "checkpoint nowhere: no such file"),
        (["evaluate", "--data", "nowhere.json"], "nowhere.json"),
        (["evaluate"], "give captions with --data, boxes with --grounding, or both"),
        (["evaluate", "--grounding", "nowhere.json"], "cannot read nowhere.json"),
        (["evaluate", "--grounding", "x", "--grounding-words", "reference"], "needs captions and image ids; give them"),
        (["evaluate", "--grounding", "x", "--output", "y.json"], "--output needs captions and image ids; give them"),
        (["score", "--references", "nowhere.json", "--candidates", "nowhere.json"], "cannot read nowhere.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_told_in_one_line(
    args: list[str],
    message: str,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"PHOTO": str(photos / "0.png"), "PHOTOS": str(photos), "EMPTY": str(tmp_path / "empty")}
    # What has to be refused before anything is read: were it read, the message would be another.
    places["DATA"] = str(tmp_path / "nowhere.jsonl")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert main([places.get(arg, arg) for arg in args]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    [line] = lines(printed.err)
    assert line.startswith("captioner: ")
    assert message in line


@pytest.mark.parametrize("args", [["draw"], [], ["caption"], ["caption", "x.jpg", "--colour", "red"]], ids=str)
def test_wrong_use_ends_with_two(args: list[str]) -> None:
    done = captioner(*args)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.endswith(b"--help lists the options")


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        (["caption", "PHOTO", "--output", "PHOTO"], "PHOTO"),
        (["caption", "PHOTO", "--output", "MODEL"], "MODEL"),
        (["visualize", "PHOTO", "--output", "PHOTO"], "PHOTO"),
        (["visualize", "THUMBNAILS", "--output", "GALLERY"], "PHOTO"),
        (["export", "MODEL", "--output", "MODEL"], "MODEL"),
        (["evaluate", "--data", "DATA", "--output", "DATA"], "DATA"),
        (["score", "--references", "REFS", "--candidates", "RESULTS", "--per-image", "RESULTS"], "RESULTS"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_read_is_not_written_over(
    command: list[str], kept: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "z_files").mkdir()
    places = {
        "PHOTO": tmp_path / "z_files" / "00001.png",
        "THUMBNAILS": tmp_path / "z_files",
        "GALLERY": tmp_path / "z.html",
        "MODEL": tmp_path / "model.safetensors",
        "DATA": tmp_path / "data.jsonl",
        "REFS": tmp_path / "references.json",
        "RESULTS": tmp_path / "results.json",
    }
    Image.new("RGB", (8, 8)).save(places["PHOTO"])
    places["MODEL"].write_bytes(checkpoint.read_bytes())
    for name in ("DATA", "REFS", "RESULTS"):
        places[name].write_text("{}")
    before = places[kept].read_bytes()
    if command[0] in ("caption", "visualize", "evaluate"):
        command = [*command, "--model", "MODEL"]
    assert main([str(places.get(word, word)) for word in command]) == 2
    assert "would be replaced, but is read as well; name another file to write" in capsys.readouterr().err
    assert places[kept].read_bytes() == before


def test_a_shells_empty_variable_is_not_taken_for_no_option(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["caption", str(photos / "0.png"), "--output", ""], ["caption", ""]):
        assert main(command) == 2
        assert "is an empty text; leave it out, or name something" in capsys.readouterr().err


def test_ctrl_c_ends_without_a_traceback(checkpoint: Path, photos: Path) -> None:
    many = [str(photos / "0.png")] * 5000
    command = [sys.executable, "-m", "captioner", "caption", *many, "--model", str(checkpoint)]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.stderr is not None
        assert process.stderr.read() == b"captioner: interrupted\n"
        assert process.wait(LONGEST) == 130


def test_a_reader_that_leaves_early_is_no_error(checkpoint: Path, photos: Path) -> None:
    many = [str(photos / "0.png")] * 200
    command = [sys.executable, "-m", "captioner", "caption", *many, "--model", str(checkpoint)]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(LONGEST) == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "2>/dev/full"])
def test_a_process_without_a_standard_stream_works(checkpoint: Path, photos: Path, tmp_path: Path, closed: str) -> None:
    output = tmp_path / "captions.jsonl"
    command = [sys.executable, "-m", "captioner", "caption", photos, "nowhere.jpg", "--model", checkpoint]
    line = shlex.join(map(str, [*command, "--output", output]))
    done = run(["sh", "-c", f"{line} {closed}"], capture_output=True, text=True)
    assert done.returncode == 1
    assert len(lines(output.read_text())) == 4
    assert done.stdout == ""
    assert done.stderr == ("" if closed.startswith("2>") else "captioner: nowhere.jpg: no such file; check the path\n")


def test_wrong_use_is_told_apart_even_where_nobody_can_be_told() -> None:
    line = shlex.join([sys.executable, "-m", "captioner", "caption", "nowhere.jpg", "--beam-size", "0"])
    assert run(["sh", "-c", f"{line} 2>/dev/full"]).returncode == 2


def test_a_reader_of_messages_that_leaves_early_ends_nothing(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "captions.jsonl"
    command = [sys.executable, "-m", "captioner", "caption", "nowhere.jpg", photos, "--model", checkpoint]
    read, write = os.pipe()
    os.close(read)
    done = run([*map(str, command), "--output", output], stderr=write)
    os.close(write)
    assert done.returncode == 1
    assert len(lines(output.read_text())) == 4


def test_a_file_may_be_called_as_standard_input_is(
    checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "0.png").rename(photos / "-")
    monkeypatch.chdir(photos)
    assert main(["caption", "./-", "--model", str(checkpoint)]) == 0
    assert capsys.readouterr().out.startswith("./-\t")


@pytest.mark.parametrize("verb", VERBS)
def test_help_can_be_read_on_any_terminal(verb: str) -> None:
    done = captioner(verb, "--help", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert b"usage:" in done.stdout


def test_help_tells_the_defaults_that_captions_are_written_with() -> None:
    parser = argparse.ArgumentParser()
    add_decoding_arguments(parser)
    told = {action.dest: re.search(r"\(default: ([\d.]+)", action.help or "") for action in parser._actions}
    defaults = {name: float(found[1]) for name, found in told.items() if found and hasattr(DecodingOptions, name)}
    assert defaults == {name: getattr(DecodingOptions(), name) for name in defaults}
    assert {"beam_size", "max_words", "length_penalty", "diversity_penalty", "temperature"} <= defaults.keys()


def test_a_log_is_not_replaced_by_the_output(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    command = [sys.executable, "-m", "captioner", "caption", str(photos / "0.png"), "--model", str(checkpoint)]
    with log.open("a") as file:
        done = run([*command, "--output", "/dev/stdout"], stdout=file, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "cannot write /dev/stdout: standard output goes there already; choose another place" in done.stderr
    assert log.read_text() == "before\n"


@pytest.mark.parametrize("verb", ["caption", "export", "evaluate", "score"])
def test_a_dash_does_not_become_a_file(
    verb: str,
    photos: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {
        "caption": [str(photos), "--output", "-"],
        "export": [str(checkpoint), "--output", "-"],
        "evaluate": ["--data", "captions.json", "--output", "-"],
        "score": ["--references", "a.json", "--candidates", "b.json", "--per-image", "-"],
    }
    assert main([verb, *arguments[verb]]) == 2
    assert "- is not a file to write to; name one" in capsys.readouterr().err
    assert not (tmp_path / "-").exists()


def test_info_tells_of_one_model_and_says_so(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--model", str(checkpoint), "--model", "other"]) == 2
    error = capsys.readouterr().err
    assert error == f"captioner: --model is {checkpoint} and other; info shows one checkpoint at a time\n"


def test_info_tells_what_the_embedded_model_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for part in ("tf_efficientnet_lite0", "by_people.jsonl", "Flickr8k", "CIDEr", "limits", "licence"):
        assert part in text
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["feature size"], facts["decoder"]["attention"]) == (512, "multiplicative")


def test_export_makes_a_smaller_file_that_captions_alike(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, card = tmp_path / "small.safetensors", tmp_path / "card.json"
    card.write_text('{"limits": "many"}')
    assert main(["export", str(checkpoint), "--output", str(small), "--dtype", "float16", "--card", str(card)]) == 0
    assert small.stat().st_size < 0.6 * checkpoint.stat().st_size
    capsys.readouterr()
    assert main(["info", "--model", str(small), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["limits"] == "many"


def test_evaluate_scores_what_score_scores(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [
        {"image": file.name, "captions": ["a dog runs", "the red cat"], "split": "test", "image_id": number}
        for number, file in enumerate(sorted(photos.iterdir()))
    ]
    (photos / "data.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in data))
    results, references = tmp_path / "results.json", tmp_path / "references.json"
    coco = [{"image_id": e["image_id"], "caption": text} for e in data for text in e["captions"]]  # type: ignore[attr-defined]
    references.write_text(json.dumps({"annotations": coco}))
    model = ["--model", str(checkpoint)]
    assert main(["evaluate", *model, "--data", str(photos / "data.jsonl"), "--json", "--output", str(results)]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert main(["score", "--references", str(references), "--candidates", str(results), "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert evaluated == {"split": "test", "skipped": 0, **scored}
    assert scored["images"] == 3


def test_a_model_that_looks_nowhere_is_refused_before_it_captions(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_captioner("none").save(photos / "blind.safetensors")
    content = {"images": [{"id": 1, "file_name": "0.png", "width": 90, "height": 60}]}
    content |= {"categories": [{"id": 1, "name": "dog"}]}
    content |= {"annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}]}
    (photos / "boxes.json").write_text(json.dumps(content))
    (photos / "data.jsonl").write_text(json.dumps({"image": "0.png", "captions": ["a dog"], "split": "test"}))
    command = ["evaluate", "--model", str(photos / "blind.safetensors"), "--data", str(photos / "data.jsonl")]
    assert main([*command, "--grounding", str(photos / "boxes.json"), "--output", str(photos / "out.json")]) == 2
    assert "there is no attention to measure; use a model trained with" in capsys.readouterr().err
    assert not (photos / "out.json").exists()


def test_evaluate_plays_the_pointing_game(checkpoint: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(photos.iterdir())
    content = {
        "images": [{"id": k, "file_name": file.name, "width": 180, "height": 120} for k, file in enumerate(files)],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"image_id": k, "category_id": c, "bbox": [0, 0, 90, 120]} for k in range(len(files)) for c in (1, 2)
        ],
    }
    boxes = photos / "boxes.json"
    boxes.write_text(json.dumps(content))
    command = ["evaluate", "--model", str(checkpoint), "--grounding", str(boxes), "--forbid", "dog,cat", "--json"]
    assert main(command) == 0
    generated = json.loads(capsys.readouterr().out)
    assert generated["images"] == 3
    assert (generated["grounding"]["trials"], generated["grounding"]["pointing"]) == (0, None)

    data = photos / "data.jsonl"
    data.write_text(json.dumps({"image": files[0].name, "captions": ["a dog runs", "the red cat"], "split": "test"}))
    assert main([*command, "--data", str(data), "--grounding-words", "reference"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert {"CIDEr", "split"} < both.keys()
    assert (both["images"], both["grounding"]["words"], both["grounding"]["trials"]) == (1, "reference", 2)
    assert both["grounding"]["pointing_random"] == pytest.approx(0.5)
    assert main([*command[:-1], "--data", str(data), "--grounding-words", "reference"]) == 0
    assert "2 reference words that name a thing in a box" in capsys.readouterr().out


def test_boxes_and_captions_may_write_other_folders(
    checkpoint: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content: dict[str, Any] = {
        "images": [{"id": 7, "file_name": f"{photos.name}/0.png", "width": 180, "height": 120}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 90, 120]}],
    }
    boxes = photos.parent / "boxes.json"
    boxes.write_text(json.dumps(content))
    command = ["evaluate", "--model", str(checkpoint), "--grounding", str(boxes), "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["grounding"]["images"] == 1

    data = photos / "data.jsonl"
    data.write_text(json.dumps({"image": "0.png", "captions": ["a dog runs"], "split": "test"}))
    assert main([*command, "--data", str(data), "--grounding-words", "reference"]) == 0
    assert json.loads(capsys.readouterr().out)["grounding"]["trials"] == 1

    content["images"].append({"id": 8, "file_name": "other/0.png", "width": 180, "height": 120})
    boxes.write_text(json.dumps(content))
    assert main([*command, "--data", str(data)]) == 2
    assert "has two images named '0.png'; measure them without --data" in capsys.readouterr().err


def test_visualize_draws_a_panel_a_word(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "map.png"
    assert main(["visualize", str(photos / "0.png"), "--model", str(checkpoint), "--output", str(output)]) == 0
    with Image.open(output) as image:
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 500
    assert capsys.readouterr().out == f"{output}\n"


def test_visualize_writes_an_animation_and_a_page(checkpoint: Path, photos: Path, tiny: Captioner) -> None:
    photo = photos / "0.png"
    done = captioner("visualize", "-", "--model", checkpoint, "--output", photos / "map.gif", stdin=photo.read_bytes())
    assert done.returncode == 0, done.stderr
    with Image.open(photos / "map.gif") as gif:
        assert gif.format == "GIF"
    page = photos / "map.HTML"
    assert (
        main(["visualize", str(photo), "--model", str(checkpoint), "--output", str(page), "--num-captions", "2"]) == 0
    )
    for caption in tiny.caption(photo, num_captions=2).alternatives:
        assert f'"{caption.text}"' in page.read_text()


def test_visualize_makes_a_gallery_of_a_folder(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "1b.jpg").write_text("no picture")
    output = tmp_path / "gallery.html"
    done = captioner("visualize", photos, "--model", checkpoint, "--output", output)
    assert done.returncode == 1
    assert done.stdout.decode() == f"{output}\n"
    assert [line.split(": ")[1] for line in lines(done.stderr.decode())] == [str(photos / "1b.jpg")]
    assert output.read_text().count("<li>") == 3
    assert len(list((tmp_path / "gallery_files").iterdir())) == 6


def test_a_gallery_among_its_photographs_does_not_show_itself(
    checkpoint: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("gallery.html", "gallery.html", "another.html"):
        output = photos / name
        assert main(["visualize", str(photos), "--model", str(checkpoint), "--output", str(output)]) == 0
        assert output.read_text().count("<li>") == 3


def test_a_gallerys_thumbnails_are_not_captioned(
    checkpoint: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "trip_files").mkdir()
    (photos / "0.png").rename(photos / "trip_files" / "mine.jpg")
    model = ["--model", str(checkpoint)]
    assert main(["visualize", str(photos), *model, "--output", str(photos / "gallery.html")]) == 0
    capsys.readouterr()
    assert main(["caption", str(photos), *model]) == 0
    named = [line.split("\t")[0] for line in lines(capsys.readouterr().out)]
    assert named == [str(photos / name) for name in ("1.png", "2.png", "trip_files/mine.jpg")]


def test_a_gallery_replaces_no_picture_that_is_not_its_own(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "gallery_files" / "00001.jpg"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    output = tmp_path / "gallery.html"
    assert main(["visualize", str(photos), "--model", str(checkpoint), "--output", str(output)]) == 2
    assert f"{mine} would be replaced and is of no gallery; name another" in capsys.readouterr().err
    assert mine.read_bytes() == b"mine"
    assert not output.exists()


@pytest.mark.parametrize("verb", ["caption", "train"])
def test_a_full_memory_is_told_in_one_line(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def exhaust(args: object) -> int:
        torch.empty(1 << 60)
        return 0

    monkeypatch.setattr(f"captioner.cli.{verb}.run", exhaust)
    assert main([verb, *(["photo.jpg"] if verb == "caption" else [])]) == 2
    assert capsys.readouterr().err.startswith("captioner: out of memory; reduce the batch size")


def test_visualize_without_attention_asks_for_gradients(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_captioner("none").save(tmp_path / "none.safetensors")
    output = tmp_path / "map.png"
    args = ["visualize", str(photos / "0.png"), "--model", str(tmp_path / "none.safetensors"), "--output", str(output)]
    assert main(args) == 2
    assert "there is no attention to show" in capsys.readouterr().err
    assert not output.exists()
    assert main([*args, "--saliency", "gradient"]) == 0
    assert output.exists()


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        ("import captioner", {"torch", "lightning", "matplotlib", "numpy"}),
        ("from captioner.cli import main; main(['caption', '--help'])", {"torch", "lightning", "matplotlib"}),
        ("from captioner.cli import main; main(['score', '--references', 'x', '--candidates', 'x'])", {"torch"}),
        ("import captioner; captioner.load()", {"lightning", "matplotlib"}),
        (
            f"from captioner.cli import main; main(['caption', {str(PHOTO)!r}])",
            {"lightning", "matplotlib", "timm", "torchvision", "torch._dynamo", "sympy", "captioner.metrics"},
        ),
        ("import captioner; captioner.visualize.plot", {"torch", "lightning", "matplotlib"}),
        ("import captioner; captioner.load(backend='onnx')", {"torch", "lightning", "matplotlib", "onnx"}),
    ],
)
def test_nothing_heavy_is_imported_that_is_not_used(program: str, absent: set[str]) -> None:
    code = f"import sys\ntry:\n    {program}\nexcept SystemExit: pass\nprint('loaded:', *sys.modules)"
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split("loaded:")[1].split())


def test_the_readme_names_every_verb() -> None:
    assert set(re.findall(r"captioner (\w+)", README.read_text())) >= set(VERBS)


@pytest.mark.parametrize(
    ("page", "commands"),
    [
        ("README.md", ["captioner caption data/samples"]),
        ("CONTRIBUTING.md", ["pip install -e '.[dev]'", "pytest", "pytest -m slow"]),
    ],
)
def test_ci_runs_the_commands_of_a_page(page: str, commands: list[str]) -> None:
    text, script = (README.parent / page).read_text(), (README.parent / ".ci" / "run").read_text()
    for command in commands:
        assert command in text
        assert command.replace("pytest", "pytest -n 2 --dist loadfile") in script
