import io
import re

import pytest

from fcis_tf import progress
from fcis_tf.progress import Progress


class Clock:
    """Stands in for the module `time`."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_without_a_terminal_a_line_now_and_then(clock, capsys):
    with Progress("reading", unit="files") as show:
        for done in range(1, 61):
            clock.now += 0.5
            show(done, 60)
    lines = capsys.readouterr().err.splitlines()
    # 30 seconds at 2 files a second: a line every 10 seconds, and the closing one.
    assert lines == [
        "reading: 20/60 files, 2.0/s, 0:10 gone, 0:20 left",
        "reading: 40/60 files, 2.0/s, 0:20 gone, 0:10 left",
        "reading: 60/60 files, 2.0/s, 0:30 gone",
    ]


def test_work_done_earlier_does_not_count_for_the_rate(clock, capsys):
    with Progress("training", total=7300, done=100, unit="steps") as show:
        clock.now += 20
        show.update(200, note="loss 1.5")
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "training: 200/7300 steps, 5.0/s, 0:20 gone, 23:40 left, loss 1.5"


def test_without_a_total_no_time_left_is_promised(clock, capsys):
    with Progress("reading") as show:
        clock.now += 3700
        show.update(10)
    assert capsys.readouterr().err.splitlines()[0] == "reading: 10 images, 0.0/s, 1:01:40 gone"


def test_an_error_leaves_no_closing_line(clock, capsys):
    with pytest.raises(ValueError, match="stop"), Progress("reading", total=5) as show:
        show.update(1)
        raise ValueError("stop")
    assert capsys.readouterr().err == ""


def test_on_a_terminal_a_bar_with_count_rate_and_time_left(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.stderr", screen)
    with Progress("drawing", total=4) as show:
        for done in range(1, 5):
            show.update(done, note="half way" if done > 1 else "")
        show.say("a line that stays")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "drawing" in text and "4/4" in text and "left" in text and "half way" in text
    assert "a line that stays" in text
