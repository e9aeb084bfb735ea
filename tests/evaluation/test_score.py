import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fcis_tf.data.convert.converter import convert
from fcis_tf.errors import FcisError
from fcis_tf.evaluation import coco
from fcis_tf.evaluation.score import score_results
from fcis_tf.labels import Labels
from tests import fixtures
from tests.evaluation.sets import rows


@pytest.fixture
def files(rng, tmp_path):
    """A data set as COCO json with images and as records, and results with one instance moved."""
    labels = Labels(tuple(fixtures.NAMES), tuple(fixtures.NAMES.values()))
    records = [fixtures.make_record(rng, str(n), instances=3) for n in range(1, 5)]
    truth, found = coco.ground_truth(records, labels), []
    (tmp_path / "images").mkdir()
    for number, record in enumerate(records, start=1):
        (tmp_path / "images" / record.filename).write_bytes(record.encoded)
        masks = [instance.mask.astype(bool) for instance in record.instances]
        masks[0] = np.roll(masks[0], 12, 0)
        ids = [instance.category_id for instance in record.instances]
        found += rows(number, masks, ids, rng.uniform(0.3, 1, 3), labels)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(found))
    return tmp_path


def test_json_and_records_of_one_data_set_give_the_same_numbers(files):
    convert("coco", files / "images", files / "records", annotations=files / "truth.json", shards=2)
    results = files / "results.json"
    from_json = score_results(
        results, annotations=files / "truth.json", images=files / "images",
        out=files / "out", report=files / "report",
    )  # fmt: skip
    from_records = score_results(results, records=str(files / "records"), report=files / "again")
    assert from_json == from_records and 0.3 < from_json.mask["AP50"] < 1
    assert json.loads((files / "out" / "metrics.json").read_text()) == from_json.to_dict()
    pages = [(files / name / "index.html").read_text() for name in ("report", "again")]
    # The predictions over their images; boxes of the ground truth are rounded in records.
    pictures = [sorted(re.findall(r'alt="Prediction of .*?>', page)) for page in pages]
    assert pictures[0] == pictures[1] and len(pictures[0]) == 4


def test_the_first_images_alone(files):
    whole = score_results(files / "results.json", annotations=files / "truth.json")
    first = score_results(files / "results.json", annotations=files / "truth.json", limit=2)
    assert (whole.images, first.images) == (4, 2)
    assert sum(row["instances"] for row in first.per_class) == 6


def test_the_command_scores_a_file_without_tensorflow(files):
    code = (
        "import sys; sys.argv = ['fcis', 'evaluate', '--results', 'results.json', "
        "'--annotations', 'truth.json', '--report', 'page']\n"
        "from fcis_tf.cli import main\n"
        "try: main()\n"
        "finally: assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code],
        cwd=files, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "mAP^r at IoU 0.5" in done.stdout and "wrote page/index.html" in done.stdout
    assert (files / "page" / "index.html").exists()


def test_faults_name_the_option(files):
    results, truth = files / "results.json", files / "truth.json"
    with pytest.raises(FcisError, match="either --annotations FILE or --records FOLDER"):
        score_results(results)
    with pytest.raises(FcisError, match="either --annotations FILE or --records FOLDER"):
        score_results(results, annotations=truth, records="records")
    with pytest.raises(FcisError, match="--images .*absent: no such folder"):
        score_results(results, annotations=truth, images=files / "absent")
    with pytest.raises(FcisError, match="--images .* goes with --annotations"):
        score_results(results, records="records", images=files / "images")
    Image.new("RGB", (5, 5)).save(files / "images" / "2.png")
    with pytest.raises(FcisError, match=r"2\.png: expected 60 x 80 pixels .* found 5 x 5"):
        score_results(results, annotations=truth, images=files / "images", report=files / "r")
