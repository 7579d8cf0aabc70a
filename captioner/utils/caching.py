"""Values that are cached between calls, and the switch that turns all caches off.

A cache changes speed, never a result: `disabled` shows whether a fault lies in one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from functools import lru_cache, wraps
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
ScopeT = TypeVar("ScopeT", bound="Scope")

_enabled = True


@contextmanager
def disabled() -> Iterator[None]:
    """Turn all caches off within a ``with`` block, in all threads of the process."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


def memoized(maxsize: int | None = None) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Build a decorator that caches a function's results, like `functools.lru_cache`.

    Args:
        maxsize: Number of results that are kept; None keeps all.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        cached = lru_cache(maxsize)(function)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return cached(*args, **kwargs) if _enabled else function(*args, **kwargs)  # type: ignore[arg-type]

        return call

    return decorate


class Attached(Generic[T]):
    """A value that is precomputed from an object and stored with it, for as long as the object exists.

    Args:
        name: Name of the value, unique for the object.
    """

    def __init__(self, name: str) -> None:
        self._name = f"_attached_{name}"

    def set(self, owner: object, value: T) -> None:
        """Store the value of an object; a copy of the object may lack it."""
        vars(owner)[self._name] = value

    def get(self, owner: object) -> T | None:
        """Return the value of an object; None if there is none, or caches are off."""
        return vars(owner).get(self._name) if _enabled else None


class Scope:
    """Base class of context managers that code inside the ``with`` block can look up, separately in each thread."""

    _innermost: ClassVar[ContextVar[Any]]

    def __init_subclass__(cls) -> None:
        cls._innermost = ContextVar(cls.__name__, default=None)

    def __enter__(self) -> None:
        self._token: Token[Any] = self._innermost.set(self)

    def __exit__(self, *_: object) -> None:
        self._innermost.reset(self._token)

    @classmethod
    def current(cls: type[ScopeT]) -> ScopeT | None:
        """Return the innermost instance whose block is being executed; None outside of any, or if caches are off."""
        return cls._innermost.get() if _enabled else None
