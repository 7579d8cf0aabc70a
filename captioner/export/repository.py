"""A model as a repository on the Hugging Face Hub: its files, its card with metadata, and their upload."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from captioner import __version__, checkpoint
from captioner.checkpoint.file_names import ONNX, SAFETENSORS
from captioner.checkpoint.hub import MODEL, refuse_name, telling
from captioner.checkpoint.load import files_of
from captioner.checkpoint.pretrained import checkpoint_of
from captioner.errors import CaptionerError, needs_packages
from captioner.export.card import model_card
from captioner.models.captioner import CaptionerConfig
from captioner.utils.files import replacing

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

CARD = "README.md"
LICENSES = frozenset(
    {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "mpl-2.0", "unlicense", "cc0-1.0"}
    | {"cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0"}
)
"""Names that the Hub knows licenses by; a card that has another text gets the license ``other``."""

SCORES = {"test scores": "test", "validation scores": "validation"}
"""Entries of a card that hold scores, and the split that they are of."""


def push(source: str, name: str, private: bool = False) -> str:
    """Upload a model to the Hub, in one commit; what is not there yet is created.

    Args:
        source: A checkpoint, as `captioner.load` takes it, or the folder of a training run.
        name: The repository, ``owner/name``.
        private: Whether a repository that is created is private.

    Returns:
        The repository's address.

    Raises:
        CaptionerError: The checkpoint cannot be read, the name is malformed, or the Hub cannot be reached or refuses.
    """
    with TemporaryDirectory() as folder, needs_packages("an upload to the Hub"):
        write_repository(Path(folder), source, name)
        with telling(name):
            from huggingface_hub import HfApi

            api = HfApi(library_name="captioner", library_version=__version__)
            # None, not False, leaves it to the organization's settings.
            address = api.create_repo(name, private=private or None, exist_ok=True)
            message = f"Upload a model of captioner {__version__}"
            api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
            return str(address)


def write_repository(folder: Path, source: str, name: str) -> None:
    """Write the files of a repository: the checkpoint, the graphs of a captioner, and the card.

    Args:
        folder: Where to write; missing or empty.
        source: A checkpoint, as `captioner.load` takes it, or the folder of a training run.
        name: The repository, ``owner/name``.

    Raises:
        CaptionerError: The checkpoint cannot be read, the name is malformed, or the folder has files or cannot be
            written to.
    """
    with needs_packages("a repository for the Hub"):
        refuse_name(name)
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise CaptionerError(f"{folder}: is there, and not empty; name a new folder")
        original = _checkpoint_in(Path(checkpoint_of(source)))
        members = checkpoint.read_members(original)
        for member in members:
            member.verify()
        model = folder / f"{MODEL}{SAFETENSORS}"
        if original.suffix == SAFETENSORS and len(files_of(original)) == 1:
            with replacing(model) as temporary:
                shutil.copyfile(original, temporary)
        else:
            checkpoint.write(model, *members)
        sees = isinstance(members[0].config, CaptionerConfig)
        if sees:
            from captioner.export.onnx_files import write_onnx

            write_onnx(model.with_suffix(ONNX), model)
        metadata = _metadata(members[0].card, name, sees)
        with replacing(folder / CARD) as temporary:
            temporary.write_text(_card(model, metadata, name, sees), encoding="utf-8")


def _checkpoint_in(path: Path) -> Path:
    """The file itself; of a folder, such as a training run's, its one checkpoint."""
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"*{SAFETENSORS}"))
    if len(found) != 1:
        raise CaptionerError(f"{path}: has {len(found)} {SAFETENSORS} files; name the checkpoint that is meant")
    return found[0]


def _card(model: Path, metadata: ModelCardData, name: str, sees: bool) -> str:
    """The card, with metadata in YAML before it and the use after it."""
    use = [
        "## How to use it",
        "",
        "```sh",
        f"captioner {'caption photo.jpg' if sees else 'sample'} --model hf://{name}",
        "```",
    ]
    if sees:
        load = f'model = captioner.load("hf://{name}")'
        use += ["", "```python", "import captioner", "", load, 'print(model.caption("photo.jpg").text)', "```"]
    return "\n".join(["---", metadata.to_yaml(), "---", "", model_card(model, [f"# {name}"]), *use, ""])


def _metadata(card: Mapping[str, Any], name: str, sees: bool) -> ModelCardData:
    from huggingface_hub import ModelCardData

    text = str(card.get("licence", "")).strip().lower()
    license_ = text if text in LICENSES else "other" if text else None
    task = "image-to-text" if sees else "text-generation"
    results = list(_results(card, task))
    return ModelCardData(
        license=license_,
        library_name="captioner",
        pipeline_tag=task,
        tags=["captioner", *(["image-captioning", "onnx"] if sees else [])],
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=name.partition("/")[2],
        eval_results=results or None,
    )


def _results(card: Mapping[str, Any], task: str) -> Iterator[EvalResult]:
    """The card's scores, each with its set of images: a mapping of names to scores, or of sets to such mappings."""
    from huggingface_hub import EvalResult

    for entry, split in SCORES.items():
        scores = card.get(entry)
        if not isinstance(scores, Mapping):
            continue
        # Scores of one set alone stand beside a mapping of their intervals.
        sets = {key: value for key, value in scores.items() if isinstance(value, Mapping) and "intervals" not in key}
        for data, values in (sets or {f"{split} data": scores}).items():
            for metric, value in values.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    yield EvalResult(
                        task_type=task,
                        dataset_type=re.sub(r"[^a-z0-9]+", "-", data.lower()).strip("-"),
                        dataset_name=_line(data),
                        dataset_split=split,
                        metric_type=metric.partition("-")[0].lower(),
                        metric_name=_line(metric),
                        metric_value=value,
                    )


def _line(text: str) -> str:
    """The text without the line breaks that could end the metadata."""
    return " ".join(text.split())
