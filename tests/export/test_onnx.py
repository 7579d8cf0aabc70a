"""Exported graphs say what the network says, with the weights that the checkpoint has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import WORDS
from PIL import Image
from safetensors import safe_open

import captioner
from captioner import checkpoint
from captioner.checkpoint.file_names import step_file
from captioner.checkpoint.pretrained import DEFAULT, checkpoint_of
from captioner.cli import main
from captioner.data.transforms import Transform
from captioner.errors import CaptionerError
from captioner.export.onnx_files import write_onnx
from captioner.export.page import write_page
from captioner.models.captioner import CaptionerConfig, CaptionModel
from captioner.models.decoder import DecoderConfig
from captioner.pipeline import Captioner
from captioner.runtime.captioner import OnnxCaptioner
from captioner.runtime.description import METADATA_KEY, checksum
from captioner.text.function_words import FUNCTION_WORDS
from captioner.text.vocabulary import Vocabulary
from captioner.training.calibration import things_of

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
EMBEDDED = Path(checkpoint_of(DEFAULT))

WAYS: list[dict[str, Any]] = [
    {"num_captions": 5},
    {"beam_size": 1},
    {"length_penalty": 0.0, "beam_size": 3},
    {"no_repeat_ngram": 1, "min_words": 7},
    {"bad_endings": FUNCTION_WORDS, "max_words": 6},
    {"diverse_groups": 5, "num_captions": 5},
    {"prompt": "the dog", "num_captions": 3},
]

VARIANTS: list[dict[str, Any]] = [
    {"attention": "none", "cell": "gru", "image_input": "every_step"},
    {"attention": "multiplicative", "concepts": "attend"},
    {"attention": "multi_head", "cell": "peephole", "image_input": "first_word", "layers": 2},
    {"attention": "hard", "cell": "rnn", "image_input": "none"},
    {"attention": "spatial"},
    {"attention": "adaptive", "members": 2, "concepts": "attend", "calibrated": True},
    {"attention": "top_down", "image_input": "every_step", "tied_embedding": True, "hidden_size": 24},
]


def talkative(seed: int = 1, size: int = 64, calibrated: bool = False, **decoder: Any) -> Captioner:
    """A small captioner with random weights, of any kind of decoder."""
    torch.manual_seed(seed)
    if decoder.get("concepts", "none") != "none":
        decoder |= {"concept_size": 8, "concept_words": 9, "concept_classes": 20}
    sizes = {"embedding_size": 16, "hidden_size": 16, "attention_size": 16}
    config = CaptionerConfig(
        encoder_stage="blocks.2",
        decoder=DecoderConfig(**{**sizes, **decoder}),
        transform=Transform(size),
        confidence=calibrated,
    )
    model = CaptionModel(config, len(WORDS))
    for parameter in model.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # so that float32 tells logits to 1e-5
    for each in model.decoder.members:
        if each.concepts is not None:
            each.concepts.word_ids.copy_(torch.arange(9) + 3)
            each.concepts.class_words.copy_(torch.arange(20) % 9)
    if model.confidence is not None:
        model.confidence.things.copy_(things_of(Vocabulary(WORDS)))
        for weights in (model.confidence.photograph, model.confidence.right):
            torch.nn.init.normal_(weights, std=0.1)
    return Captioner(model, Vocabulary(WORDS), {"data": "none"})


def colors(count: int) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 255, (90, 70, 3), dtype=np.uint8)) for _ in range(count)]


def assert_same(ours: OnnxCaptioner, theirs: Captioner, photographs: list[Any], **options: Any) -> None:
    for one, other in zip(ours.caption(photographs, **options), theirs.caption(photographs, **options), strict=True):
        pairs = zip((one, *one.alternatives), (other, *other.alternatives), strict=True)
        for left, right in pairs:
            if left.words != right.words:  # two captions are equally likely, and either may come first
                assert left.log_probability == pytest.approx(right.log_probability, rel=0, abs=1e-5)
                continue
            assert left.word_log_probabilities == pytest.approx(right.word_log_probabilities, rel=1e-5, abs=1e-4)
            assert left.confidence == (right.confidence and pytest.approx(right.confidence, abs=1e-4))
            assert left.region == right.region
            assert (left.attention is None) == (right.attention is None)
            if left.attention is not None and right.attention is not None:
                np.testing.assert_allclose(left.attention, right.attention, atol=1e-3)
            assert left.looking_away == (right.looking_away and pytest.approx(right.looking_away, abs=1e-3))


def assert_exported_alike(files: list[Path], tmp_path: Path) -> OnnxCaptioner:
    """Exports checkpoints, as an ensemble if there are several, and compares them."""
    output = tmp_path / "model.onnx"
    assert main(["export", *map(str, files), *(["--ensemble"] if len(files) > 1 else []), "--output", str(output)]) == 0
    return assert_alike(output, files)


def assert_alike(exported: Path, files: list[Path]) -> OnnxCaptioner:
    """Compares captions and scores of captions."""
    ours, theirs, photographs = OnnxCaptioner(exported), captioner.load(files, backend="torch"), colors(6)
    for way in WAYS:
        assert_same(ours, theirs, photographs, **way)
    texts = ["a dog runs", "the zebra", ""]
    for left, right in zip(ours.score(photographs[0], texts), theirs.score(photographs[0], texts), strict=True):
        assert left.words == right.words
        assert left.word_log_probabilities == pytest.approx(right.word_log_probabilities, rel=1e-5, abs=1e-4)
    return ours


@pytest.mark.slow
@pytest.mark.parametrize("decoder", VARIANTS, ids=str)
def test_every_kind_of_decoder_comes_out_alike(decoder: dict[str, Any], tmp_path: Path) -> None:
    talkative(**decoder).save(tmp_path / "model.safetensors")
    assert_exported_alike([tmp_path / "model.safetensors"], tmp_path)


@pytest.mark.slow
def test_an_ensemble_with_views_of_its_own_comes_out_alike(tmp_path: Path) -> None:
    talkative(1, calibrated=True).save(tmp_path / "one.safetensors")
    talkative(2, size=96, attention="multiplicative", calibrated=True).save(tmp_path / "two.safetensors")
    ours = assert_exported_alike([tmp_path / "one.safetensors", tmp_path / "two.safetensors"], tmp_path)
    assert not ours.shows_attention
    assert not ours.tells_confidence


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of int8 and float16, and graphs that hold its weights."""
    folder = tmp_path_factory.mktemp("kept")
    talkative(concepts="copy", calibrated=True).save(folder / "model.safetensors", dtype=torch.int8)
    assert main(["export", str(folder / "model.safetensors"), "--output", str(folder / "model.onnx")]) == 0
    return folder


def test_copied_words_come_out_alike(kept: Path) -> None:
    ours = assert_alike(kept / "model.onnx", [kept / "model.safetensors"])
    assert ours.vocabulary.words == WORDS
    assert ours.card == {"data": "none"}


def test_confidences_come_out_alike_and_differ_by_caption(kept: Path) -> None:
    ours, theirs = OnnxCaptioner(kept / "model.onnx"), captioner.load(kept / "model.safetensors", backend="torch")
    assert ours.tells_confidence
    found, expected = (
        [each.confidence for first in model.caption(colors(6), num_captions=3) for each in (first, *first.alternatives)]
        for model in (ours, theirs)
    )
    assert found == pytest.approx(expected, abs=1e-4)
    assert len({round(confidence or 0, 4) for confidence in found}) > 6


def test_weights_stay_in_the_types_of_the_checkpoint_to_the_bit(kept: Path) -> None:
    graphs = [onnx.load(kept / name) for name in ("model.onnx", "model.step.onnx")]
    found = {tensor.name: tensor for graph in graphs for tensor in graph.graph.initializer}
    compared = set()
    with safe_open(kept / "model.safetensors", framework="np") as file:
        for name in file.keys():  # noqa: SIM118 (no dict)
            tensor = found.get(f"{name}:kept", found.get(name))
            if tensor is None:
                assert name.endswith(("num_batches_tracked", "confidence.things", "confidence.networks"))
                continue
            expected = file.get_tensor(name)
            assert onnx.numpy_helper.to_array(tensor).tobytes() == expected.tobytes()
            compared.add(str(expected.dtype))
    assert compared == {"int8", "float16", "float32", "int64"}
    # In float32 they would take nearly twice as much.
    assert sum(path.stat().st_size for path in kept.glob("*.onnx")) < 1.3 * (kept / "model.safetensors").stat().st_size


def test_the_embedded_graphs_are_of_the_embedded_checkpoint() -> None:
    """After it was replaced: captioner export --external-weights, as docs/anywhere.md says."""
    graphs = EMBEDDED.with_suffix(".onnx")
    for file in (graphs, step_file(graphs)):
        model = onnx.load(file, load_external_data=False)
        metadata = json.loads({each.key: each.value for each in model.metadata_props}[METADATA_KEY])
        assert metadata["checkpoint"] == checksum(EMBEDDED)
        assert metadata["weights"] == EMBEDDED.name
        onnx.checker.check_model(str(file), full_check=True)
        assert file.stat().st_size < 400_000


def test_the_embedded_model_captions_alike() -> None:
    photographs = sorted(SAMPLES.glob("*.jpg"))
    ours = captioner.load(backend="onnx")
    assert isinstance(ours, OnnxCaptioner)
    for way in ({}, {"num_captions": 4, "no_repeat_ngram": 2}, {"required_words": ("dog",), "beam_size": 2}):
        assert_same(ours, captioner.load(), photographs, **way)


def test_graphs_that_lost_their_weights_their_step_or_their_name_are_told(kept: Path, tmp_path: Path) -> None:
    embedded = [EMBEDDED, EMBEDDED.with_suffix(".onnx"), step_file(EMBEDDED.with_suffix(".onnx"))]
    for file in embedded:
        shutil.copy(file, tmp_path)
    weights, graph, step = (tmp_path / file.name for file in embedded)
    with weights.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"\x7f")
    with pytest.raises(CaptionerError, match=r"was made of another captioner\.safetensors.*export it again"):
        OnnxCaptioner(graph)
    weights.unlink()
    with pytest.raises(CaptionerError, match=r"captioner\.onnx: is no ONNX file that can be run here"):
        OnnxCaptioner(graph)
    shutil.copy(EMBEDDED, tmp_path)
    shutil.copy(kept / "model.step.onnx", step)
    with pytest.raises(CaptionerError, match="are of different models; export them together"):
        OnnxCaptioner(graph)
    step.unlink()
    with pytest.raises(CaptionerError, match=r"captioner\.step\.onnx: no such file"):
        OnnxCaptioner(graph)
    shutil.copy(graph, step)
    bare = onnx.load(graph, load_external_data=False)
    del bare.metadata_props[:]
    onnx.save(bare, graph)
    with pytest.raises(CaptionerError, match="was not written by captioner"):
        OnnxCaptioner(graph)
    graph.write_bytes(b"no graph")
    with pytest.raises(CaptionerError, match="is no ONNX file that can be run here"):
        OnnxCaptioner(graph)


def test_an_operator_that_is_missing_is_told_in_a_line(kept: Path, tmp_path: Path) -> None:
    shutil.copy(kept / "model.onnx", tmp_path)
    step = onnx.load(kept / "model.step.onnx")
    step.graph.node[0].op_type = "Unheard"
    onnx.save(step, tmp_path / "model.step.onnx")
    with pytest.raises(
        CaptionerError, match=r"model\.step\.onnx: is no ONNX file that can be run here: .*Unheard"
    ) as told:
        OnnxCaptioner(tmp_path / "model.onnx")
    assert "\n" not in str(told.value)


def test_external_weights_need_the_checkpoint_beside_them(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match="is not in its folder"):
        write_onnx(tmp_path / "model.onnx", checkpoint, external=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--output", "m.safetensors", "--external-weights"], "--external-weights is for a .onnx file"),
        (["--output", "m.onnx", "--external-weights", "--dtype", "int8"], "one .safetensors file as it is"),
    ],
)
def test_options_that_do_not_fit_are_told(given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", *given]) == 2
    assert message in capsys.readouterr().err


def test_an_onnx_model_is_used_like_a_checkpoint(
    kept: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(kept / "model.onnx")
    assert main(["caption", str(photos), "--model", model]) == 0
    printed = capsys.readouterr().out
    assert main(["caption", str(photos), "--model", str(kept / "model.safetensors")]) == 0
    assert capsys.readouterr().out == printed
    for way in (["--min-confidence", "0.5", "--json"], ["--num-captions", "2"]):
        results = []
        for each in (model, str(kept / "model.safetensors")):
            assert main(["caption", str(photos), "--model", each, *way]) == 0
            results.append(capsys.readouterr())
        assert [entry for entry in results[0].out.split() if "." not in entry] == [
            entry for entry in results[1].out.split() if "." not in entry
        ]
        assert results[0].err == results[1].err
    assert main(["write", str(photos), "--as", "txt", "--model", model]) == 0
    expected = captioner.load(kept / "model.safetensors").caption(photos / "1.png").text
    assert (photos / "1.txt").read_text().strip() == expected
    capsys.readouterr()
    assert main(["info", "--model", model, "--json"]) == 0
    ours = json.loads(capsys.readouterr().out)
    assert main(["info", "--model", str(kept / "model.safetensors"), "--json"]) == 0
    theirs = json.loads(capsys.readouterr().out)
    assert {k: v for k, v in ours.items() if k not in ("file", "size")} == {
        k: v for k, v in theirs.items() if k not in ("file", "size")
    }
    for args, message in (
        (["--model", model, "--model", model], "onnxruntime opens one file at a time"),
        (["--model", model, "--backend", "torch"], "torch opens no ONNX file"),
        (["--model", model, "--device", "cuda"], "'cuda' needs torch and a checkpoint"),
        (["--model", model, "--precision", "bfloat16"], "computes in float32"),
        (["--model", str(kept / "model.safetensors"), "--backend", "onnx"], "is no .onnx file"),
        (["--model", str(tmp_path / "none.onnx")], "no such file"),
    ):
        assert main(["caption", str(photos), *args]) == 2
        assert message in capsys.readouterr().err
    picture = ["visualize", str(photos / "0.png"), "--model", model, "--output", str(tmp_path / "map.png")]
    assert main(picture) == 0
    assert main([*picture, "--saliency", "gradient"]) == 2
    assert "gradients need" in capsys.readouterr().err


def test_a_language_model_has_no_graphs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from captioner.models.language_model import LanguageConfig, LanguageModel

    config = LanguageConfig(DecoderConfig(attention="none", image_input="none", embedding_size=8, hidden_size=8))
    content = checkpoint.Checkpoint(config, WORDS, LanguageModel(config, len(WORDS)).state_dict(), {})
    checkpoint.write(tmp_path / "language.safetensors", content)
    assert main(["export", str(tmp_path / "language.safetensors"), "--output", str(tmp_path / "model.onnx")]) == 2
    assert "is of a language model, which sees no pictures" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx"))


def test_a_page_without_its_runtime_is_told(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = ["export", "--output", str(tmp_path / "page.html"), "--onnxruntime-web", str(tmp_path / "none")]
    assert main(page) == 2
    assert "has no onnxruntime-web" in capsys.readouterr().err
    other = tmp_path / "other"
    (other / "dist").mkdir(parents=True)
    (other / "package.json").write_text('{"name": "left-pad", "version": "1"}')
    with pytest.raises(CaptionerError, match="is the package left-pad"):
        write_page(tmp_path / "page.html", kept / "model.safetensors", other)
    assert not (tmp_path / "page.html").exists()


WITHOUT_TORCH = """
import sys
from captioner.cli import main
from captioner.errors import TRAIN_PACKAGES
sys.modules.update(dict.fromkeys(TRAIN_PACKAGES))  # None: there is no such module
for command in COMMANDS:
    print("code", main(command))
"""
"""A process in which the packages of the extra train cannot be imported, as where they were not installed."""


def without_torch(*commands: list[str]) -> tuple[str, str]:
    program = WITHOUT_TORCH.replace("COMMANDS", repr(list(commands)))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


def test_captions_maps_and_facts_need_no_torch(tmp_path: Path) -> None:
    photo, page = str(SAMPLES / "rocket.jpg"), str(tmp_path / "page.html")
    shutil.copy(photo, tmp_path)
    data = tmp_path / "captions.jsonl"
    data.write_text('{"image": "rocket.jpg", "captions": ["a rocket starts"], "split": "test"}\n')
    said, told = without_torch(
        ["caption", photo, "--json"],
        ["visualize", photo, "--output", page],
        ["info"],
        ["caption", photo, "--sample"],
        ["evaluate", "--data", str(data), "--split", "test", "--json"],
        ["write", str(tmp_path), "--as", "txt"],
    )
    assert said.count("code 0") == 6, said + told
    expected = captioner.load().caption(photo)
    assert json.loads(said.splitlines()[0])["caption"] == expected.text
    assert expected.text in Path(page).read_text()
    assert (tmp_path / "rocket.txt").read_text().strip() == expected.text


def test_what_needs_torch_says_how_to_get_it_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    photo = str(SAMPLES / "rocket.jpg")
    commands = [
        ["caption", photo, "--model", str(checkpoint)],
        ["caption", photo, "--device", "cuda"],
        ["caption", photo, "--backend", "torch"],
        ["visualize", photo, "--saliency", "gradient", "--output", str(tmp_path / "x.png")],
        ["train", "--config", "x.yaml"],
        ["export", "--output", str(tmp_path / "x.onnx")],
        ["info", "--model", str(checkpoint)],
    ]
    said, told = without_torch(*commands)
    assert said.split() == ["code", "2"] * len(commands)
    assert len(told.splitlines()) == len(commands)
    assert all("pip install 'captioner[train]'" in line for line in told.splitlines())
