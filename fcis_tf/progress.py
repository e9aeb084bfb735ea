"""Progress of long work: a bar on a terminal, a line every ten seconds elsewhere."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from rich import progress
from rich.console import Console, RenderableType
from rich.text import Text

SECONDS_BETWEEN_LINES = 10.0
WINDOW = 300.0  # seconds of the latest work that rate and time left are estimated from
WIDTH = 300  # of a line in a file


class Progress:
    """A context manager around a known amount of work.

    Rate and time left do not count the work up to the first report, which holds tracing and
    compilation.

    Args:
        title: what is being done.
        total: amount of work; ``None`` while it is not known, a later call may state it.
        done: what was done before.
        unit: of the amount, in the plural.
    """

    def __init__(
        self, title: str, *, total: int | None = None, done: int = 0, unit: str = "images"
    ) -> None:
        console = Console(stderr=True)
        self.terminal = console.is_terminal
        self.total = total
        self.bar = _Bar(
            progress.TextColumn("{task.description}"),
            *([progress.BarColumn()] if self.terminal else []),
            progress.MofNCompleteColumn(),
            progress.TextColumn(unit),
            _Rate(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("elapsed"),
            _Left(),
            progress.TextColumn("{task.fields[beside]}"),
            console=console if self.terminal else Console(stderr=True, width=WIDTH),
            speed_estimate_period=WINDOW,
            get_time=time.monotonic,
        )
        self.task = self.bar.add_task(title, total=total, completed=done, beside="", below="")
        self.line_time = time.monotonic()

    def __enter__(self) -> "Progress":
        if self.terminal:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.terminal:
            self.bar.stop()
        elif kind is None:
            self.bar.update(self.task, beside="")
            self._line()

    def __call__(self, done: int, total: int) -> None:
        """Report (done, total), for functions that take a callable."""
        self.total = total
        self.update(done)

    def update(self, done: int, note: str = "") -> None:
        """Report how much is done, with a few words that the bar or the line shows too."""
        # On a terminal a long note beside the bar would leave no room for the numbers.
        fields: dict[str, Any] = {"below" if self.terminal else "beside": note}
        self.bar.update(self.task, completed=done, total=self.total, **fields)
        due = time.monotonic() - self.line_time >= SECONDS_BETWEEN_LINES
        if not self.terminal and due and done != self.total:
            self._line()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _line(self) -> None:
        self.line_time = time.monotonic()
        self.bar.console.print(self.bar)


class _Bar(progress.Progress):
    def get_renderables(self) -> Iterator[RenderableType]:
        yield from super().get_renderables()
        for task in self.tasks:
            if note := task.fields["below"]:
                yield Text(note, no_wrap=True, overflow="ellipsis")


class _Rate(progress.ProgressColumn):
    """Units a second."""

    def render(self, task: progress.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


class _Left(progress.TimeRemainingColumn):
    """The time left, where the total is known."""

    def render(self, task: progress.Task) -> Text:
        return Text("") if task.total is None else super().render(task).append(" left")
