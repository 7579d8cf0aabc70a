"""tools/data/prepare.py and tools/data/download.py against a real server on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import prepare
import prepare_coco
import prepare_flickr8k
import prepare_text
import pytest
from download import ATTEMPTS, Archive, readable
from prepare import DataSet

from captioner.data.text_files import read_text
from captioner.errors import CaptionerError


@dataclass
class Server:
    """What the server serves, how it misbehaves, and what it was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes after which the next connections break, one each
    statuses: list[int] = field(default_factory=list)  # answers to the next requests, one each
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # name and Range header


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            asked = self.headers.get("Range")
            state.asked.append((name, asked))
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            if name not in state.files:
                self.send_error(404)
                return
            content = state.files[name]
            start = 0
            if asked and state.ranges:
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = start + state.cuts.pop(0) if state.cuts else len(content)
            self.wfile.write(content[start:end])

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_address[1]}"
        yield state
        http.shutdown()
        thread.join()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def published(server: Server, name: str, content: bytes, into: str) -> Archive:
    server.files[name] = content
    return Archive(f"{server.url}/{name}", len(content), "sha256", hashlib.sha256(content).hexdigest(), into)


def karpathy(images: list[tuple[str, str, str]], texts: Sequence[str] | None = None) -> bytes:
    texts = texts or ["a dog"] * len(images)
    entries = [
        {"filepath": folder, "filename": name, "split": split, "cocoid": number, "sentences": [{"raw": text}]}
        for number, ((folder, name, split), text) in enumerate(zip(images, texts, strict=True))
    ]
    return json.dumps({"images": entries}).encode()


@pytest.fixture
def data(server: Server) -> DataSet:
    """A data set of COCO's build: two archives of pictures, one of captions with more than is wanted."""
    captions = karpathy(
        [("train2014", "a.jpg", "train"), ("train2014", "b.jpg", "restval"), ("val2014", "c.jpg", "test")]
    )
    members = {"dataset_coco.json": captions, "__MACOSX/._dataset_coco.json": b"x", "dataset_flickr8k.json": b"{}"}
    return DataSet(
        "a small COCO",
        Path("data/coco"),
        published(server, "captions.zip", zipped(members), "."),
        "dataset_coco.json",
        ".",
        (
            published(server, "val2014.zip", zipped({"val2014/c.jpg": b"c" * 5000}), "val2014"),
            published(server, "train2014.zip", zipped({f"train2014/{n}.jpg": n.encode() for n in "abx"}), "train2014"),
        ),
    )


def spoilt(data: DataSet, server: Server, content: bytes) -> DataSet:
    """The data set with another archive of validation pictures, published with its own checksum."""
    return replace(data, pictures=(published(server, "val2014.zip", content, "val2014"), data.pictures[1]))


def test_lays_out_what_the_captions_name(data: DataSet, tmp_path: Path) -> None:
    line = prepare.prepare(data, tmp_path)
    assert "3 pictures (train 2, test 1), 3 captions" in line
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == [
        "captions.zip",
        "dataset_coco.json",
        "train2014.zip",
        "train2014/a.jpg",
        "train2014/b.jpg",
        "val2014.zip",
        "val2014/c.jpg",
    ]
    assert (tmp_path / "val2014/c.jpg").read_bytes() == b"c" * 5000


def test_a_second_run_fetches_nothing_even_without_the_zip_files(data: DataSet, server: Server, tmp_path: Path) -> None:
    first = prepare.prepare(data, tmp_path)
    for path in tmp_path.glob("*.zip"):
        path.unlink()
    server.asked.clear()
    assert prepare.prepare(data, tmp_path) == first
    assert server.asked == []


def test_a_cut_connection_is_taken_up_where_it_broke(data: DataSet, server: Server, tmp_path: Path) -> None:
    server.cuts = [40, 7]
    prepare.prepare(data, tmp_path)
    assert server.asked[:3] == [("captions.zip", f"bytes={start}-") for start in (0, 40, 47)]


def test_a_later_run_goes_on_with_half_a_download(data: DataSet, server: Server, tmp_path: Path) -> None:
    (tmp_path / "captions.zip.part").write_bytes(server.files["captions.zip"][:100])
    prepare.prepare(data, tmp_path)
    assert server.asked[0] == ("captions.zip", "bytes=100-")
    assert not list(tmp_path.glob("*.part"))


def test_a_whole_download_that_was_not_renamed_is_used(data: DataSet, server: Server, tmp_path: Path) -> None:
    (tmp_path / "captions.zip.part").write_bytes(server.files["captions.zip"])
    prepare.prepare(data, tmp_path)
    assert [name for name, _ in server.asked].count("captions.zip") == 1


def test_a_server_without_ranges_sends_all_again(data: DataSet, server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cuts = [40]
    assert "3 pictures" in prepare.prepare(data, tmp_path)


def test_a_download_longer_than_the_file_is_begun_anew(data: DataSet, server: Server, tmp_path: Path) -> None:
    (tmp_path / "captions.zip.part").write_bytes(b"x" * 100_000)
    assert "3 pictures" in prepare.prepare(data, tmp_path, pause=0)


def test_a_busy_server_is_asked_again(data: DataSet, server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    assert "3 pictures" in prepare.prepare(data, tmp_path, pause=0)


def test_a_server_that_stays_busy_is_given_up(data: DataSet, server: Server, tmp_path: Path) -> None:
    server.statuses = [503] * 100
    with pytest.raises(CaptionerError, match="HTTP 503"):
        prepare.prepare(data, tmp_path, pause=0)
    assert len(server.asked) == ATTEMPTS


def test_a_dead_link_says_what_to_put_where(data: DataSet, server: Server, tmp_path: Path) -> None:
    del server.files["train2014.zip"]
    with pytest.raises(CaptionerError) as raised:
        prepare.prepare(data, tmp_path)
    message = str(raised.value)
    assert "HTTP Error 404" in message
    assert f"put it at {tmp_path / 'train2014.zip'}, or its unpacked files into {tmp_path / 'train2014'}" in message
    assert "\n" not in message


def test_no_internet_is_told_at_once(data: DataSet, tmp_path: Path) -> None:
    # Port 9 (discard) of this machine has no listener.
    with pytest.raises(CaptionerError, match=r"cannot fetch http://127\.0\.0\.1:9/captions\.zip .*put it at"):
        prepare.prepare(data, tmp_path, base_url="http://127.0.0.1:9")


def test_only_http_is_spoken(data: DataSet, tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match="only http and https"):
        prepare.prepare(data, tmp_path, base_url=tmp_path.as_uri())


def test_another_place_serves_the_same_names(data: DataSet, server: Server, tmp_path: Path) -> None:
    elsewhere = replace(data.captions, url="http://nowhere.invalid/deep/captions.zip")
    prepare.prepare(replace(data, captions=elsewhere), tmp_path, base_url=f"{server.url}/")
    assert server.asked[0][0] == "captions.zip"


def test_a_download_with_another_checksum_is_deleted(data: DataSet, server: Server, tmp_path: Path) -> None:
    server.files["captions.zip"] += b"more"
    with pytest.raises(CaptionerError, match=r"captions\.zip is not the published file \(another sha256\)"):
        prepare.prepare(data, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_hand_placed_zip_file_is_used(data: DataSet, server: Server, tmp_path: Path) -> None:
    for name, content in server.files.items():
        (tmp_path / name).write_bytes(content)
    assert "3 pictures" in prepare.prepare(data, tmp_path)
    assert server.asked == []


def test_a_wrong_hand_placed_zip_file_is_named_and_kept(data: DataSet, tmp_path: Path) -> None:
    placed = tmp_path / "captions.zip"
    placed.write_bytes(b"no zip")
    with pytest.raises(CaptionerError, match=f"{re.escape(str(placed))} is not the published file"):
        prepare.prepare(data, tmp_path)
    assert placed.read_bytes() == b"no zip"


def test_hand_placed_pictures_are_used(data: DataSet, server: Server, tmp_path: Path) -> None:
    for name in ("train2014/a.jpg", "train2014/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    prepare.prepare(data, tmp_path)
    assert [name for name, _ in server.asked] == ["captions.zip", "val2014.zip"]
    assert (tmp_path / "train2014/a.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["../c.jpg", "/tmp/c.jpg", "val2014/../../c.jpg", "..\\c.jpg", "C:\\c.jpg"])
def test_a_member_that_leaves_the_folder_is_refused(data: DataSet, server: Server, tmp_path: Path, name: str) -> None:
    data = spoilt(data, server, zipped({"val2014/c.jpg": b"c", name: b"evil"}))
    with pytest.raises(CaptionerError, match="leads out of its folder"):
        prepare.prepare(data, tmp_path / "inner")
    assert not list(tmp_path.rglob("*.jpg"))


def test_a_link_in_an_archive_is_refused(data: DataSet, server: Server, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("val2014/c.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/hostname")
    with pytest.raises(CaptionerError, match="leads out of its folder"):
        prepare.prepare(spoilt(data, server, buffer.getvalue()), tmp_path)


def test_an_archive_that_lacks_a_picture_is_told(data: DataSet, server: Server, tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match=r"lacks c\.jpg \(1 of 1 files\)"):
        prepare.prepare(spoilt(data, server, zipped({"val2014/d.jpg": b"d"})), tmp_path)


def test_an_archive_that_is_no_zip_file_is_told(data: DataSet, server: Server, tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match=r"val2014\.zip is not a sound zip file"):
        prepare.prepare(spoilt(data, server, b"<html>log in</html>"), tmp_path)


def test_a_damaged_member_leaves_nothing_half_written(data: DataSet, server: Server, tmp_path: Path) -> None:
    content = bytearray(zipped({"val2014/c.jpg": bytes(range(256)) * 20}))
    content[60] ^= 0xFF
    with pytest.raises(CaptionerError, match="not a sound zip file"):
        prepare.prepare(spoilt(data, server, bytes(content)), tmp_path)
    assert list((tmp_path / "val2014").iterdir()) == []


def test_too_little_room_is_told_before_anything_is_fetched(data: DataSet, server: Server, tmp_path: Path) -> None:
    vast = replace(data.captions, size=10**18)
    with pytest.raises(CaptionerError, match="make room"):
        prepare.prepare(replace(data, captions=vast), tmp_path)
    assert server.asked == []


def test_a_folder_that_cannot_be_made_is_told(data: DataSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CaptionerError, match="choose another --folder"):
        prepare.prepare(data, tmp_path / "file" / "coco")


def test_dry_run_says_all_and_does_nothing(
    data: DataSet, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "coco"
    assert prepare.main(data, ["--dry-run", "--folder", str(folder)]) == 0
    printed = capsys.readouterr().out
    for archive in (data.captions, *data.pictures):
        assert f"{archive.url}  {readable(archive.size)}  sha256 {archive.digest}" in printed
        assert f"as {folder / archive.name}, unpacked into {folder / archive.into}: to be fetched" in printed
    assert not folder.exists()
    assert server.asked == []


def test_dry_run_tells_what_is_there(data: DataSet, server: Server, tmp_path: Path) -> None:
    prepare.prepare(data, tmp_path)
    (tmp_path / "val2014/c.jpg").unlink()
    (tmp_path / "train2014/a.jpg").unlink()
    (tmp_path / "train2014.zip").unlink()
    (tmp_path / "train2014.zip.part").write_bytes(b"12")
    states = [line.rpartition(": ")[2] for line in prepare.plan(data, tmp_path)[1:]]
    assert states == ["unpacked already", "there, to be checked and unpacked", "to be fetched from byte 2 on"]


def test_command_line_prints_the_result_or_one_line(
    data: DataSet, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare.main(data, ["--folder", str(tmp_path / "a"), "--base-url", server.url]) == 0
    assert "3 pictures" in capsys.readouterr().out
    server.files.clear()
    assert prepare.main(data, ["--folder", str(tmp_path / "b")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "cannot fetch" in printed.err.splitlines()[-1]


@pytest.mark.parametrize("data", [prepare_coco.COCO, prepare_flickr8k.FLICKR8K], ids=lambda data: str(data.title))
def test_what_is_published_is_whole(data: DataSet) -> None:
    for archive in (data.captions, *data.pictures):
        assert archive.name.endswith(".zip")
        assert len(archive.digest) == hashlib.new(archive.algorithm).digest_size * 2
        assert int(archive.digest, 16)


def test_both_real_sets_say_where_to_put_what_without_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for data in (prepare_coco.COCO, prepare_flickr8k.FLICKR8K):
        assert prepare.main(data, ["--folder", str(tmp_path), "--base-url", "http://127.0.0.1:9"]) == 2
        assert f"put it at {tmp_path / 'caption_datasets.zip'}" in capsys.readouterr().err


@pytest.fixture
def both_flickrs(server: Server) -> Archive:
    """Karpathy's archive with two pictures of Flickr8k, one of them to test on, and four of Flickr30k."""
    names = [("1.jpg", "train"), ("2.jpg", "train"), ("3.jpg", "val"), ("12.jpg", "train")]
    flickr8k = karpathy([(".", "1_0a9.jpg", "test"), (".", "11_b.jpg", "train")])
    flickr30k = karpathy([(".", name, split) for name, split in names], texts=[f"a dog in {name}" for name, _ in names])
    members = {"dataset_flickr8k.json": flickr8k, "dataset_flickr30k.json": flickr30k}
    return published(server, "caption_datasets.zip", zipped(members), ".")


def test_text_to_learn_a_language_from_has_nothing_of_flickr8k(both_flickrs: Archive, tmp_path: Path) -> None:
    output = tmp_path / "new" / "captions.jsonl.gz"
    told = prepare_text.write_text(output, tmp_path, archive=both_flickrs)
    assert "3 captions of 3 pictures; 1 that Flickr8k has too" in told
    assert read_text(output, 0.1) == (["a dog in 2.jpg", "a dog in 12.jpg"], ["a dog in 3.jpg"])


def test_text_written_again_is_the_same_and_fetched_once(both_flickrs: Archive, server: Server, tmp_path: Path) -> None:
    output = tmp_path / "captions.jsonl.gz"
    written = []
    for _ in range(2):
        prepare_text.write_text(output, tmp_path, archive=both_flickrs)
        written.append(output.read_bytes())
    assert written[0] == written[1]
    assert len(server.asked) == 1


def test_text_from_a_place_without_the_archive_is_told_in_one_line(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--output", str(tmp_path / "text.gz"), "--folder", str(tmp_path), "--base-url", server.url]
    assert prepare_text.main(arguments) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "caption_datasets.zip" in told
    assert not (tmp_path / "text.gz").exists()
