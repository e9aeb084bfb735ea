"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """A context manager around a known amount of work.

    Args:
        title: what is being done.
        total: amount of work, if known from the start; `update` may tell later.
        done: what was done before.
        unit: of the amount, in the plural.
    """

    def __init__(
        self, title: str, *, total: int | None = None, done: int = 0, unit: str = "images"
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.start_done, self.done = done, done
        self.start_time = self.line_time = time.monotonic()
        self.bar: RichProgress | None = None

    def __enter__(self) -> "Progress":
        console = Console(stderr=True)
        if console.is_terminal:
            self.bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(self.unit),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console,
            )
            self.task = self.bar.add_task(self.title, total=self.total, completed=self.done)
            # The note is below the bar: beside it a long one would leave no room for the numbers.
            self.note = Text(no_wrap=True, overflow="ellipsis")
            self.live = Live(Group(self.bar, self.note), console=console)
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar:
            self.live.stop()
        elif kind is None:
            self._line("")

    def __call__(self, done: int, total: int) -> None:
        """For functions that report (done, total)."""
        self.total = total
        self.update(done)

    def update(self, done: int, note: str = "") -> None:
        """Tell how much is done, and a few words beside it."""
        self.done = done
        if self.bar:
            self.bar.update(self.task, completed=done, total=self.total)
            self.note.plain = note
        elif done != self.total and time.monotonic() - self.line_time >= SECONDS_BETWEEN_LINES:
            self._line(note)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self.bar:
            self.bar.console.print(text, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def _line(self, note: str) -> None:
        now = time.monotonic()
        self.line_time = now
        rate = (self.done - self.start_done) / max(now - self.start_time, 1e-9)
        of, left = "", ""
        if self.total is not None:
            of = f"/{self.total}"
            if rate > 0 and self.done < self.total:
                left = f", {clock((self.total - self.done) / rate)} left"
        note = f", {note}" if note else ""
        print(
            f"{self.title}: {self.done}{of} {self.unit}, {rate:.1f}/s, "
            f"{clock(now - self.start_time)} gone{left}{note}",
            file=sys.stderr,
            flush=True,
        )


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} {self.unit}/s" if task.speed else "")


def clock(seconds: float) -> str:
    """A duration as minutes:seconds or hours:minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
