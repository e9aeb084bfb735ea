"""What is written of a run; the run itself is in test_loop.py."""

import json

from fcis_tf.training.logger import RunLogger, memory, read_lines


class Optimizer:
    learning_rate = 0.125


def row(total, wait=0.0):
    parts = {"rpn_class": total, "rpn_box": 0.0, "roi_class": 0.0, "roi_box": 0.0, "roi_mask": 0.0}
    return {**parts, "total": total, "gradient_norm": 2 * total, "data_wait": wait}


def logger(run, start=0, evaluated=0, every=2):
    return RunLogger(run, start=start, evaluated=evaluated, steps=100, every=every, images=4)


def test_a_line_has_the_means_since_the_last(tmp_path):
    with logger(tmp_path) as log:
        for number, total in enumerate([1.0, 3.0, 5.0, 7.0], start=1):
            log.step(number, row(total, wait=0.1), 0.5, Optimizer())
    first, second = read_lines(tmp_path)
    assert (first["kind"], first["step"], second["step"]) == ("train", 2, 4)
    assert (first["loss/total"], second["loss/total"]) == (2.0, 6.0)
    assert (second["loss/rpn_class"], second["gradient_norm"]) == (6.0, 12.0)
    assert second["images_per_second"] == 8.0 and abs(second["data_wait"] - 0.2) < 1e-9
    assert second["learning_rate"] == 0.125 and second["time"] >= first["time"] > 1e9


def test_a_line_is_json_whatever_the_numbers(tmp_path):
    with logger(tmp_path, every=1) as log:
        for number, norm in enumerate([float("inf"), float("nan"), 3.0], start=1):
            log.step(number, row(1.0) | {"gradient_norm": norm}, 0.5, Optimizer())
    assert [line["gradient_norm"] for line in read_lines(tmp_path)] == [None, None, 3.0]


def test_lines_of_steps_that_are_taken_again_are_removed(tmp_path):
    lines = [{"kind": "train", "step": n} for n in (2, 4, 6)]
    lines.insert(2, {"kind": "evaluation", "step": 4})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    file = tmp_path / "metrics.jsonl"
    file.write_text(text + '{"kind": "train", "st')  # killed while it wrote
    logger(tmp_path, start=4, evaluated=4)
    assert read_lines(tmp_path) == lines[:3]
    logger(tmp_path, start=4, evaluated=3)  # the evaluation is made once more
    assert read_lines(tmp_path) == lines[:2]
    logger(tmp_path)
    assert read_lines(tmp_path) == []


def test_the_rest_is_estimated_from_steps_that_do_not_trace(tmp_path, capsys):
    with logger(tmp_path) as log:
        for number in range(1, 15):
            log.step(number, row(1.0), 60.0 if number <= 3 else 2.0, Optimizer())
    lines = [line for line in capsys.readouterr().err.splitlines() if "about" in line]
    assert lines == ["about 0:02:54 for the other 87 steps, evaluation apart"]  # 87 times 2 seconds


def test_memory_is_reported_in_gigabytes():
    word, number, unit = memory().split()
    assert (word, unit) == ("memory", "GB") and 0.1 < float(number) < 1000
