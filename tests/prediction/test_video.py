from fractions import Fraction

import numpy as np
import pytest

from fcis_tf.errors import FcisError
from fcis_tf.prediction.video import VideoWriter, frame_count, frame_rate, is_video, read_frames

RATE = Fraction(12)


def frames(count, height=65, width=96):
    """A bright square that moves to the right."""
    for number in range(count):
        frame = np.full((height, width, 3), (40, 90, 160), np.uint8)
        frame[16:48, 8 * number : 8 * number + 32] = (200, 60, 30)
        yield frame


def write(path, images):
    with VideoWriter(path, RATE) as writer:
        for image in images:
            writer.write(image)


def test_frames_come_back(tmp_path):
    """Up to the loss of the coding, and the odd last row."""
    path = tmp_path / "a.mp4"
    write(path, frames(7))
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert frame_count(path) == 7 and frame_rate(path) == RATE
    found = list(read_frames(path))
    assert len(found) == 7
    for one, expected in zip(found, frames(7), strict=True):
        assert one.shape == (64, 96, 3) and one.dtype == np.uint8
        assert np.abs(one.astype(int) - expected[:64]).mean() < 6


def test_an_unfinished_video_does_not_appear(tmp_path):
    def broken():
        yield from frames(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a.mp4", broken())
    assert not list(tmp_path.iterdir())


def test_what_is_no_video_is_refused_in_one_line(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    for name, message in (("text.mp4", "not a readable video"), ("absent.mp4", "no such file")):
        with pytest.raises(FcisError, match=f"{name}: {message}"):
            next(read_frames(tmp_path / name))


def test_a_truncated_video_is_refused(tmp_path):
    write(tmp_path / "a.mp4", frames(9))
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(FcisError, match=r"cut\.mp4: (not a readable|a damaged) video"):
        list(read_frames(tmp_path / "cut.mp4"))


def test_videos_are_recognized_by_their_names(tmp_path):
    assert is_video(tmp_path / "A.MP4") and not is_video(tmp_path / "a.png")
