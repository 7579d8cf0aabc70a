"""Models on the Hugging Face Hub: ``hf://owner/name``, ``hf://owner/name@revision``, ``hf://owner/name/file``.

Files are kept in the cache that all programs on a machine share, and found there without a network. Environment
variables of huggingface_hub hold: ``HF_TOKEN``, ``HF_HUB_OFFLINE``, ``HF_HOME``, ``HF_ENDPOINT``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from captioner.checkpoint.file_names import ONNX, SAFETENSORS, step_file
from captioner.errors import CaptionerError, first_line, needs_packages

MODEL = "model"
"""How the model's file in a repository is called, without its ending."""

_SCHEME = "hf:/"
"""What names begin with; `pathlib` makes one slash of two."""

_LOG_IN = "log in with hf auth login, or set HF_TOKEN"


def is_hub_name(model: str | os.PathLike[str]) -> bool:
    """Whether a model is named as one on the Hub."""
    return os.fspath(model).startswith(_SCHEME)


def fetch(model: str | os.PathLike[str], exported: bool = False) -> Path:
    """Download a model, where it is not in the cache.

    Args:
        model: A name for which `is_hub_name`.
        exported: Whether the graphs are wanted, ``model.onnx`` and ``model.step.onnx``, in place of the checkpoint,
            ``model.safetensors``, where the name has no file.

    Returns:
        The checkpoint's file, or the encoder's; the step's lies beside it.

    Raises:
        CaptionerError: The name is malformed, it is of a file of another kind, there is no such repository, revision
            or file, or it can be neither downloaded nor found in the cache.
    """
    name = f"hf://{os.fspath(model).removeprefix(_SCHEME).lstrip('/')}"
    with needs_packages(name), telling(name):
        from huggingface_hub import parse_hf_uri
        from huggingface_hub.errors import HfUriError

        try:
            place = parse_hf_uri(name)
        except HfUriError as error:
            raise CaptionerError(f"{name}: is no name; write hf://owner/name or hf://owner/name@revision") from error
        file = place.path_in_repo or f"{MODEL}{ONNX if exported else SAFETENSORS}"
        if place.type != "model" or Path(file).suffix not in (SAFETENSORS, ONNX):
            raise CaptionerError(
                f"{name}: is no model that is opened from the Hub; name a {SAFETENSORS} or {ONNX} file of a model"
            )
        path = _download(name, place.id, file, place.revision)
        if path.suffix == ONNX:
            # The revision may have moved on since: the graphs have to be of one commit.
            commit = path.parents[file.count("/")].name
            _download(name, place.id, step_file(Path(file)).as_posix(), commit)
        return path


def _download(name: str, repository: str, file: str, revision: str | None) -> Path:
    """The cached file, named by its commit's folder and its path in the repository."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, file, revision=revision, library_name="captioner"))
    except RemoteEntryNotFoundError as error:
        cure = f"name another file, as in hf://owner/name/FILE{SAFETENSORS}"
        raise CaptionerError(f"{name}: has no {file}; {cure}") from error


def refuse_name(name: str) -> None:
    """Refuse what is not ``owner/name``.

    Raises:
        CaptionerError: It is something else, or has characters that the Hub forbids.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        valid = name.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        raise CaptionerError(
            f"repository {name}: is no name on the Hub; write owner/name, of letters, digits, - _ and ."
        )


@contextmanager
def telling(name: str) -> Iterator[None]:
    """Tell in one line what a request to the Hub failed of.

    Args:
        name: What is asked for.

    Raises:
        CaptionerError: The request failed.
    """
    from huggingface_hub import constants, errors

    try:
        with _without_warnings():
            yield
    except CaptionerError:
        raise
    except errors.GatedRepoError as error:
        raise CaptionerError(f"{name}: is gated; accept its terms on its page, then {_LOG_IN}") from error
    except errors.RepositoryNotFoundError as error:
        raise CaptionerError(
            f"{name}: there is no such repository, or it is private; check the name, or {_LOG_IN}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CaptionerError(f"{name}: has no such revision; name a branch, a tag or a commit that it has") from error
    except errors.OfflineModeIsEnabled as error:
        raise CaptionerError(f"{name}: HF_HUB_OFFLINE is set, and this needs a connection; unset it") from error
    except errors.LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            raise CaptionerError(f"{name}: is not in the cache, and HF_HUB_OFFLINE is set; unset it") from error
        raise CaptionerError(
            f"{name}: the Hub cannot be reached, and it is not in the cache; check the network"
        ) from error
    except errors.HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise CaptionerError(
                f"{name}: the Hub refuses this account; {_LOG_IN}, with a token that may do this"
            ) from error
        raise CaptionerError(f"{name}: the Hub answered: {first_line(error)}; try again later") from error
    except OSError as error:
        place = error.filename or "the cache"
        raise CaptionerError(
            f"{name}: {place} cannot be written: {error.strerror or error}; set HF_HOME to another folder"
        ) from error
    # What is raised for a broken connection belongs to the HTTP library beneath, which depends on the version.
    except Exception as error:
        raise CaptionerError(f"{name}: the Hub cannot be reached ({first_line(error)}); check the network") from error


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep the library from telling each attempt that failed: what comes of them is told at the end."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
