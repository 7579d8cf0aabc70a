"""Captions embedded in images: all formats, all kinds of metadata, read back by exiftool, exiv2 and Pillow."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from readers import (
    MAKER,
    exiftool,
    exiv2,
    language_alternatives,
    needs,
    picture,
    pixels,
    put,
    save,
    their_packet,
    undo,
    write,
)

from captioner.errors import CaptionerError
from captioner.sidecars.embedded import Picture
from captioner.sidecars.manifest import Manifests
from captioner.sidecars.policy import Captioned, Policy
from captioner.sidecars.xmp import ALT_TEXT, DESCRIPTION, Packet

SAVED: dict[str, dict[str, Any]] = {
    "baseline.jpg": {"quality": 90},
    "progressive.jpg": {"progressive": True},
    "gray.jpg": {"mode": "L"},
    "cmyk.jpg": {"mode": "CMYK"},
    "rgb.png": {},
    "palette.png": {"mode": "P"},
    "transparent.png": {"mode": "RGBA"},
    "deep.png": {"mode": "I;16"},
    "lossy.webp": {},
    "lossy_alpha.webp": {"mode": "RGBA"},
    "lossless.webp": {"lossless": True},
    "lossless_alpha.webp": {"lossless": True, "mode": "RGBA"},
    "odd.webp": {"size": (7, 5)},
    "plain.tif": {},
    "lzw.tif": {"compression": "tiff_lzw"},
    "jpeg.tif": {"compression": "jpeg"},
    "one_bit.tif": {"compression": "group4", "mode": "1"},
    "big.tif": {"big_tiff": True},
}
"""How Pillow saves pictures that can hold XMP."""


def saved(folder: Path, name: str, with_metadata: bool = True, xmp: bytes | None = None) -> Path:
    options = dict(SAVED[name])
    image = picture(options.pop("mode", "RGB"), options.pop("size", (41, 31)))
    path = folder / name
    save(path, image, with_metadata and image.mode != "CMYK", xmp, **options)
    return path


@pytest.mark.parametrize("metadata", ["none", "exif_icc", "exif_icc_xmp"])
@pytest.mark.parametrize("name", SAVED)
def test_pixels_and_other_bytes_stay_and_come_back(name: str, metadata: str, tmp_path: Path) -> None:
    path = saved(tmp_path, name, metadata != "none", their_packet() if metadata.endswith("xmp") else None)
    before, frames, status = path.read_bytes(), list(pixels(path)), path.stat()
    assert [row.action for row in write(Picture(path, MAKER))] == ["write", "write"]
    assert list(pixels(path)) == frames
    with Image.open(path) as image:
        read = Packet(image.info["xmp"] if "xmp" in image.info else image.tag_v2[700])  # type: ignore[attr-defined]
        image.load()
    assert read.texts == {DESCRIPTION: "a dog", ALT_TEXT: "a dog"}
    assert (path.stat().st_mtime_ns, path.stat().st_mode) == (status.st_mtime_ns, status.st_mode)
    undo(Picture(path, MAKER))
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == status.st_mtime_ns


@pytest.mark.parametrize("metadata", ["none", "all"])
def test_exiftool_reads_it_and_nothing_else_has_changed(metadata: str, tmp_path: Path) -> None:
    needs("exiftool")
    paths = [saved(tmp_path, name, metadata == "all", their_packet() if metadata == "all" else None) for name in SAVED]
    if metadata == "all":
        tags = ["-IPTC:Keywords=pond", "-IPTC:City=Kyoto"]
        with_iptc = [path for path in paths if path.suffix != ".webp" and path.name != "big.tif"]
        subprocess.run(["exiftool", "-q", "-overwrite_original", *tags, *with_iptc], timeout=60, check=True)
    before = [_others(facts) for facts in exiftool(*paths)]
    for path in paths:
        write(Picture(path, MAKER))
    for facts, others in zip(exiftool(*paths), before, strict=True):
        assert _others(facts) == others
        assert facts["XMP-dc:Description"] == facts["XMP-iptcCore:AltTextAccessibility"] == "a dog"
        assert facts["XMP-captioner:Model"] == MAKER.model
        assert facts["XMP-captioner:Confidence"] == 0.5
        assert not [name for name in facts if "Warning" in name or "Error" in name]


def _others(facts: dict[str, Any]) -> dict[str, Any]:
    """What exiftool reads, without what is written here and what the file system tells."""
    ours = ("XMP-captioner:", "XMP-dc:Description", "XMP-iptcCore:AltText", "System:", "IFD0:ApplicationNotes")
    extended = ("RIFF:WebP_Flags", "RIFF:ImageWidth", "RIFF:ImageHeight", "RIFF:VP8Version", "File:FileType")
    return {name: value for name, value in facts.items() if not name.startswith((*ours, *extended))}


@pytest.mark.parametrize("name", ["baseline.jpg", "rgb.png", "lossy.webp", "lossless_alpha.webp", "plain.tif"])
def test_exiv2_reads_it(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path, name, True, their_packet())
    write(Picture(path, MAKER), "a dog")
    read = exiv2(path)
    assert read["Xmp.dc.description"] == read["Xmp.iptc.AltTextAccessibility"] == 'lang="x-default" a dog'
    assert read["Xmp.xmp.Rating"] == "4"
    assert read["Xmp.captioner.Version"] == MAKER.version


@pytest.mark.parametrize("name", SAVED)
def test_a_second_caption_takes_the_place_of_the_first(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path, name)
    before = path.read_bytes()
    write(Picture(path, MAKER), "a dog")
    size = path.stat().st_size
    assert [row.action for row in write(Picture(path, MAKER), "a cat")] == ["replace", "replace"]
    assert path.stat().st_size == size
    assert [row.action for row in write(Picture(path, MAKER), "a cat")] == ["same", "same"]
    undo(Picture(path, MAKER))
    assert path.read_bytes() == before


def test_frames_of_animations_and_pages_stay(tmp_path: Path) -> None:
    frames = [picture("RGB", (30, 20 + n)) for n in range(3)]
    frames[1:] = [frame.resize(frames[0].size) for frame in frames[1:]]
    for name in ("pages.tif", "moving.webp", "moving.png"):
        path = tmp_path / name
        frames[0].save(path, save_all=True, append_images=frames[1:])
        before, content = list(pixels(path)), path.read_bytes()
        write(Picture(path, MAKER))
        assert list(pixels(path)) == before
        assert len(before) == 3
        undo(Picture(path, MAKER))
        assert path.read_bytes() == content


@pytest.mark.parametrize("xmp", [None, their_packet()])
def test_the_index_of_several_pictures_in_one_stays_right(xmp: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "pair.jpg"
    frames = [picture("RGB", (64, 48)), picture("RGB", (32, 24))]
    frames[0].save(path, "MPO", save_all=True, append_images=frames[1:], **({"xmp": xmp} if xmp else {}))
    before, content = list(pixels(path)), path.read_bytes()
    write(Picture(path, MAKER))
    assert list(pixels(path)) == before
    assert len(before) == 2
    with Image.open(path) as image:
        first, second = image.mpinfo[0xB002]  # type: ignore[attr-defined]
        assert second["DataOffset"] == first["Size"] - _index_place(path)
    undo(Picture(path, MAKER))
    assert path.read_bytes() == content


def _index_place(path: Path) -> int:
    """Where the index's own header lies, from which its offsets count."""
    return path.read_bytes().index(b"MPF\0") + 4


def test_big_endian_tiff(tmp_path: Path) -> None:
    entries = [(256, 3, 1, 2 << 16), (257, 3, 1, 1 << 16), (258, 3, 1, 8 << 16), (259, 3, 1, 1 << 16)]
    entries += [(262, 3, 1, 1 << 16), (273, 4, 1, 8), (278, 3, 1, 1 << 16), (279, 4, 1, 2)]
    body = b"MM\0*" + struct.pack(">I", 10) + b"\x10\xf0" + struct.pack(">H", len(entries))
    body += b"".join(struct.pack(">HHII", *entry) for entry in entries) + struct.pack(">I", 0)
    path = tmp_path / "big_endian.tif"
    path.write_bytes(body)
    before = list(pixels(path))
    write(Picture(path, MAKER))
    assert list(pixels(path)) == before
    with Image.open(path) as image:
        assert Packet(image.tag_v2[700]).texts[DESCRIPTION] == "a dog"  # type: ignore[attr-defined]
    undo(Picture(path, MAKER))
    assert path.read_bytes() == body


@pytest.mark.parametrize("place", ["xmp", "exif", "iptc", "png"])
def test_a_persons_description_is_kept_wherever_it_is(place: str, tmp_path: Path) -> None:
    path = tmp_path / ("photo.png" if place == "png" else "photo.jpg")
    xmp = their_packet(language_alternatives("dc:description", x_default="our Rex")) if place == "xmp" else None
    save(path, picture(), False, xmp)
    if place in ("exif", "png"):
        tag = "-EXIF:ImageDescription" if place == "exif" else "-PNG:Description"
        subprocess.run([needs("exiftool"), "-q", "-overwrite_original", f"{tag}=our Rex", str(path)], check=True)
    if place == "iptc":
        options = ["-q", "-overwrite_original", "-IPTC:Caption-Abstract=our Rex"]
        subprocess.run([needs("exiftool"), *options, str(path)], check=True)
    rows = {row.action for row in write(Picture(path, MAKER))}
    assert rows == {"keep", "write"}  # an alternative text nobody has written
    packet = Packet(Picture(path, MAKER).read())
    assert packet.texts[ALT_TEXT] == "a dog"
    assert packet.texts.get(DESCRIPTION) == ("our Rex" if place == "xmp" else None)
    write(Picture(path, MAKER), mode="append")
    assert Packet(Picture(path, MAKER).read()).texts[DESCRIPTION] == "our Rex, a dog"
    write(Picture(path, MAKER), "a cat")
    assert Packet(Picture(path, MAKER).read()).texts[DESCRIPTION] == "our Rex, a cat"


def test_what_a_camera_writes_is_no_description(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[270] = "OLYMPUS DIGITAL CAMERA         "
    picture().save(path, exif=exif)
    assert {row.action for row in write(Picture(path, MAKER))} == {"write"}


def test_after_another_program_wrote_too_only_ours_goes(tmp_path: Path) -> None:
    path = saved(tmp_path, "baseline.jpg", True, their_packet())
    write(Picture(path, MAKER))
    options = ["-q", "-overwrite_original", "-XMP-dc:Title=Pond"]
    subprocess.run([needs("exiftool"), *options, str(path)], check=True, timeout=60)
    assert {row.action for row in write(Picture(path, MAKER), "a cat")} == {"replace"}
    for _ in range(2):
        undo(Picture(path, MAKER))
    [facts] = exiftool(path)
    assert facts["XMP-dc:Title"] == "Pond"
    assert facts["XMP-xmp:Rating"] == 4
    assert not [name for name in facts if name.startswith(("XMP-captioner", "XMP-dc:Desc", "XMP-iptcCore"))]


def test_padding_makes_room_and_without_any_the_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "full.jpg"
    largest = 65_502  # 65,535 less the length itself and the segment's name
    padding = largest - len(their_packet())
    save(path, picture(), False, their_packet().replace(b"<?xpacket end", b" " * padding + b"<?xpacket end"))
    write(Picture(path, MAKER))
    assert Packet(Picture(path, MAKER).read()).texts[DESCRIPTION] == "a dog"
    save(path, picture(), False, their_packet(f"<dc:source>{'x' * (padding - 26)}</dc:source>"))
    before = path.read_bytes()
    with pytest.raises(CaptionerError, match="no room left"):
        write(Picture(path, MAKER))
    assert path.read_bytes() == before


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", ["baseline.jpg", "rgb.png", "lossy.webp", "plain.tif"])
def test_damaged_pictures_are_refused_or_written_rightly_and_never_crash(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path, name, True, their_packet())
    whole = path.read_bytes()
    for cut in range(1, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:cut])
        with contextlib.suppress(CaptionerError):
            write(Picture(path, MAKER))
            undo(Picture(path, MAKER))
        assert path.read_bytes() == whole[:cut]


@pytest.mark.parametrize("end", ["gif", "bmp", "ppm"])
def test_other_formats_are_refused(end: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{end}"
    picture().save(path)
    with pytest.raises(CaptionerError, match="is not a JPEG, PNG, WebP or TIFF"):
        write(Picture(path, MAKER))


def test_links_and_read_only_pictures_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, "rgb.png")
    link = tmp_path / "link.png"
    link.symlink_to(path)
    with pytest.raises(CaptionerError, match=r"link\.png: is a link"):
        write(Picture(link, MAKER))
    path.chmod(0o444)
    with pytest.raises(CaptionerError, match="is read-only"):
        write(Picture(path, MAKER))


def test_permissions_and_the_owner_stay(tmp_path: Path) -> None:
    path = saved(tmp_path, "rgb.png")
    path.chmod(0o640)
    if os.getuid() == 0:
        os.chown(path, 1234, 2345)
    before = path.stat()
    write(Picture(path, MAKER))
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_a_hard_link_keeps_the_picture_as_it_was(tmp_path: Path) -> None:
    path = saved(tmp_path, "rgb.png")
    os.link(path, tmp_path / "backup.png")
    before = path.read_bytes()
    write(Picture(path, MAKER))
    assert (tmp_path / "backup.png").read_bytes() == before
    assert path.read_bytes() != before


@pytest.mark.parametrize("moment", ["read", "written"])
def test_a_picture_that_another_program_changes_meanwhile_stays(moment: str, tmp_path: Path) -> None:
    path = saved(tmp_path, "rgb.png", False, None)
    theirs = saved(tmp_path, "deep.png", True, their_packet()).read_bytes()
    target = Picture(path, MAKER)
    captions = dict.fromkeys(target.pictures, Captioned("a dog", -3.0))
    change = target.change(captions, Policy(), Manifests(), MAKER)
    assert change.write is not None
    if moment == "read":
        path.write_bytes(theirs)
    new = change.write()
    assert new is not None
    new.sync()
    path.write_bytes(theirs)
    with pytest.raises(CaptionerError, match="rgb.png: was changed by another program meanwhile; run the"):
        new.commit()
    new.discard()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["deep.png", "rgb.png"]
    assert path.read_bytes() == theirs


def test_a_picture_that_was_changed_since_it_was_looked_at_is_read_again(tmp_path: Path) -> None:
    path = saved(tmp_path, "rgb.png", False, None)
    target = Picture(path, MAKER)
    assert not any(slot.words for slot in target.slots(Manifests()).values())
    save(path, picture(), False, their_packet("<dc:source>theirs</dc:source>"))
    change = target.change(dict.fromkeys(target.pictures, Captioned("a dog", -3.0)), Policy(), Manifests(), MAKER)
    assert change.write is not None
    put(change.write())
    packet = Packet(Picture(path, MAKER).read())
    assert packet.texts[DESCRIPTION] == "a dog"
    assert b"<dc:source>theirs</dc:source>" in packet.content
