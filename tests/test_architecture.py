"""Rooms of the package: imports run one way, Lightning and torch stay where they are needed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "captioner"

LAYERS = (
    {"errors", "utils", "text"},
    {"data", "caption"},
    {"models"},
    {"metrics"},
    {"decoding", "checkpoint"},
    {"whole_words"},
    {"captioning"},
    {"pipeline"},
    {"runtime"},
    {"sidecars"},
    {"visualize"},
    {"export", "serve", "ray"},
    {"training"},
    {"cli"},
    {"__main__"},
)
"""A room imports from its own layer and from those above it in this list."""

LOWEST = ("errors", "utils", "text")
"""Of the first layer, each may import those before it."""

PARTS_OF_WORDS = {
    "captioner.text.vocabulary": {"PAD", "START", "END", "UNKNOWN", "NEVER_WRITTEN", "SPECIAL_WORDS", "Unit"},
}
"""What models and decoding may know of text: the special tokens, and whether a language model's unit is the word."""

WITHOUT_TORCH = (
    "text",
    "utils",
    "metrics",
    "caption",
    "errors",
    "captioning",
    "whole_words",
    "runtime",
    "sidecars",
    "serve",
    "ray",
    "cli",
)
READERS = (
    "caption_files",
    "folders",
    "filters",
    "formats",
    "json_fields",
    "paths",
    "records",
    "shards",
    "skip_report",
    "text_files",
)
"""Modules of ``data`` that read caption files; a caption can be scored where torch is not installed."""

PAGES = ("gallery", "html_template", "notebook", "overlay", "page")
"""Modules of ``visualize`` that draw without matplotlib, too."""

UPWARD = {("captioner.caption", "captioner.visualize.notebook")}
"""The one import against the order, made when it is needed: a notebook asks a caption itself to be drawn."""

MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(module: str) -> set[tuple[str, str]]:
    """What a module imports, anywhere in it: the module's name and the name taken from it, empty for a whole module."""
    found: set[tuple[str, str]] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add((name, "") if name in MODULES else (str(node.module), alias.name))
    return found


def room(module: str) -> str:
    """The first part below the package; of the package itself its own name."""
    return [*module.split("."), "captioner"][1]


def layer(name: str) -> int:
    """The number of a room's layer."""
    [number] = [number for number, rooms in enumerate(LAYERS) if name in rooms]
    return number


INNER = sorted(name for name in MODULES if name != "captioner")


def test_every_room_has_a_layer() -> None:
    assert {room(module) for module in INNER} == set().union(*LAYERS)


@pytest.mark.parametrize("module", INNER)
def test_imports_run_one_way(module: str) -> None:
    own = room(module)
    inner = {name for name, _ in imports(module) if name.startswith("captioner.") and (module, name) not in UPWARD}
    others = {room(name) for name in inner} - {own}
    assert [name for name in sorted(others) if layer(name) > layer(own)] == []
    if own in LOWEST:
        assert others <= set(LOWEST[: LOWEST.index(own)])


def test_rooms_of_one_layer_make_no_circle() -> None:
    found = {(module, name) for module in INNER for name, _ in imports(module) if name in MODULES} - UPWARD
    arrows = {(room(module), room(name)) for module, name in found}
    assert {(one, other) for one, other in arrows if one != other and (other, one) in arrows} == set()


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) != "training"])
def test_training_alone_imports_lightning(module: str) -> None:
    assert [name for name, _ in imports(module) if name.split(".")[0] in ("lightning", "jsonargparse")] == []


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) in ("models", "decoding")])
def test_models_and_decoding_know_the_special_ids_of_words_alone(module: str) -> None:
    known = {(source, name) for source, name in imports(module) if room(source) == "text"}
    assert {(source, name) for source, name in known if name not in PARTS_OF_WORDS.get(source, set())} == set()


def test_what_captions_reads_and_scores_loads_no_torch() -> None:
    light = [name for name in MODULES if room(name) in WITHOUT_TORCH]
    light += [f"captioner.data.{name}" for name in READERS]
    light += [f"captioner.visualize.{name}" for name in PAGES]
    program = (
        f"import importlib, sys\nfor name in {light}: importlib.import_module(name)\n"
        "print({'torch', 'matplotlib', 'safetensors', 'onnx'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"


COMMAND_LINE = ("captioner.training.run", "captioner.training.run_arguments", "captioner.training.option_errors")
"""Modules of ``training`` that read its command line, and may name its options in errors."""


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) != "cli" and name not in COMMAND_LINE])
def test_errors_of_the_library_name_no_options_of_the_command_line(module: str) -> None:
    raised = [
        constant.value
        for call in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id.endswith("Error")
        for constant in ast.walk(call)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    ]
    assert [text for text in raised if re.search(r"(?<![\w-])--[a-z]", text) and "pip install" not in text] == []


def test_the_helpers_package_imports_nothing() -> None:
    # One of its modules sets how OpenMP waits, which has to come before torch is loaded.
    assert imports("captioner.utils") == set()
