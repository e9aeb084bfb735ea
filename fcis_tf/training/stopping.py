"""Stopping in good order when a scheduler or a person asks for it."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn


class Stopped(Exception):
    """A run was asked to stop and can be continued.

    Args:
        number: of the signal that asked.
    """

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(f"stopped by {self.signal.name}; the same command continues")


class StopRequest:
    """A context in which SIGTERM and SIGINT (Ctrl-C) are taken note of instead of ending at once.

    The second signal acts as it did before. Outside the main thread Python allows no handler, and
    signals act as before.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.signal: int | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self.before = {n: signal.signal(n, self._note) for n in self.SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def check(self, *progress: int) -> None:
        """Leave if a signal came; as a callback it takes the progress of what it is called from.

        Raises:
            Stopped: it came.
        """
        if self.signal is not None:
            self.leave()

    def leave(self) -> NoReturn:
        """Leave for the signal that came here or, failing that, to another host.

        Raises:
            Stopped: always.
        """
        raise Stopped(self.signal or signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
