"""Connections whose clients have to keep going: who sends or reads nothing must not hold one for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_PERIODS = 3
"""Those of a request at most: for its body, for its captions, and for the client to read the response."""


class Connection(H11Protocol):
    """A connection that is closed where no request begins, or one does not end.

    uvicorn ends a connection that is silent between two requests, but waits for ever for the first, for the rest of a
    header, and for a client that does not read.

    Attributes:
        seconds: A period: the longest time for a header to arrive; a response has to be read after three of them.
    """

    seconds = 60.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to look at the connection."""
        super().connection_made(transport)
        self._look_later(self._state(), 1)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ceases to."""
        self._next_look.cancel()
        super().connection_lost(exc)

    def _state(self) -> tuple[Any, bool]:
        """The newest request, and whether it is the client's turn."""
        return self.cycle, self.cycle is None or self.cycle.response_complete

    def _look_later(self, state: tuple[Any, bool], times: int) -> None:
        self._next_look = self.loop.call_later(self.seconds, self._look, state, times)

    def _look(self, before: tuple[Any, bool], times: int) -> None:
        state = self._state()
        if state != before:
            self._look_later(state, 1)
        elif state[1] or times >= _PERIODS:
            self.transport.abort()
        else:
            self._look_later(state, times + 1)


def waiting_for(seconds: float) -> type[Connection]:
    """Make the class of connections with a period of its own.

    Args:
        seconds: The period.
    """

    class WaitingFor(Connection):
        pass

    WaitingFor.seconds = seconds
    return WaitingFor
