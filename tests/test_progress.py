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


def lines(capsys):
    return [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]


def test_without_a_terminal_a_line_every_ten_seconds(clock, capsys):
    with Progress("reading", unit="files") as show:
        for done in range(1, 61):
            clock.now += 0.5
            show(done, 60)
    # 30 seconds at 2 files a second, and the closing line.
    assert lines(capsys) == [
        "reading 20/60 files 2.0/s 0:00:10 elapsed 0:00:20 left",
        "reading 40/60 files 2.0/s 0:00:20 elapsed 0:00:10 left",
        "reading 60/60 files 2.0/s 0:00:30 elapsed 0:00:00 left",
    ]


def test_neither_earlier_work_nor_the_first_call_counts_for_the_rate(clock, capsys):
    with Progress("training", total=7300, done=100, unit="steps") as show:
        clock.now += 60  # of which 59.75 compile
        show.update(101, note="loss 2.5")
        for step in range(102, 202):
            clock.now += 0.25
            show.update(step, note="loss 1.5")
    first, second, *_ = lines(capsys)
    assert first == "training 101/7300 steps 0:01:00 elapsed -:--:-- left loss 2.5"
    assert second == "training 141/7300 steps 4.0/s 0:01:10 elapsed 0:29:50 left loss 1.5"


def test_without_a_total_no_time_left_is_shown(clock, capsys):
    with Progress("reading") as show:
        clock.now += 3700
        show.update(10)
    assert lines(capsys)[0] == "reading 10/? images 1:01:40 elapsed"


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
        show.say("a line that [stays]")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "drawing" in text and "4/4" in text and "left" in text and "half way" in text
    assert "a line that [stays]" in text
