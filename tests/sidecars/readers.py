"""Programs that read what was written, and pictures for them to read."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from captioner.sidecars.manifest import Manifests
from captioner.sidecars.policy import Captioned, Policy
from captioner.sidecars.targets import Maker, Row, Target
from captioner.utils.files import Replacement

MAKER = Maker("tiny@123456789abc", "1.2.3")

THEIRS = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    '<!-- mine --><rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"\n'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/">\n'
    "<dc:subject><rdf:Bag><rdf:li>caf\u00e9</rdf:li></rdf:Bag></dc:subject>{more}</rdf:Description></rdf:RDF></x:xmpmeta>"
    + " \n" * 20
    + '<?xpacket end="w"?>'
)
"""A packet that another program wrote, with padding; ``{more}`` is for further properties."""


def their_packet(more: str = "") -> bytes:
    """The packet with more properties."""
    return THEIRS.replace("{more}", more).encode()


def language_alternatives(name: str, **texts: str) -> str:
    """A property with a text for each language; ``x_default`` is the default."""
    items = "".join(f'<rdf:li xml:lang="{key.replace("_", "-")}">{text}</rdf:li>' for key, text in texts.items())
    return f"<{name}><rdf:Alt>{items}</rdf:Alt></{name}>"


def needs(program: str) -> str:
    """A program; the test is skipped where it is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian: libimage-exiftool-perl, exiv2)")
    return program


def exiftool(*paths: Path) -> list[dict[str, Any]]:
    """All that exiftool reads of each file, by group and name."""
    command = [needs("exiftool"), "-j", "-G1", "-a", "-u", "-struct", "-n", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    facts: list[dict[str, Any]] = json.loads(done.stdout)
    return facts


def exiv2(path: Path) -> dict[str, str]:
    """The XMP that exiv2 reads."""
    done = subprocess.run([needs("exiv2"), "-q", "-px", str(path)], capture_output=True, text=True, timeout=60)
    rows = [line.split(None, 3) for line in done.stdout.splitlines()]
    return {row[0]: row[3] for row in rows if len(row) == 4}


def write(target: Target, text: str = "a dog", confidence: float | None = 0.5, **policy: Any) -> list[Row]:
    """Writes one caption into all slots of a target, as a job does."""
    manifests = Manifests()
    try:
        captions = dict.fromkeys(target.pictures, Captioned(text, -3.0, confidence))
        change = target.change(captions, Policy(**policy), manifests, MAKER)
        if change.entry is not None and change.write is not None:
            manifests.of(target.path.parent).append([change.entry])
            put(change.write())
        return change.rows
    finally:
        manifests.close()


def put(new: Replacement | None) -> None:
    """Lets a file that was written take the place of the old one."""
    if new is not None:
        new.finish()


def undo(target: Target) -> Row | None:
    """Takes back what was written into a target."""
    entry = Manifests().entry(target.form, target.path, target.read())
    return target.undo(entry, False)


def pixels(path: Path) -> Iterator[bytes]:
    """The decoded pixels of each frame."""
    with Image.open(path) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            yield np.asarray(image.convert("RGBA")).tobytes()


def picture(mode: str = "RGB", size: tuple[int, int] = (41, 31)) -> Image.Image:
    """A picture with something on it."""
    noise = Image.effect_noise(size, 60)
    return Image.merge("RGBA", [noise, noise.rotate(90), noise, noise.rotate(180)]).convert(mode)


def save(path: Path, image: Image.Image, with_metadata: bool, xmp: bytes | None = None, **options: Any) -> None:
    """Saves a picture, with EXIF and a colour profile, and with XMP, as its format has them."""
    if with_metadata:
        exif = Image.Exif()
        exif[0x010F], exif[0x0112], exif[0x013B] = "Maker", 6, "J\u00fcrgen"
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        options |= {"exif": exif, "icc_profile": profile, "dpi": (72, 72)}
    if xmp is not None and path.suffix == ".png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=True)
        options["pnginfo"] = info
    elif xmp is not None and path.suffix == ".tif":
        options["tiffinfo"] = {700: xmp}
    elif xmp is not None:
        options["xmp"] = xmp
    buffer = io.BytesIO()
    image.save(buffer, {".jpg": "JPEG", ".tif": "TIFF"}.get(path.suffix, path.suffix[1:].upper()), **options)
    path.write_bytes(buffer.getvalue())
