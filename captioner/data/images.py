"""Read image files as upright RGB images."""

from __future__ import annotations

import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError, features

from captioner.data.bit_depths import gray_in_eight_bits, load_colors
from captioner.data.image_plugins import MissingDecoderError, register_heic, silence_libtiff
from captioner.errors import CaptionerError
from captioner.utils.file_kinds import LOOKED_AT, identify, is_text
from captioner.utils.spelling import tell_missing
from captioner.utils.tar_files import find_member, is_tar, members

ImageSource = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

BYTES_NAME = "the given bytes"
"""Name of an unnamed image in messages."""

_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
"""Bytes 8 to 12 of a HEIC file (ISO/IEC 23008-12), after its size and ``ftyp``."""

_OTHER_IMAGES = (
    (b"\xff\x0a", "a JPEG XL image, which is not read here"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image, which is not read here"),
    (b"FUJIFILMCCD-RAW", "a camera's raw image, which is not read here"),
    (b"IIRO", "a camera's raw image, which is not read here"),
)

# Between its limit and twice its limit Pillow only warns; we read such pictures, and damaged EXIF as well. It is set
# for the whole process, since `warnings.catch_warnings` in one thread undoes what another has set.
warnings.filterwarnings("ignore", module=r"PIL\.")
# Pillow logs problems with damaged files, which Python prints on standard error if there is no handler.
logging.getLogger("PIL").addHandler(logging.NullHandler())
silence_libtiff()

_GIVEN = threading.Lock()
"""Held while a PIL image is read, which two threads may share."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Operation that makes an image upright, by EXIF orientation."""


class NamedBytes(bytes):
    """The bytes of an image file.

    Attributes:
        name: Name used in messages.
    """

    name: str = BYTES_NAME


def limit_pixels(count: int) -> None:
    """Limit the number of pixels per image for the whole process; this is Pillow's own limit.

    A file of a few kilobytes can declare gigabytes of pixels. The default is 178,956,970.

    Raises:
        CaptionerError: The number is not positive.
    """
    if count < 1:
        raise CaptionerError(f"the limit of pixels is {count}; it must be at least 1")
    # Pillow warns above its constant and refuses above twice as much.
    Image.MAX_IMAGE_PIXELS = count / 2  # type: ignore[assignment]


def open_image(source: ImageSource, enough: int | None = None) -> Image.Image:
    """Read an image of any supported kind, upright and in RGB.

    Transparent pixels are composited on white, the first frame of an animation is used, and deeper channels are scaled
    to 8 bits; the white level of deep gray values is the file's own, else that of the smallest of 8, 10, 12, 14 or 16
    bits that fits them.

    Args:
        source: A path, which may lead into a tar file (``000000.tar/0001.jpg``), the bytes of an image file, a PIL
            image, or a uint8 array of shape (height, width), (height, width, 3) or (height, width, 4). Channels are
            red, green, blue[, opacity]: for OpenCV's BGR arrays, pass ``array[..., ::-1]``.
        enough: Sufficient number of pixels per side: a larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size, which is
            faster, if both sides keep that many.

    Returns:
        An RGB image, rotated by its EXIF orientation.

    Raises:
        CaptionerError: The file is missing, not a regular file, or not a readable image.
    """
    if isinstance(source, Image.Image):
        with _readable_errors("the given image"), _GIVEN:
            return _upright_rgb(source)
    if isinstance(source, np.ndarray):
        return _upright_rgb(_from_array(source))
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), source.name if isinstance(source, NamedBytes) else BYTES_NAME, enough)
    if not isinstance(source, (str, os.PathLike)):
        raise CaptionerError(
            f"{type(source).__name__} is not an image; give a path, bytes, a PIL image or a uint8 array"
        )
    path = Path(source)
    try:
        if (member := find_member(path)) is not None:
            return _read(io.BytesIO(member.read()), str(path), enough)
        if is_tar(path):
            members(path)  # raises if it cannot be listed
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            os.scandir(path).close()  # raises if the folder cannot be listed
            raise CaptionerError(
                f"{path}: is a folder; give an image file, or a list such as sorted(Path(folder).glob('*.jpg'))"
            )
        if not stat.S_ISREG(mode):
            raise CaptionerError(f"{path}: is not a regular file; give an image file")
        with path.open("rb") as file:
            return _read(file, str(path), enough)
    except FileNotFoundError:
        raise CaptionerError(f"{os.fspath(source)}: {tell_missing(os.fspath(source))}") from None
    except OSError as error:
        raise CaptionerError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a path with a NUL byte
        raise CaptionerError(f"{str(path)!r}: is not a path: {error}") from error


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise CaptionerError(
            f"an array of {array.dtype} {array.shape} is not an image; give uint8 (height, width[, 3 or 4 channels])"
        )
    if array.size == 0:
        raise CaptionerError(f"an array of shape {array.shape} has no pixels")
    return Image.fromarray(array)


def _read(file: io.BufferedReader | io.BytesIO, name: str, enough: int | None) -> Image.Image:
    with _readable_errors(name):
        try:
            image = Image.open(file)
        except UnidentifiedImageError:
            file.seek(0)
            start = file.read(LOOKED_AT)
            if start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS:
                register_heic()
                file.seek(0)
                try:
                    image = Image.open(file)
                except UnidentifiedImageError:
                    raise _OtherKindError("is a HEIC image that is damaged or truncated; get a complete copy") from None
            else:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOOKED_AT))
                raise _OtherKindError(_tell_kind(start, file.read(), file)) from None
        with image:
            if image.format == "EPS":
                # EPS is a program, which Pillow would run with Ghostscript.
                raise _UnreadableFormatError("EPS")
            if enough:
                image.draft(None, (enough, enough))
            load_colors(image, file)
            return _upright_rgb(image)


def _tell_kind(start: bytes, end: bytes, file: io.BufferedReader | io.BytesIO) -> str:
    """Identify a file that is no readable image by its first and last bytes, and suggest a cure."""
    kind = identify(start, end)
    if kind is not None and kind.name.endswith(" image"):
        if _has_other_pixels(file):
            return f"is {kind.name} with channels that are not read here; convert it to 8 or 16 bits a channel"
        return f"is {kind.name} that is damaged or truncated; get a complete copy"
    if start[4:12] == b"ftypavif" and features.check("avif"):
        return "is an AVIF image that is damaged or truncated; get a complete copy"
    if kind is not None:
        return kind.tell("give an image file")
    if is_text(start):
        return "is text: give an image file"
    name = next((name for magic, name in _OTHER_IMAGES if start.startswith(magic)), "no image that can be read here")
    return f"is {name}; convert it to JPEG or PNG"


def _has_other_pixels(file: io.BufferedReader | io.BytesIO) -> bool:
    """Whether a file is a TIFF whose header is whole, and tells of channels that Pillow does not know."""
    file.seek(0)
    try:
        TiffImagePlugin.TiffImageFile(file)
    except SyntaxError as error:
        return "mode" in str(error)
    except Exception:  # of a damaged header nearly anything
        return False
    return False


class _UnreadableFormatError(Exception):
    """A known format that is not supported."""


class _OtherKindError(Exception):
    """A file of another known kind."""


@contextmanager
def _readable_errors(name: str) -> Iterator[None]:
    """Convert errors about an image to one-line messages."""
    try:
        yield
    except UnidentifiedImageError:
        raise CaptionerError(f"{name}: is not a readable image; convert it to JPEG or PNG") from None
    except (MissingDecoderError, _OtherKindError) as error:
        raise CaptionerError(f"{name}: {error}") from None
    except _UnreadableFormatError as error:
        raise CaptionerError(f"{name}: is {error}, which is not read here; convert it to JPEG or PNG") from None
    except Image.DecompressionBombError:
        limit = int(2 * (Image.MAX_IMAGE_PIXELS or 0))
        raise CaptionerError(
            f"{name}: has more than {limit:,} pixels; scale it down, or raise max_pixels", "max_pixels"
        ) from None
    except MemoryError:
        raise CaptionerError(f"{name}: does not fit into memory; scale it down") from None
    # Pillow's plug-ins raise almost anything for a damaged file, which must not end a job over many files.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CaptionerError(f"{name}: is damaged: {reason}; get a complete copy") from error


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.width == 0 or image.height == 0:
        raise ValueError("it has no pixels")
    # Not `exif_transpose`: it rewrites all EXIF, which fails if any tag is damaged.
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    upright = image if turn is None else image.transpose(turn)
    if upright.mode.startswith(("I", "F")):
        upright = gray_in_eight_bits(upright, image)
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.new("RGBA", layer.size, "white")
        upright.alpha_composite(layer)
    return upright.convert("RGB")
