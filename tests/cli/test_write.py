"""captioner write, through the real command line, on real files."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import processes
import pytest
from conftest import make_captioner
from PIL import Image
from training_runs import kill_at_random

from captioner.cli import main
from captioner.cli.write import FORMS, XMP_NAMES
from captioner.sidecars import forms, xmp_files
from captioner.sidecars.manifest import NAME, Manifest
from captioner.sidecars.xmp import ALT_TEXT, DESCRIPTION, Packet

BESIDE = ("txt", "caption", "xmp", "embedded")
ALL_FILES = (*BESIDE, "metadata.jsonl", "csv", "coco")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model, which says other things."""
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    make_captioner(seed=5).save(path)
    return path


@pytest.fixture
def write(checkpoint: Path, photos: Path) -> Callable[..., int]:
    """The command, on the folder of photographs unless another is named."""

    def run(*words: str, path: Path = photos, model: Path = checkpoint) -> int:
        return main(["write", str(path), "--model", str(model), *words])

    return run


def as_forms(*names: str) -> list[str]:
    return [word for name in names for word in ("--as", name)]


def state(folder: Path) -> dict[str, bytes]:
    """The content of all files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def captions_of(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text().strip() for path in sorted(folder.rglob("*.txt"))}


def test_names_in_the_help_are_those_of_the_library() -> None:
    assert FORMS == forms.FORMS
    assert XMP_NAMES == xmp_files.NAMES


def test_every_form_holds_the_caption_that_the_model_makes(
    write: Callable[..., int], photos: Path, capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    assert main(["caption", str(photos), "--model", str(checkpoint)]) == 0
    expected = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert write(*as_forms(*ALL_FILES)) == 0
    rows = [json.loads(line) for line in (photos / "metadata.jsonl").read_text().splitlines()]
    coco = json.loads((photos / "captions.json").read_text())
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    for path, caption in expected.items():
        photo = Path(path)
        assert photo.with_suffix(".txt").read_text() == f"{caption}\n"
        assert photo.with_suffix(".caption").read_text() == f"{caption}\n"
        assert Packet(photo.with_name(f"{photo.name}.xmp").read_bytes()).texts[DESCRIPTION] == caption
        with Image.open(photo) as image:
            assert (
                Packet(image.info["xmp"].encode() if isinstance(image.info["xmp"], str) else image.info["xmp"]).texts[
                    ALT_TEXT
                ]
                == caption
            )
        assert {"file_name": photo.name, "text": caption} in rows
        assert caption in {each["caption"] for each in coco["annotations"] if names[each["image_id"]] == photo.name}
        assert f"{photo.name},{caption}," in (photos / "captions.csv").read_text()


def test_taken_back_all_is_as_before(
    write: Callable[..., int], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "page.html").write_text("<img src=1.png alt=''>")
    (photos / "notes.md").write_text("![](0.png)")
    (photos / "0.txt").write_text("my words")
    before = state(photos)
    times = {path: path.stat().st_mtime_ns for path in photos.iterdir()}
    assert write(*as_forms(*ALL_FILES, "alt"), "--overwrite") == 0
    assert state(photos).items().isdisjoint({name: content for name, content in before.items() if name != "x"}.items())
    assert write("--undo") == 0
    assert state(photos) == before
    assert {path: path.stat().st_mtime_ns for path in times if path.suffix == ".png"} == {
        path: when for path, when in times.items() if path.suffix == ".png"
    }
    capsys.readouterr()
    assert write("--undo") == 0
    assert capsys.readouterr().err == "captioner: nothing to do\n"


def test_only_ours_is_replaced_by_another_model(write: Callable[..., int], photos: Path, other: Path) -> None:
    (photos / "0.txt").write_text("my words\n")
    assert write(*as_forms("txt", "embedded", "csv")) == 0
    first = captions_of(photos)
    (photos / "1.txt").write_text(first["1.txt"] + " called Rex")
    csv = (photos / "captions.csv").read_text()
    (photos / "captions.csv").write_text(csv.replace(f"2.png,{first['2.txt']}", "2.png,mine"))
    assert write(*as_forms("txt", "embedded", "csv"), model=other) == 0
    second = captions_of(photos)
    assert second["0.txt"] == "my words"
    assert second["1.txt"] == first["1.txt"] + " called Rex"
    assert second["2.txt"] != first["2.txt"]
    before, after = (
        dict(line.split(",")[:2] for line in text.splitlines()) for text in (csv, (photos / "captions.csv").read_text())
    )
    assert after["2.png"] == "mine"
    assert after["0.png"] != before["0.png"]


@pytest.mark.parametrize("mode", ["append", "prepend"])
def test_words_are_joined_and_a_second_run_doubles_nothing(
    write: Callable[..., int], photos: Path, other: Path, mode: str
) -> None:
    (photos / "0.txt").write_text("my words")
    joined = ["my words, {}", "{}, my words"][mode == "prepend"]
    assert write(*as_forms("txt"), f"--{mode}") == 0
    first = captions_of(photos)["0.txt"]
    assert write(*as_forms("txt"), f"--{mode}") == 0
    assert captions_of(photos)["0.txt"] == first
    assert write(*as_forms("txt"), model=other) == 0
    second = captions_of(photos)["0.txt"]
    part = second.replace("my words", "").strip(", ")
    assert second == joined.format(part)
    assert part not in first
    assert write("--undo") == 0
    assert captions_of(photos) == {"0.txt": "my words"}


def test_a_dry_run_tells_all_and_writes_nothing(
    write: Callable[..., int], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "0.txt").write_text("my words")
    before = state(photos)
    assert write(*as_forms("txt"), "--dry-run", "--prefix", "photo of", "--suffix", ", 35 mm") == 0
    assert state(photos) == before
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["keep", str(photos / "0.txt")]] + [
        ["write", str(photos / f"{number}.txt")] for number in (1, 2)
    ]
    assert "photo of" in lines[1]
    assert lines[1].endswith(", 35 mm")
    assert write(*as_forms("txt")) == 0
    after = state(photos)
    assert write("--undo", "--dry-run") == 0
    assert state(photos) == after


def test_nothing_is_captioned_twice(
    write: Callable[..., int], photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write(*as_forms("txt")) == 0
    captions = captions_of(photos)
    capsys.readouterr()
    monkeypatch.setattr("captioner.cli.write.load_model", lambda args: pytest.fail("the model was loaded"))
    assert write(*as_forms("txt", "xmp", "embedded", "metadata.jsonl"), "--prefix", "a photo:") == 0
    assert captions_of(photos) == {name: f"a photo: {caption}" for name, caption in captions.items()}
    assert capsys.readouterr().err == "captioner: 12 written\n"
    assert write(*as_forms("embedded"), "--prefix", "a photo:") == 0
    assert capsys.readouterr().err == "captioner: 3 as before\n"


def test_taking_back_needs_no_torch(photos: Path) -> None:
    program = (
        "import sys; from captioner.cli import main; c = main(sys.argv[1:]); print('torch' in sys.modules); sys.exit(c)"
    )
    command = [sys.executable, "-c", program, "write", str(photos), "--undo"]
    done = processes.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False\n")


def test_new_and_changed_pictures_are_captioned(write: Callable[..., int], photos: Path) -> None:
    assert write(*as_forms("txt", "metadata.jsonl")) == 0
    first = captions_of(photos)
    shutil.copyfile(photos / "2.png", photos / "1.png")
    shutil.copyfile(photos / "0.png", photos / "3.png")
    (photos / "2.png").unlink()
    assert write(*as_forms("txt", "metadata.jsonl")) == 0
    second = captions_of(photos)
    assert (second["1.txt"], second["3.txt"]) == (first["2.txt"], first["0.txt"])
    rows = [json.loads(line)["file_name"] for line in (photos / "metadata.jsonl").read_text().splitlines()]
    assert rows == ["0.png", "1.png", "3.png"]  # readers of the file would look for 2.png


def test_undo_finds_pictures_that_were_moved_and_renamed(write: Callable[..., int], photos: Path) -> None:
    pictures = {path.name: path.read_bytes() for path in photos.iterdir()}
    assert write(*as_forms(*BESIDE)) == 0
    (photos / "sub").mkdir()
    for path in photos.glob("0*"):
        path.rename(photos / "sub" / path.name)
    for path in photos.glob("1*"):
        path.rename(photos / path.name.replace("1", "renamed"))
    for path in photos.glob("2*"):  # swapped with another's name
        path.rename(photos / path.name.replace("2", "1"))
    assert write("--undo") == 0
    assert state(photos) == {
        "sub/0.png": pictures["0.png"],
        "renamed.png": pictures["1.png"],
        "1.png": pictures["2.png"],
    }


def test_undo_of_one_form_or_one_picture_leaves_the_others(write: Callable[..., int], photos: Path) -> None:
    assert write(*as_forms("txt", "xmp")) == 0
    assert write("--undo", *as_forms("xmp")) == 0
    assert {path.suffix for path in photos.iterdir()} == {".png", ".txt", ".jsonl"}
    assert write("--undo", path=photos / "1.png") == 0
    assert sorted(path.name for path in photos.glob("*.txt")) == ["0.txt", "2.txt"]


def test_undo_leaves_what_a_person_changed(write: Callable[..., int], photos: Path) -> None:
    assert write(*as_forms("txt", "metadata.jsonl")) == 0
    (photos / "0.txt").write_text("my words")
    rows = (photos / "metadata.jsonl").read_text().splitlines()
    (photos / "metadata.jsonl").write_text("\n".join([rows[0], '{"file_name": "x.png", "text": "mine"}', *rows[1:]]))
    assert write("--undo") == 0
    assert captions_of(photos) == {"0.txt": "my words"}
    assert json.loads((photos / "metadata.jsonl").read_text())["text"] == "mine"


def test_clashing_names_are_told_and_the_others_written(
    write: Callable[..., int], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.open(photos / "1.png").save(photos / "1.jpg")
    assert write(*as_forms("txt", "xmp"), "--xmp-name", "photo.xmp") == 1
    lines = capsys.readouterr().err.splitlines()
    assert sum("would have the same 1.xmp" in line for line in lines) == 2
    assert sum("would have the same 1.txt" in line for line in lines) == 2
    assert sorted(path.name for path in photos.iterdir() if path.suffix in (".txt", ".xmp")) == [
        "0.txt",
        "0.xmp",
        "2.txt",
        "2.xmp",
    ]
    assert write(*as_forms("xmp")) == 0
    assert (photos / "1.jpg.xmp").exists()
    assert (photos / "1.png.xmp").exists()


def test_a_caption_of_another_picture_is_not_replaced(write: Callable[..., int], photos: Path) -> None:
    assert write(*as_forms("txt"), path=photos / "1.png") == 0
    before = (photos / "1.txt").read_text()
    Image.open(photos / "0.png").save(photos / "1.jpg")
    assert write(*as_forms("txt"), path=photos / "1.jpg") == 1
    assert (photos / "1.txt").read_text() == before


def test_damaged_and_foreign_files_stay_and_are_told_in_one_line(
    write: Callable[..., int], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "1.txt": (b"\xff\xfe\xfa", "is not UTF-8 text"),
        "1.png.xmp": (b"<x:xmpmeta", "its XMP is damaged"),
        "2.png.xmp": (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "document type declaration"),
        "metadata.csv": (b"file_name,text\n", "imagefolder reads one kind"),
        "captions.csv": (b"a,b\n1,2\n", "has no columns file_name and text"),
        "captions.json": (b"[1, 2]", "has no captions in COCO's format"),
        "cut.html": (b"<p><img src='1.png'", "ends within a tag"),
        "page.html": (b"<meta charset=utf-8>\xff", "is not HTML in utf-8"),
        "page.md": (b"\xff![](1.png)", "is not UTF-8"),
    }
    for name, (content, _) in files.items():
        (photos / name).write_bytes(content)
    assert write(*as_forms("txt", "xmp", "metadata.jsonl", "csv", "coco", "alt"), "--overwrite") == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(files) + 1
    for name, (content, message) in files.items():
        assert [line for line in told if name in line and message in line], name
        assert (photos / name).read_bytes() == content
    assert (photos / "0.txt").exists()
    assert (photos / "0.png.xmp").exists()
    (photos / "metadata.csv").unlink()
    (photos / "metadata.jsonl").write_text("{'a': 1}\n")
    assert write(*as_forms("metadata.jsonl"), "--overwrite") == 1
    assert "metadata.jsonl: line 1 is not a JSON object" in capsys.readouterr().err


def test_a_manifest_that_is_none_is_told_once(
    write: Callable[..., int], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / NAME).write_text("my notes\n")
    assert write(*as_forms("txt", "csv")) == 1
    assert len([line for line in capsys.readouterr().err.splitlines() if "was not written by captioner" in line]) == 1
    assert captions_of(photos) == {}


def test_read_only_folders_and_files_are_told_and_the_others_written(
    write: Callable[..., int], photos: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (photos / "0.png").chmod(0o444)
    (photos / "1.txt").write_text("")
    (photos / "1.txt").chmod(0o444)
    (photos / "2.txt").symlink_to(tmp_path / "elsewhere")
    assert write(*as_forms("txt", "embedded")) == 1
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if "0.png: is read-only" in line]
    assert [line for line in told if "1.txt: is read-only" in line]
    assert [line for line in told if "2.txt: is a link" in line]
    assert len(told) == 4
    assert not (tmp_path / "elsewhere").exists()
    assert (photos / "0.txt").exists()


def test_a_folder_that_must_not_be_written_to_is_told_once(checkpoint: Path, photos: Path) -> None:
    as_user = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else []
    if as_user and shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed, and root may write everywhere")
    (photos / "mine").mkdir()
    shutil.copyfile(photos / "0.png", photos / "mine" / "0.png")
    photos.chmod(0o555)
    command = [*as_user, sys.executable, "-m", "captioner", "write", str(photos), "--model", str(checkpoint)]
    done = processes.run([*command, "--as", "txt"], capture_output=True, text=True)
    photos.chmod(0o755)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"captioner: {photos}: cannot be written to: Permission denied",
        "captioner: 1 written, 1 failed",
    ]
    assert [path.name for path in photos.rglob("*.txt")] == ["0.txt"]
    assert (photos / "mine" / "0.txt").exists()


def test_a_full_disk_damages_nothing(checkpoint: Path, photos: Path) -> None:
    for number in range(3):
        Image.effect_noise((300, 200), number + 50).save(photos / f"{number}.png")
    before = {path.name: path.read_bytes() for path in photos.iterdir()}

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    command = [sys.executable, "-m", "captioner", "write", str(photos), "--model", str(checkpoint)]
    words = as_forms("txt", "embedded")
    done = processes.run([*command, *words], capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert len([line for line in told if "cannot write" in line and ".png: File too large" in line]) == 3
    assert {name: (photos / name).read_bytes() for name in before} == before
    assert len(captions_of(photos)) == 3
    assert not list(photos.glob(".*.part"))


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    for number in range(20):
        file = folder / f"{number % 3}" / f"{number}.{('png', 'jpg', 'webp', 'tif')[number % 4]}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((30 + number, 40), number).convert("RGB").save(file)
        if number % 5 == 0:
            file.with_suffix(".txt").write_text("my words")
    return folder


def test_killed_at_any_moment_nothing_is_torn_doubled_or_lost(checkpoint: Path, many: Path, tmp_path: Path) -> None:
    before = state(many)
    whole = tmp_path / "whole"
    shutil.copytree(many, whole)
    words = [
        "--model",
        str(checkpoint),
        "--batch-size",
        "1",
        "--precision",
        "float32",
        "--append",
        *as_forms(*ALL_FILES),
    ]
    assert main(["write", str(whole), *words]) == 0
    modules = "captioner.pipeline,captioner.sidecars.job,captioner.sidecars.forms,captioner.pipeline"
    again = kill_at_random(8, 0.05, 0.8, modules, ["write", str(many), *words])
    done = processes.run(again, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) >= 1
    after = state(many)
    assert not [name for name in after if name.endswith(".part")]
    assert {n: c for n, c in after.items() if NAME not in n} == {n: c for n, c in state(whole).items() if NAME not in n}
    assert main(["write", str(many), "--undo"]) == 0
    assert state(many) == before


def test_ctrl_c_leaves_whole_files_and_the_same_command_goes_on(checkpoint: Path, many: Path) -> None:
    captioner: list[str | Path] = [*processes.CAPTIONER, "write", many, "--model", checkpoint]
    command = [*captioner, "--batch-size", "4", *as_forms("txt")]
    with processes.started(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        processes.wait_until((many / NAME).exists, process)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert told.splitlines()[-1] == "captioner: interrupted"
    assert "Traceback" not in told
    assert process.returncode == 130
    assert main(["write", str(many), "--model", str(checkpoint), *as_forms("txt")]) == 0
    assert len(captions_of(many)) == 20
    assert all(text for text in captions_of(many).values())


@pytest.mark.parametrize("moment", range(1, 6))
def test_ctrl_c_while_a_manifest_is_let_go(
    write: Callable[..., int],
    many: Path,
    moment: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    close, closed = os.close, []

    def interrupted(file: int) -> None:
        close(file)
        if sys._getframe(1).f_code is Manifest.close.__code__:
            closed.append(file)
            if len(closed) == moment:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("os.close", interrupted)
    assert write(*as_forms("txt"), path=many) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "captioner: interrupted"
    monkeypatch.undo()
    assert write(*as_forms("txt"), path=many) == 0
    assert len(captions_of(many)) == 20


def test_pipes_among_the_files_are_not_waited_for(
    write: Callable[..., int], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipes = [photos / name for name in ("a.jpg", "0.png.xmp", "1.txt", "notes.md", f"below/{NAME}")]
    (photos / "below").mkdir()
    shutil.copyfile(photos / "0.png", photos / "below" / "0.png")
    for pipe in pipes:
        os.mkfifo(pipe)

    def too_long(number: int, frame: object) -> None:
        raise TimeoutError(number)

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(int(processes.LONGEST))
    try:
        assert write(*as_forms("txt", "xmp", "coco", "alt", "embedded")) == 1
        told = capsys.readouterr().err
        for pipe in pipes:
            assert f"{pipe}: is not a regular file" in told
        assert (photos / "0.txt").exists()
        assert write("--undo") == 1
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert not (photos / "0.txt").exists()


def test_what_cannot_be_taken_back_keeps_nothing_else(
    write: Callable[..., int], many: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(many)
    assert write(*as_forms("txt"), path=many) == 0
    written = state(many / "1")
    damaged = many / "1" / NAME
    damaged.write_bytes(b"someone else's\n" + written[NAME])
    stuck, unlink = many / "2" / "2.txt", Path.unlink

    def fails(path: Path, missing_ok: bool = False) -> None:
        if path == stuck:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", fails)
    capsys.readouterr()
    assert write("--undo", path=many) == 1
    told = capsys.readouterr().err
    assert f"{damaged}: line 1 was not written by captioner; move the file away" in told
    assert f"{stuck}: Permission denied" in told
    assert "2 failed" in told
    assert {name for name in state(many) if name.endswith(".txt")} == {
        *(name for name in before if name.endswith(".txt")),
        *(f"1/{name}" for name in written if name.endswith(".txt")),
        "2/2.txt",
    }
    monkeypatch.undo()
    damaged.write_bytes(written[NAME])
    assert write("--undo", path=many) == 0
    assert state(many) == before


def test_two_at_once_do_not_meet(write: Callable[..., int], photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest(photos)
    manifest.open()
    assert write(*as_forms("txt")) == 2
    assert "another captioner is writing here" in capsys.readouterr().err
    manifest.close()
    assert write(*as_forms("txt")) == 0


def test_web_pages_get_texts_for_their_pictures(write: Callable[..., int], photos: Path) -> None:
    (photos / "site").mkdir()
    page = photos / "site" / "page.html"
    page.write_text(
        '<!doctype html>\n<p title="<img src=1.png>"><IMG SRC="../0.png" alt=""><img alt="mine" src="../1.png">'
        "<img src='/2.png?size=1'><img src=https://example.org/0.png><img role=presentation src=../0.png>"
        "<script>'<img src=../0.png>'</script><!-- <img src=../0.png> -->"
    )
    markdown = photos / "notes.md"
    markdown.write_text("# ![](0.png) `![](0.png)`\n\n![mine](1.png) ![][p]\n\n[p]: 2.png 'x'\n")
    assert write(*as_forms("txt", "alt")) == 0
    captions = captions_of(photos)
    found: list[tuple[str | None, str | None]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "img":
                found.append((dict(attrs).get("src"), dict(attrs).get("alt")))

    Reader().feed(page.read_text())
    assert found == [
        ("../0.png", captions["0.txt"]),
        ("../1.png", "mine"),
        ("/2.png?size=1", captions["2.txt"]),
        ("https://example.org/0.png", None),
        ("../0.png", None),
    ]
    assert markdown.read_text() == (
        f"# ![{captions['0.txt']}](0.png) `![](0.png)`\n\n![mine](1.png) ![{captions['2.txt']}][p]\n\n[p]: 2.png 'x'\n"
    )


def test_pages_alone_need_the_pictures_that_they_show(
    write: Callable[..., int], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "page.html").write_text("<img src=0.png><img src=missing.png><img src=../../etc/x.png>")
    assert write(*as_forms("alt"), path=photos / "page.html") == 1
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    assert "missing.png: no such file" in captured.err


def test_confidence_decides_where_there_is_one(
    write: Callable[..., int], photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write(*as_forms("txt"), "--min-confidence", "0.9") == 0
    assert len(captions_of(photos)) == 3  # this model tells no confidence
    write("--undo")
    from dataclasses import replace

    from captioner.pipeline import Captioner

    stream = Captioner.stream

    def sure(self: Captioner, *args: Any) -> Iterator[Any]:
        for number, caption in enumerate(stream(self, *args)):
            yield replace(caption, confidence=0.4 * number)  # type: ignore[type-var]

    monkeypatch.setattr(Captioner, "stream", sure)
    assert write(*as_forms("txt", "metadata.jsonl"), "--min-confidence", "0.5") == 0
    assert list(captions_of(photos)) == ["2.txt"]
    assert json.loads((photos / "metadata.jsonl").read_text())["confidence"] == 0.8
    assert "too unsure" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing says where to write"),
        (["--as", "tar"], "needs a folder for the captioned shards"),
        (["--as", "txt", "--output", "x"], "--output is the folder for --as tar"),
        (["--as", "txt", "--min-confidence", "2"], "--min-confidence is 2.0; it must be from 0 to 1"),
        (["--as", "txt", "--append", "--overwrite"], "not allowed with argument"),
        (["--as", "pdf"], "invalid choice"),
        (["--as", "alt"], "has no HTML or Markdown files"),
        (["--as", "tar", "--output", "x"], "no .tar file is given"),
    ],
)
def test_wrong_use_is_told_before_any_work(
    write: Callable[..., int], capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert write(*words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_path_that_is_not_there(write: Callable[..., int], photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert write(*as_forms("txt", "embedded"), path=photos / "none.png") == 1
    assert "none.png: no such file; check the path" in capsys.readouterr().err
    assert write("--undo", path=photos / "none.png") == 2
    assert sorted(path.name for path in photos.iterdir()) == ["0.png", "1.png", "2.png"]


def test_imagefolder_reads_the_folder(write: Callable[..., int], photos: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    (photos / "sub").mkdir()
    (photos / "0.png").rename(photos / "sub" / "0.png")
    assert write(*as_forms("metadata.jsonl", "txt")) == 0
    read = datasets.load_dataset("imagefolder", data_dir=str(photos), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(row["text"] for row in read) == sorted(captions_of(photos).values())
    assert read[0]["image"].size == (90, 60)


def test_pycocotools_reads_the_annotations_and_takes_them_as_results(
    write: Callable[..., int], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    (photos / "0.png").rename(photos / "COCO_val2014_000000000042.png")
    assert write(*as_forms("coco")) == 0
    read = coco.COCO(str(photos / "captions.json"))
    assert read.loadImgs([42])[0]["file_name"] == "COCO_val2014_000000000042.png"
    results = read.loadRes(list(read.anns.values()))
    assert {each["caption"] for each in results.anns.values()} == {each["caption"] for each in read.anns.values()}
    assert all(each["score"] < 0 for each in read.anns.values())
