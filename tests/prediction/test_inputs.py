import numpy as np
import pytest
from PIL import Image

from fcis_tf.errors import FcisError
from fcis_tf.prediction.inputs import count_pictures, find_files, read_pictures
from tests.prediction.test_video import frames, write


@pytest.fixture
def folder(tmp_path, rng):
    for name in ("b.png", "a.bmp", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    write(tmp_path / "m.mp4", frames(3))
    return tmp_path


def names(files, folder):
    return [str(file.relative_to(folder)) for file in files]


def test_folders_patterns_and_files_in_name_order(folder):
    assert names(find_files([folder]), folder) == ["a.bmp", "b.png", "m.mp4"]
    assert names(find_files([folder / "*.png"]), folder) == ["b.png"]
    assert names(find_files([folder / "**/*.png"]), folder) == ["b.png", "sub/c.png"]
    mixed = find_files([folder / "sub", folder / "?.bmp", folder / "b.png"])
    assert names(mixed, folder) == ["sub/c.png", "a.bmp", "b.png"]


def test_a_file_whose_name_resembles_a_pattern(folder):
    file = folder / "x[1].png"
    (folder / "b.png").rename(file)
    assert find_files([file]) == [file]


def test_pictures_have_names_and_frames_have_numbers(folder):
    files = find_files([folder])
    pictures = list(read_pictures(files))
    expected = ["a.bmp", "b.png", "m.mp4#000000", "m.mp4#000001", "m.mp4#000002"]
    assert [picture.name for picture in pictures] == expected
    assert count_pictures(files) == 5
    np.testing.assert_array_equal(pictures[1].image, np.asarray(Image.open(folder / "b.png")))


def test_images_are_turned_as_people_see_them_or_left_as_stored(tmp_path, rng):
    """6 says: the first row is at the right, the first column at the top."""
    stored = np.zeros((8, 16, 3), np.uint8)
    stored[:4, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "phone.png"
    Image.fromarray(stored).save(file, exif=exif)
    (upright,) = read_pictures([file])
    np.testing.assert_array_equal(upright.image, stored[::-1].transpose(1, 0, 2))
    (as_stored,) = read_pictures([file], upright=False)
    np.testing.assert_array_equal(as_stored.image, stored)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent.png", "absent.png: no such file or folder"),
        ("*.tif", "no file matches this pattern"),
        ("empty", "empty: no image files found"),
    ],
)
def test_what_names_nothing_is_refused(folder, path, message):
    (folder / "empty").mkdir()
    with pytest.raises(FcisError, match=message):
        find_files([folder / path])


def test_two_files_of_one_name_are_refused(folder):
    (folder / "sub" / "b.jpg").write_bytes((folder / "b.png").read_bytes())
    with pytest.raises(FcisError, match=r"sub/b\.jpg: results are named by file names"):
        find_files([folder, folder / "sub"])
