import json

import pytest

from fcis_tf.data.convert import convert_coco
from fcis_tf.data.records import read_records
from fcis_tf.data.shapes import generate_shapes
from fcis_tf.errors import FcisError


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    generate_shapes(folder, train=7, validation=1, size=64, seed=3)
    return folder


def run(shapes, out, **options):
    return convert_coco(shapes / "train", shapes / "train.json", out, **options)


def contents(out):
    return {file.name: file.read_bytes() for file in sorted(out.iterdir())}


def test_the_same_input_gives_the_same_bytes_in_any_number_of_processes(shapes, tmp_path):
    run(shapes, tmp_path / "one", shards=3)
    run(shapes, tmp_path / "two", shards=3, processes=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(list((tmp_path / "one").glob("*.tfrecord"))) == 3


def test_every_image_is_converted_once_in_order(shapes, tmp_path):
    seen = []
    report = run(shapes, tmp_path / "out", shards=3, progress=lambda d, t: seen.append((d, t)))
    ids = [r.image_id for r in read_records(tmp_path / "out")]
    assert ids == [str(n) for n in range(1, 8)] and report.images == 7
    assert seen == [(n, 7) for n in range(1, 8)]
    total = sum(len(r.instances) for r in read_records(tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report.instances == total == written["instances"] == sum(written["classes"].values())


def test_an_earlier_conversion_is_replaced_and_foreign_records_are_not(shapes, tmp_path):
    run(shapes, tmp_path / "out", shards=5)
    run(shapes, tmp_path / "out", shards=2)
    assert len(list((tmp_path / "out").glob("*.tfrecord"))) == 2
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "x.tfrecord").write_bytes(b"theirs")
    with pytest.raises(FcisError, match="choose an empty folder"):
        run(shapes, tmp_path / "foreign")
    (tmp_path / "foreign" / "labels.json").write_text("[]")
    with pytest.raises(FcisError, match="holds x.tfrecord of another origin"):
        run(shapes, tmp_path / "foreign")
    assert (tmp_path / "foreign" / "x.tfrecord").read_bytes() == b"theirs"


def test_a_conversion_that_fails_leaves_no_report_and_no_partial_file(
    shapes, tmp_path, monkeypatch
):
    import fcis_tf.data.convert as module

    def full(*args):
        raise OSError(28, "No space left on device")

    run(shapes, tmp_path / "out")
    monkeypatch.setattr(module, "encode", full)
    with pytest.raises(FcisError, match="No space left on device"):
        run(shapes, tmp_path / "out")
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"labels.json"}


@pytest.mark.parametrize("processes", [1, 2])
def test_strict_leaves_no_shard_written_before_the_fault(shapes, tmp_path, processes):
    content = json.loads((shapes / "train.json").read_text())
    content["images"][-1]["width"] = 65
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(FcisError, match="000007.jpg .*image size differs") as fault:
        convert_coco(
            shapes / "train", tmp_path / "x.json", tmp_path / "out",
            shards=7, strict=True, processes=processes,
        )  # fmt: skip
    assert "\n" not in str(fault.value)
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"labels.json"}


def test_no_usable_instance_is_an_error(shapes, tmp_path):
    content = json.loads((shapes / "train.json").read_text())
    for annotation in content["annotations"]:
        annotation["category_id"] += 100
    (tmp_path / "x.json").write_text(json.dumps(content))
    words = "none of its 7 images has a usable instance; most often: annotation of an unknown cat"
    with pytest.raises(FcisError, match=words):
        convert_coco(shapes / "train", tmp_path / "x.json", tmp_path / "out")
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"labels.json"}


def test_no_usable_image_is_an_error(shapes, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FcisError, match="none of its 7 images is usable"):
        convert_coco(tmp_path / "empty", shapes / "train.json", tmp_path / "out")
    assert not (tmp_path / "out" / "report.json").exists()
