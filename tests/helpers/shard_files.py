"""Tar shards that tests read."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import webdataset
from PIL import Image

from captioner.data.caption_files import read_records


def write_tar(path: Path, *content: tuple[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in content:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def jpeg(color: str = "red", size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "JPEG")
    return buffer.getvalue()


def write_shards(data: Path, folder: Path, size: int = 10) -> Path:
    """A data set as another library writes it into shards, with each picture's split and id in JSON."""
    records = read_records(data / "captions.jsonl")
    folder.mkdir()
    for first in range(0, len(records), size):
        with webdataset.TarWriter(str(folder / f"{first:06d}.tar")) as writer:
            for number, record in enumerate(records[first : first + size], first):
                facts = {"split": record.split, "image_id": record.image_id}
                sample = {"__key__": f"{number:06d}", "jpg": record.image.read_bytes()}
                writer.write(sample | {"txt": "\n".join(record.captions), "json": facts})
    return folder
