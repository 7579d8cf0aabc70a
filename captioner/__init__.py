"""Image captioning: a CNN encoder, soft attention and an LSTM decoder, trained together.

>>> import captioner
>>> model = captioner.load()
>>> model.caption("dog.jpg").text

Names are imported when first used, so that ``import captioner`` is quick and loads neither Lightning nor matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from captioner.errors import CaptionerError, needs_packages
from captioner.utils.lazy_names import from_home

if TYPE_CHECKING:
    from captioner import visualize
    from captioner.caption import Caption
    from captioner.metrics import score
    from captioner.pipeline import Captioner
    from captioner.runtime.loading import load

__version__ = "1.0.0"
__all__ = ["Caption", "Captioner", "CaptionerError", "__version__", "load", "score", "visualize"]

_HOME = {
    "Caption": "captioner.caption",
    "Captioner": "captioner.pipeline",
    "load": "captioner.runtime.loading",
    "score": "captioner.metrics",
}


_from_home = from_home(__name__, _HOME)


def __getattr__(name: str) -> object:
    with needs_packages(f"captioner.{name}"):
        return importlib.import_module("captioner.visualize") if name == "visualize" else _from_home(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
