import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fcis_tf.data.convert import writing
from fcis_tf.data.convert.converter import convert
from fcis_tf.data.convert.manifest import verify
from fcis_tf.data.records import read_records
from fcis_tf.data.shapes import generate_shapes
from fcis_tf.data.sources import coco
from fcis_tf.errors import FcisError


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    generate_shapes(folder, train=7, validation=1, size=64, seed=3)
    return folder


def run(shapes, out, **options):
    return convert("coco", shapes / "train", out, annotations=shapes / "train.json", **options)


def origin(shapes):
    return coco.read_coco(shapes / "train", print, annotations=shapes / "train.json").origin


def contents(out):
    return {file.name: file.read_bytes() for file in sorted(out.iterdir())}


def test_the_same_input_gives_the_same_bytes_in_any_number_of_processes(shapes, tmp_path):
    run(shapes, tmp_path / "one", shards=3)
    run(shapes, tmp_path / "two", shards=3, processes=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(list((tmp_path / "one").glob("*.tfrecord"))) == 3


def test_every_image_is_converted_once_in_order(shapes, tmp_path):
    seen = []
    seen_by = {"progress": lambda done, total: seen.append((done, total))}
    report = run(shapes, tmp_path / "out", shards=3, **seen_by)
    ids = [r.image_id for r in read_records(tmp_path / "out")]
    assert ids == [str(n) for n in range(1, 8)] and report.images == 7
    assert seen == [(n, 7) for n in range(1, 8)]
    total = sum(len(r.instances) for r in read_records(tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report.instances == total == written["instances"] == sum(written["classes"].values())


def test_an_earlier_conversion_is_replaced_and_foreign_records_are_not(shapes, tmp_path):
    run(shapes, tmp_path / "out", shards=5)
    assert run(shapes, tmp_path / "out", shards=2).kept == 0
    run(shapes, tmp_path / "new", shards=2)
    assert contents(tmp_path / "out") == contents(tmp_path / "new")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "x.tfrecord").write_bytes(b"theirs")
    with pytest.raises(FcisError, match="choose an empty folder"):
        run(shapes, tmp_path / "foreign")
    (tmp_path / "foreign" / "labels.json").write_text("[]")
    with pytest.raises(FcisError, match="holds x.tfrecord of another origin"):
        run(shapes, tmp_path / "foreign")
    assert (tmp_path / "foreign" / "x.tfrecord").read_bytes() == b"theirs"


def fail_at(monkeypatch, number, fault):
    """Raise `fault` when so many records have been encoded."""
    count = 0

    def encode(record):
        nonlocal count
        count += 1
        if count == number:
            raise fault
        return whole(record)

    whole = writing.encode
    monkeypatch.setattr(writing, "encode", encode)


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_an_interruption_leaves_is_continued_to_the_same_bytes(
    shapes, tmp_path, monkeypatch, fault
):
    run(shapes, tmp_path / "whole", shards=4)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        fail_at(patch, 5, fault)
        with pytest.raises((FcisError, KeyboardInterrupt)) as raised:
            run(shapes, out, shards=4)
    if isinstance(fault, OSError):
        assert "No space left on device; complete shards stay" in str(raised.value)
    left = sorted(file.name for file in out.iterdir())
    names = [f"data-0000{n}-of-00004" for n in (0, 1)]
    shards = [f"{name}{end}" for name in names for end in (".shard.json", ".tfrecord")]
    assert left == [*shards, "labels.json"]
    with pytest.raises(FcisError, match="2 of 4 shards"):
        list(read_records(out))
    read, load = [], coco.load_record
    monkeypatch.setattr(
        coco, "load_record", lambda item, *rest: (read.append(item), load(item, *rest))[1]
    )
    assert run(shapes, out, shards=4).kept == 2
    assert [item.image_id for item in read] == [4, 5, 6, 7]
    assert contents(out) == contents(tmp_path / "whole")


def test_a_whole_conversion_reads_nothing_again(shapes, tmp_path, monkeypatch):
    first = run(shapes, tmp_path / "out", shards=3)
    before = contents(tmp_path / "out")
    monkeypatch.setattr(coco, "load_record", None)
    again = run(shapes, tmp_path / "out", shards=3)
    assert again.kept == 3 and again.to_dict() == first.to_dict()
    assert contents(tmp_path / "out") == before


def test_only_a_damaged_or_missing_shard_is_made_anew(shapes, tmp_path):
    out = tmp_path / "out"
    run(shapes, out, shards=4)
    before = contents(out)
    (out / "data-00001-of-00004.tfrecord").unlink()
    with (out / "data-00003-of-00004.tfrecord").open("ab") as file:
        file.write(b"x")
    assert run(shapes, out, shards=4).kept == 2
    assert contents(out) == before


def test_a_changed_image_or_annotation_is_noticed(shapes, tmp_path):
    source = shutil.copytree(shapes, tmp_path / "source")
    run(source, tmp_path / "out", shards=7)
    with (source / "train" / "000002.jpg").open("ab") as file:
        file.write(b"\0")
    assert run(source, tmp_path / "out", shards=7).kept == 6
    content = json.loads((source / "train.json").read_text())
    content["annotations"][0]["iscrowd"] = 1
    (source / "train.json").write_text(json.dumps(content))
    with pytest.raises(FcisError, match=r"manifest\.json: made from another source \(sha256"):
        verify(tmp_path / "out", origin(source))
    assert run(source, tmp_path / "out", shards=7).kept == 0


def test_what_a_killed_run_was_writing_is_removed_but_not_what_another_part_is(shapes, tmp_path):
    run(shapes, tmp_path / "whole", shards=4)
    out, end = tmp_path / "out", ".0123abcd.partial"
    out.mkdir()
    own = ["data-00000-of-00004.tfrecord", "data-00002-of-00004.shard.json"]
    others = ["data-00001-of-00004.tfrecord", "data-00003-of-00004.shard.json", "manifest.json"]
    for name in (*own, *others):
        (out / f"{name}{end}").write_text("the beginning")
    run(shapes, out, shards=4, part=(1, 2))
    left = {file.name.removesuffix(end) for file in out.iterdir() if file.name.endswith(end)}
    assert left == set(others)
    run(shapes, out, shards=4)
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_parts_make_the_files_of_one_conversion(shapes, tmp_path, order):
    run(shapes, tmp_path / "whole", shards=5)
    missing = [run(shapes, tmp_path / "out", shards=5, part=(n, 3)).missing for n in order]
    assert missing[-1] == 0 and 0 not in missing[:-1]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_parts_of_two_hosts_are_completed_where_they_meet(shapes, tmp_path):
    run(shapes, tmp_path / "whole", shards=4)
    for n in (1, 2):
        run(shapes, tmp_path / str(n), shards=4, part=(n, 2))
        shutil.copytree(tmp_path / str(n), tmp_path / "out", dirs_exist_ok=True)
    done = run(shapes, tmp_path / "out", shards=4)
    assert (done.kept, done.missing) == (4, 0)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"part": (3, 2)}, r"part: expected i/n .* found 3/2"),
        ({"shards": 0}, "shards: expected at least 1, found 0"),
        ({"processes": -1}, "processes: expected at least 1, found -1"),
        ({"single_class": "x"}, "kind 'coco': unknown option 'single_class'; expected annotations"),
        ({"shard": 2}, "kind 'coco': unknown option 'shard'; .*, shards, part, strict, processes"),
        ({"annotations": None}, "kind 'coco': expected the option 'annotations', found none"),
    ],
)
def test_options_out_of_range_or_of_another_kind_are_refused(shapes, tmp_path, options, words):
    with pytest.raises(FcisError, match=words):
        convert(
            "coco", shapes / "train", tmp_path / "out",
            **{"annotations": shapes / "train.json"} | options,
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_an_unknown_kind_names_the_nearest(tmp_path):
    with pytest.raises(FcisError, match="unknown kind 'label-me'; the nearest is 'labelme'"):
        convert("label-me", tmp_path, tmp_path / "out")


def test_paths_may_be_text(shapes, tmp_path):
    run(shapes, tmp_path / "paths")
    annotations = str(shapes / "train.json")
    convert("coco", str(shapes / "train"), str(tmp_path / "text"), annotations=annotations)
    assert contents(tmp_path / "text") == contents(tmp_path / "paths")


def test_verify_finds_a_changed_byte_a_missing_shard_and_an_unfinished_folder(shapes, tmp_path):
    out = tmp_path / "out"
    run(shapes, out, shards=3, part=(1, 2))
    with pytest.raises(FcisError, match="manifest.json: no such file"):
        verify(out)
    run(shapes, out, shards=3)
    assert verify(out, origin(shapes)) == 3
    shard = out / "data-00001-of-00003.tfrecord"
    good = shard.read_bytes()
    shard.write_bytes(good[:40] + bytes([good[40] ^ 1]) + good[41:])
    with pytest.raises(FcisError, match="data-00001-of-00003.tfrecord: changed since"):
        verify(out)
    shard.unlink()
    with pytest.raises(FcisError, match="data-00001-of-00003.tfrecord: missing"):
        verify(out)


@pytest.mark.slow
def test_conversions_killed_at_random_moments_end_with_the_same_bytes(tmp_path):
    generate_shapes(tmp_path / "shapes", train=40, validation=1, size=160, seed=3)
    script = Path(__file__).with_name("kill_conversions.py")
    command = [sys.executable, str(script), str(tmp_path / "shapes"), str(tmp_path), "20"]
    # The child of a process that has loaded TensorFlow; the package may not be installed.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout.endswith("20 of 20 identical\n"), done.stdout + done.stderr
    assert done.stdout.count("killed True") >= 10


def test_a_killed_command_of_two_processes_ends_with_the_same_bytes(shapes, tmp_path):
    command = [
        sys.executable, "-m", "fcis_tf", "convert", "coco", "--images", str(shapes / "train"),
        "--annotations", str(shapes / "train.json"), "--out", str(tmp_path / "out"),
        "--shards", "7", "--processes", "2",
    ]  # fmt: skip
    run(shapes, tmp_path / "whole", shards=7)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").glob("*.shard.json")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()
    subprocess.run(command, check=True, capture_output=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("processes", [1, 2])
def test_strict_stops_before_the_folder_is_complete(shapes, tmp_path, processes):
    content = json.loads((shapes / "train.json").read_text())
    content["images"][-1]["width"] = 65
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(FcisError, match="000007.jpg .*image size differs") as fault:
        convert(
            "coco", shapes / "train", tmp_path / "out", annotations=tmp_path / "x.json",
            shards=7, strict=True, processes=processes,
        )  # fmt: skip
    assert "\n" not in str(fault.value)
    left = {file.name for file in (tmp_path / "out").iterdir()}
    assert not left & {"report.json", "manifest.json"}
    assert not any("partial" in name for name in left)


def test_no_usable_instance_is_an_error(shapes, tmp_path):
    content = json.loads((shapes / "train.json").read_text())
    for annotation in content["annotations"]:
        annotation["category_id"] += 100
    (tmp_path / "x.json").write_text(json.dumps(content))
    words = "none of its 7 images has a usable instance; most often: annotation of an unknown cat"
    with pytest.raises(FcisError, match=words):
        convert("coco", shapes / "train", tmp_path / "out", annotations=tmp_path / "x.json")
    assert not (tmp_path / "out" / "report.json").exists()


def test_no_usable_image_is_an_error(shapes, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FcisError, match="none of its 7 images is usable"):
        convert("coco", tmp_path / "empty", tmp_path / "out", annotations=shapes / "train.json")
    assert not (tmp_path / "out" / "report.json").exists()
