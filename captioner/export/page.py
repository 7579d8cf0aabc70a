"""A captioner as one HTML file: graphs, words and a program that runs them in a browser, without network."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from captioner import checkpoint
from captioner.checkpoint.file_names import step_file
from captioner.decoding.options import DecodingOptions
from captioner.errors import CaptionerError
from captioner.export.onnx_files import write_onnx
from captioner.runtime.captioner import OnnxCaptioner
from captioner.text.vocabulary import END, NEVER_WRITTEN, PAD, START, Vocabulary
from captioner.utils.files import replacing
from captioner.visualize.html_template import escape, render, to_json
from captioner.visualize.overlay import palette

PACKAGE = "onnxruntime-web"
"""The npm package whose files become part of a page."""

_SCRIPT, _WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
_CAPTIONS = 5

_ESCAPE = ord("=")
_ESCAPED = (0x0000, ord("\r"), ord("<"), _ESCAPE)
"""UTF-16 code units that an HTML parser would change, or that could end a script; surrogates are escaped as well."""


def write_page(path: str | os.PathLike[str], source: str | os.PathLike[str], runtime: str | os.PathLike[str]) -> None:
    """Writes a page that captions photographs in a browser, from disk and offline.

    Args:
        path: The HTML file.
        source: A safetensors checkpoint of this project, of one model or of an ensemble.
        runtime: The folder of the npm package ``onnxruntime-web``.

    Raises:
        CaptionerError: The checkpoint cannot be exported, its tokens are not English words, its models see photographs
            in several ways, the package is not there, or the file cannot be written.
    """
    if checkpoint.read_members(source)[0].tokenizer is not None:
        raise CaptionerError(f"{source}: writes another language, and a page English words; export to ONNX files")
    script, wasm, version = _runtime(Path(runtime))
    with TemporaryDirectory() as folder:
        graphs = Path(folder) / "captioner.onnx"
        write_onnx(graphs, source)
        known = OnnxCaptioner(graphs).description
        parts = {"encoder": graphs.read_bytes(), "step": step_file(graphs).read_bytes()}
    if len(known.transforms) > 1:
        raise CaptionerError(f"{source}: its models see photographs in several ways; a page needs one way")
    options = DecodingOptions()
    facts = {
        "words": known.vocabulary.words,
        "vowels": _words_after_an(known.vocabulary),
        "confidence": None if known.confidence is None else known.confidence.facts(),
        "transform": asdict(known.transforms[0]),
        "grid": known.grid,
        "special": {"pad": PAD, "start": START, "end": END, "never": NEVER_WRITTEN},
        "beam": {
            "size": options.beam_size,
            "captions": _CAPTIONS,
            "maxWords": options.max_words,
            "penalty": options.length_penalty,
            "repeat": options.no_repeat_ngram,
        },
    }
    document = render(
        "page",
        package="captioner.export",
        data=to_json(facts),
        palette=to_text(palette().tobytes()),
        limits=escape(str(known.card.get("limits", ""))),
        licence=escape(f"{PACKAGE} {version}, MIT License, Copyright (c) Microsoft Corporation"),
        runtime=_packed(script),
        wasm=_packed(wasm),
        **{name: _packed(content) for name, content in parts.items()},
    )
    with replacing(path) as temporary:
        temporary.write_bytes(document.encode("utf-16"))


def _words_after_an(vocabulary: Vocabulary) -> list[int] | None:
    """Ids of the words before which "a" is "an"; None for a vocabulary whose articles stay as they are."""
    if "an" not in vocabulary:
        return None
    an = vocabulary.id("an")
    ids = [id_ for id_ in range(len(vocabulary)) if vocabulary.decode([an, id_])[0] == "an"]
    return None if len(ids) == len(vocabulary) else ids


def _packed(content: bytes) -> str:
    return to_text(gzip.compress(content, 9, mtime=0))


def to_text(content: bytes) -> str:
    """Encode bytes as UTF-16 code units, which takes 3 % more space than they have, where base64 takes 33 %.

    The first character is the number of bytes that are appended for an even length. The highest bit of an escaped unit
    is inverted. The byte order mark of the page takes precedence over the encoding that a server declares.
    """
    padding = len(content) % 2
    units = np.frombuffer(content + bytes(padding), "<u2")
    escaped = ((units & 0xF800) == 0xD800) | np.isin(units, _ESCAPED)
    encoded = np.insert(np.where(escaped, units ^ 0x8000, units), np.flatnonzero(escaped), _ESCAPE)
    return str(padding) + encoded.astype("<u2").tobytes().decode("utf-16-le")


def _runtime(folder: Path) -> tuple[bytes, bytes, str]:
    """The script, the WebAssembly and the version of onnxruntime-web."""
    try:
        package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        if package["name"] != PACKAGE:
            raise CaptionerError(f"{folder}: is the package {package['name']}; name the folder of {PACKAGE}")
        script, wasm = ((folder / "dist" / name).read_bytes() for name in (_SCRIPT, _WASM))
        return script, wasm, str(package["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaptionerError(
            f"{folder}: has no {PACKAGE} ({error}); run npm install {PACKAGE}, and name node_modules/{PACKAGE}"
        ) from error
