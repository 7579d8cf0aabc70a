"""XMP sidecars, beside those of other programs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from readers import MAKER, exiftool, exiv2, language_alternatives, needs, picture, save, their_packet, undo, write

from captioner.sidecars.targets import Target
from captioner.sidecars.xmp import DESCRIPTION, IMAGE_DESCRIPTION, Packet
from captioner.sidecars.xmp_files import NAMES, target

LONG, SHORT = NAMES


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    save(path, picture(), False)
    return path


def sidecar(photo: Path, name: str = LONG) -> Target:
    return target(photo, name, MAKER)


def test_exiftool_and_exiv2_read_it(photo: Path) -> None:
    write(sidecar(photo), 'a "dog" & a cat')
    path = photo.with_name("photo.jpg.xmp")
    [facts] = exiftool(path)
    assert facts["XMP-dc:Description"] == facts["XMP-tiff:ImageDescription"] == 'a "dog" & a cat'
    assert (facts["XMP-captioner:Model"], facts["XMP-captioner:Version"]) == (MAKER.model, MAKER.version)
    read = exiv2(path)
    assert read["Xmp.dc.description"] == read["Xmp.tiff.ImageDescription"] == 'lang="x-default" a "dog" & a cat'


@pytest.mark.parametrize(("name", "file"), [(LONG, "photo.jpg.xmp"), (SHORT, "photo.xmp")])
def test_it_is_named_as_asked_and_goes_again(photo: Path, name: str, file: str) -> None:
    write(sidecar(photo, name))
    assert sorted(path.name for path in photo.parent.glob("*.xmp")) == [file]
    undo(sidecar(photo, name))
    assert not list(photo.parent.glob("*.xmp"))


@pytest.mark.parametrize("field", ["dc:description", "tiff:ImageDescription"])
@pytest.mark.parametrize("file", ["photo.jpg.xmp", "photo.xmp"])
def test_a_persons_description_in_either_field_of_either_file_is_kept(photo: Path, field: str, file: str) -> None:
    path = photo.with_name(file)
    content = their_packet(language_alternatives(field, x_default="our Rex")).replace(
        b'xmlns:dc="', b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:dc="'
    )
    path.write_bytes(content)
    assert [row.action for row in write(sidecar(photo))] == ["keep", "keep"]
    assert path.read_bytes() == content
    write(sidecar(photo), mode="append")
    new = Packet(photo.with_name("photo.jpg.xmp").read_bytes())
    assert new.texts == {DESCRIPTION: "our Rex, a dog", IMAGE_DESCRIPTION: "our Rex, a dog"}
    undo(sidecar(photo))
    assert path.read_bytes() == content


def test_a_persons_description_in_the_picture_is_kept(photo: Path) -> None:
    options = ["-q", "-overwrite_original", "-IPTC:Caption-Abstract=our Rex"]
    subprocess.run([needs("exiftool"), *options, str(photo)], check=True, timeout=60)
    assert [row.action for row in write(sidecar(photo))] == ["keep", "keep"]
    assert not photo.with_name("photo.jpg.xmp").exists()


def test_what_others_keep_in_a_sidecar_stays(photo: Path) -> None:
    path = photo.with_name("photo.jpg.xmp")
    path.write_bytes(their_packet())
    path.chmod(0o640)
    modified = path.stat().st_mtime_ns
    write(sidecar(photo))
    before, after = their_packet().split(b"</rdf:RDF>")
    assert path.read_bytes().startswith(before)
    assert path.read_bytes().endswith(after)
    assert path.stat().st_mode & 0o777 == 0o640
    undo(sidecar(photo))
    assert path.read_bytes() == their_packet()
    assert path.stat().st_mtime_ns == modified


def test_after_another_program_wrote_too_only_ours_goes(photo: Path) -> None:
    path = photo.with_name("photo.jpg.xmp")
    write(sidecar(photo))
    options = ["-q", "-overwrite_original", "-XMP-dc:Title=Pond", "-XMP-xmp:Rating=3"]
    subprocess.run([needs("exiftool"), *options, str(path)], check=True, timeout=60)
    assert {row.action for row in write(sidecar(photo), "a cat")} == {"replace"}
    undo(sidecar(photo))
    undo(sidecar(photo))
    [facts] = exiftool(path)
    assert (facts["XMP-dc:Title"], facts["XMP-xmp:Rating"]) == ("Pond", 3)
    assert not [name for name in facts if "escription" in name or "captioner" in name]
