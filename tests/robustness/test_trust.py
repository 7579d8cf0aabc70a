"""Files that a stranger made to harm: each is refused in one line, and nothing in it runs."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from captioner import checkpoint as checkpoints
from captioner.cli import main
from captioner.data.caption_files import read_records
from captioner.data.feature_cache import FeatureCache
from captioner.errors import CaptionerError
from captioner.pipeline import Captioner, load


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.file),))


def header_of(tiny: Captioner) -> dict[str, Any]:
    content = checkpoints.Checkpoint(tiny.model.config, tiny.vocabulary.words, {}, {})
    header: dict[str, Any] = json.loads(content.header())
    return header


def weights_of(tiny: Captioner, prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: value.contiguous() for name, value in tiny.model.state_dict().items()}


def refusal(path: Path) -> str:
    with pytest.raises(CaptionerError) as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)  # of an ensemble's members, which
    return str(caught.value)


def pickled(trap: Trap, path: Path) -> None:
    path.write_bytes(pickle.dumps(trap))


def torch_saved(trap: Trap, path: Path) -> None:
    torch.save({"state_dict": {"model.a": trap}, "captioner": "{}"}, path)


def torch_saved_in_the_old_way(trap: Trap, path: Path) -> None:
    torch.save(trap, path, _use_new_zipfile_serialization=False)


def zipped(trap: Trap, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("archive/data.pkl", "archive/constants.pkl", "../../../evil", "/evil"):
            archive.writestr(name, pickle.dumps(trap))
        archive.writestr("archive/version", "3\n")


def trap_beside_a_tensor(trap: Trap, path: Path) -> None:
    torch.save([torch.zeros(2), trap], path)


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors"])
@pytest.mark.parametrize(
    "write", [pickled, torch_saved, torch_saved_in_the_old_way, zipped, trap_beside_a_tensor], ids=lambda f: f.__name__
)
def test_no_verb_unpickles(
    write: Callable[[Trap, Path], None], suffix: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sprung, model = tmp_path / "sprung", tmp_path / f"evil{suffix}"
    write(Trap(sprung), model)
    for command in (
        ["caption", str(photos), "--model", str(model)],
        ["info", "--model", str(model)],
        ["export", str(model), "--output", str(tmp_path / "out.safetensors")],
    ):
        assert main(command) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not sprung.exists()
    assert not (tmp_path / "out.safetensors").exists()


def safetensors_file(header: bytes, values: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + values


def entry(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HOSTILE_SAFETENSORS = {
    "nothing": b"",
    "endless header": safetensors_file(b"{}", length=2**63),
    "header beyond the file": safetensors_file(b"{}", length=3),
    "no JSON": safetensors_file(b"\x80\x04\x95"),
    "a list": safetensors_file(b"[]"),
    "deep": safetensors_file(b'{"a":' + b"[" * 100_000),
    "metadata of numbers": safetensors_file(b'{"__metadata__":{"captioner":3}}'),
    **{
        name: safetensors_file(json.dumps({"a": wrong}).encode(), bytes(4))
        for name, wrong in {
            "unknown type": entry("PICKLE"),
            "negative shape": entry(shape=[-1]),
            "overflowing shape": entry(shape=[2**62, 2**62]),
            "shape beyond the values": entry(shape=[10**9]),
            "values beyond the file": entry(shape=[2], offsets=[0, 8]),
            "values before the file": entry(offsets=[-4, 0]),
            "values backwards": entry(offsets=[4, 0]),
            "text for a shape": entry(shape="1"),
            "nothing for a shape": entry(shape=None),
            "odd type": entry("F4", [8]),
        }.items()
    },
    "overlapping values": safetensors_file(json.dumps({"a": entry(), "b": entry()}).encode(), bytes(4)),
}


@pytest.mark.parametrize("content", HOSTILE_SAFETENSORS.values(), ids=HOSTILE_SAFETENSORS.keys())
def test_hostile_safetensors_headers_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "evil.safetensors").write_bytes(content)
    assert refusal(tmp_path / "evil.safetensors").startswith(f"checkpoint {tmp_path}/evil.safetensors: ")


WRONG: tuple[Any, ...] = (
    None,
    True,
    "16",
    1.5,
    -1,
    0,
    10**9,
    10**30,
    2**62,
    float("nan"),
    float("inf"),
    [],
    [16],
    {},
    "",
    "\x1b[31m",
)


@pytest.mark.parametrize("part", ["", "decoder", "transform"])
def test_wrong_fields_of_the_configuration_are_refused(tiny: Captioner, tmp_path: Path, part: str) -> None:
    path = tmp_path / "evil.safetensors"
    original = header_of(tiny)["config"]
    for name in original[part] if part else original:
        for wrong in WRONG:
            header = header_of(tiny)
            config = header["config"]
            (config[part] if part else config)[name] = wrong
            save_file({"a": torch.zeros(1)}, path, {checkpoints.METADATA_KEY: json.dumps(header)})
            refusal(path)


@pytest.mark.parametrize("name", ["config", "words", "card", "format"])
def test_wrong_parts_of_the_header_are_refused(tiny: Captioner, tmp_path: Path, name: str) -> None:
    others: tuple[Any, ...] = (None, 7, "text", [[]], [["a"]], {"a": 1}, [None], True)
    for wrong in others:
        if (name, wrong) == ("card", {"a": 1}) or (name, wrong) == ("format", True):
            continue
        header = header_of(tiny) | {name: wrong}
        save_file(weights_of(tiny), tmp_path / "evil", {checkpoints.METADATA_KEY: json.dumps(header)})
        refusal(tmp_path / "evil")


def test_absurd_layers_do_not_take_for_ever(tiny: Captioner, tmp_path: Path) -> None:
    header = header_of(tiny)
    header["config"]["decoder"]["layers"] = 10_000_000
    save_file(weights_of(tiny), tmp_path / "evil", {checkpoints.METADATA_KEY: json.dumps(header)})
    assert "has no weights for 10000000 layers" in refusal(tmp_path / "evil")


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(15, dtype=torch.int64),
        torch.zeros(15, dtype=torch.complex64),
        torch.zeros(1).expand(15),
        torch.zeros(15).to_sparse(),
        torch.zeros(16),
        "text",
    ],
    ids=["int", "complex", "repeated", "sparse", "shape", "text"],
)
def test_weights_that_are_none_are_refused(tiny: Captioner, tmp_path: Path, wrong: object) -> None:
    state: dict[str, object] = {**weights_of(tiny, "model."), "model.decoder.output_bias": wrong}
    torch.save({"state_dict": state, "captioner": json.dumps(header_of(tiny))}, tmp_path / "evil.ckpt")
    refusal(tmp_path / "evil.ckpt")


def test_a_zip_bomb_is_not_opened(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
    assert "would grow to 10,000,000 bytes; it was not opened" in refusal(tmp_path / "bomb.ckpt")


def test_a_hostile_feature_cache_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    for wrong in (entry(shape=[2**62] * 4), entry(shape="abcd"), entry(shape=[1, 1, 1, -1]), entry(offsets=None), None):
        path.write_bytes(
            safetensors_file(json.dumps({"__metadata__": {"origin": "o"}, "features": wrong}).encode(), bytes(4))
        )
        with pytest.raises(
            CaptionerError, match="is damaged or no feature cache; name another file, or delete it if it is one"
        ):
            FeatureCache(path, "o")


def test_yaml_makes_no_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sprung = tmp_path / "sprung"
    for evil in (
        f"!!python/object/apply:os.mkdir ['{sprung}']",
        f"seed_everything: !!python/object/apply:os.mkdir ['{sprung}']",
        f"trainer:\n  callbacks:\n  - class_path: os.mkdir\n    init_args:\n      path: {sprung}",
        "a: &a [x]\nb: &b [*a, *a]\n" * 3 + "model: *b",
    ):
        (tmp_path / "evil.yaml").write_text(evil)
        assert main(["train", "--config", str(tmp_path / "evil.yaml")]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert not sprung.exists()


ESCAPE = "\x1b]0;owned\x07\x9b31m\r\u202e\n"
"""Sets the title, colours the text, goes back to the line's start, turns the writing direction."""


def is_tame(text: str) -> bool:
    return all(character.isprintable() or character in "\n\t" for character in text)


def test_nothing_printed_steers_the_terminal(
    tiny: Captioner, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = header_of(tiny)
    header["words"] = [f"{word}{ESCAPE}" if place >= 4 else word for place, word in enumerate(header["words"])]
    header["card"] = {f"licence{ESCAPE}": f"free{ESCAPE}", "list": [ESCAPE]}
    model = tmp_path / "model.safetensors"
    save_file(weights_of(tiny), model, {checkpoints.METADATA_KEY: json.dumps(header)})
    photo = photos / f"a{ESCAPE}.png"
    (photos / "0.png").rename(photo)
    (photos / f"bad{ESCAPE}.png").touch()
    for command, code in (
        (["caption", str(photos), "--model", str(model)], 1),
        (["caption", str(photos), "--model", str(model), "--json"], 1),
        (["info", "--model", str(model)], 0),
        (["info", "--model", str(model), "--json"], 0),
        (["info", "--model", ESCAPE], 2),
        (["export", str(model), "--output", str(tmp_path / ESCAPE)], 0),
        (["evaluate", "--data", ESCAPE], 2),
        (["score", "--references", ESCAPE, "--candidates", ESCAPE], 2),
        (["train", "--config", ESCAPE], 2),
        (["train", f"--model.{ESCAPE}", "1"], 2),
        (["visualize", str(photo), "--output", str(tmp_path / ESCAPE)], 2),
    ):
        assert main(command) == code, command
        printed = capsys.readouterr()
        assert is_tame(printed.out), command
        assert is_tame(printed.err), command
        assert code != 2 or len(printed.err.splitlines()) == 1, command
    for arguments in (["caption", "x", f"--{ESCAPE}"], [ESCAPE]):
        assert main(arguments) == 2
        assert is_tame(capsys.readouterr().err), arguments


def jsonl(folder: Path, image: str) -> Path:
    file = folder / "captions.jsonl"
    file.write_text(json.dumps({"image": image, "captions": ["a dog"], "split": "test"}) + "\n")
    return file


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture beside the folder, and three links to it within the folder."""
    (tmp_path / "data" / "sub").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (tmp_path / "data" / "link.png").symlink_to("../secret.png")
    (tmp_path / "data" / "chain.png").symlink_to("link.png")
    (tmp_path / "data" / "out").symlink_to("..")
    Image.new("RGB", (8, 8)).save(tmp_path / "data" / "sub" / "good.png")
    (tmp_path / "data" / "inner.png").symlink_to("sub/good.png")
    return tmp_path / "secret.png"


ESCAPES = ["../secret.png", "sub/../../secret.png", "ABSOLUTE", "link.png", "chain.png", "out/secret.png"]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("given", [True, False])
def test_a_caption_file_leads_nowhere_else_unless_allowed(secret: Path, path: str, given: bool) -> None:
    folder = secret.parent / "data"
    file = jsonl(folder, path.replace("ABSOLUTE", str(secret)))
    images = folder if given else None
    with pytest.raises(CaptionerError, match="is not within|not within|is absolute"):
        read_records(file, images)
    [record] = read_records(file, images, anywhere=True)
    assert record.image.resolve() == secret


@pytest.mark.parametrize("path", ["sub/good.png", "inner.png", "sub/../sub/good.png", "ABSOLUTE"])
def test_what_stays_in_the_folder_is_read(secret: Path, path: str) -> None:
    folder = secret.parent / "data"
    good = folder / "sub" / "good.png"
    [record] = read_records(jsonl(folder, path.replace("ABSOLUTE", str(good))))
    assert record.image.resolve() == good


@pytest.mark.parametrize("path", ESCAPES)
def test_a_box_file_leads_nowhere_else_unless_allowed(
    secret: Path, path: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = secret.parent / "data" / "boxes.json"
    image = {"id": 1, "file_name": path.replace("ABSOLUTE", str(secret)), "width": 8, "height": 8}
    boxes.write_text(json.dumps({"images": [image], "categories": [], "annotations": []}))
    command = ["evaluate", "--model", str(checkpoint), "--grounding", str(boxes)]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "not within" in told
    assert told.endswith("write one that is, or set --images-anywhere\n")
    assert main([*command, "--images-anywhere"]) == 0
