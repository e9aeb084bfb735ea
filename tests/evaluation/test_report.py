import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from fcis_tf.evaluation import coco
from fcis_tf.evaluation.measure import measure
from fcis_tf.evaluation.report import MOST_PICTURES, write_report
from tests import fixtures
from tests.evaluation.sets import LABELS, noisy, square, truth_of

GROUND = (12, 200, 90)  # a colour that is nowhere else on the page
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SILENT = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--force-device-scale-factor=1", "--virtual-time-budget=20000",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
# Notes what goes wrong; when all is loaded, clicks headings and leaves what it saw as the page.
BEFORE = "<script>var faults = []; onerror = fault => { faults.push(String(fault)); };</script>"
AFTER = """<script>onload = () => {
  const table = document.querySelector("#classes table");
  const click = column => {
    table.tHead.rows[0].cells[column].click();
    const cells = [...table.tBodies[0].rows].map(row => row.cells);
    return cells.map(cell => [cell[0].textContent, +cell[1].dataset.v]);
  };
  const seen = {
    faults,
    pictures: [...document.images].map(image => [image.naturalWidth, image.naturalHeight]),
    fetched: performance.getEntriesByType("resource").map(entry => entry.name.slice(0, 5)),
    wide: document.documentElement.scrollWidth - innerWidth,
    lines: [...document.querySelectorAll(".chart .line")].map(line => line.getBBox().width),
    clicks: [click(1), click(1), click(0), click(0)],
    marked: [...table.tHead.rows[0].cells].map(cell => cell.getAttribute("aria-sort")),
  };
  document.body.innerHTML = "<pre></pre>";
  document.querySelector("pre").textContent = "SEEN" + JSON.stringify(seen) + "SEEN";
};</script>"""


@pytest.fixture(scope="module")
def browser():
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    return found[0]


@pytest.fixture
def evaluation(rng):
    records = [fixtures.make_record(rng, str(n), instances=3) for n in range(1, 9)]
    truth, found = coco.ground_truth(records, LABELS), noisy(records, rng, noise=3)
    return measure(truth, found, LABELS, speed={"seconds_per_image": 0.25})


def plain(places):
    return {place: np.full((60, 80, 3), GROUND, np.uint8) for place in places}


def browse(browser, tmp_path, page, *options):
    command = [browser, *SILENT, f"--user-data-dir={tmp_path / 'profile'}", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_in_a_browser_pictures_show_and_tables_sort(browser, evaluation, tmp_path):
    page = write_report(evaluation, tmp_path / "report", title="A <run> & more", fetch=plain)
    probe = tmp_path / "probe.html"
    text = page.read_text()
    probe.write_text(
        text.replace("<head>", "<head>" + BEFORE).replace("</body>", AFTER + "</body>")
    )
    dom = browse(browser, tmp_path, probe, "--window-size=1280,1000", "--dump-dom")
    seen = json.loads(dom.split("SEEN")[1].replace("&amp;", "&").replace("&lt;", "<"))
    assert seen["faults"] == [] and set(seen["fetched"]) <= {"data:"} and seen["wide"] <= 0
    assert seen["pictures"] == [[640, 480]] * 2 * len(evaluation.truth["images"])
    assert len(seen["lines"]) == 8 and min(seen["lines"]) > 100
    counts = [[row["name"], row["instances"]] for row in evaluation.metrics.per_class]
    most_first, least_first, a_first, z_first = seen["clicks"]
    assert [n for _, n in most_first] == sorted((n for _, n in counts), reverse=True)
    assert [n for _, n in least_first] == sorted(n for _, n in counts)
    assert a_first == sorted(counts) and z_first == sorted(counts, reverse=True)
    assert sorted(most_first) == a_first and a_first != counts != most_first
    assert seen["marked"][0] == "descending" and set(seen["marked"][1:]) == {None}


def test_in_a_screenshot_the_pictures_are_there(browser, evaluation, tmp_path):
    page = write_report(evaluation, tmp_path / "report", title="A run", fetch=plain)
    shot = tmp_path / "shot.png"
    browse(browser, tmp_path, page, "--window-size=1000,5000", f"--screenshot={shot}")
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    green = np.abs(pixels - GROUND).max(2) < 12
    assert pixels.shape == (5000, 1000, 3) and green[1500:].mean() > 0.2
    assert not green[:1000].any() and len(np.unique(pixels[:1000].reshape(-1, 3), axis=0)) > 50


def test_the_page_needs_nothing_else(evaluation, tmp_path):
    page = write_report(evaluation, tmp_path / "deep" / "report", title="A run", fetch=plain)
    text = page.read_text()
    assert [path.name for path in page.parent.iterdir()] == [page.name]
    assert not re.search(r"https?:|url\(|@import|<link|<iframe", text)
    sources = re.findall(r'src="([^"]{20})', text)
    assert sources and set(sources) == {"data:image/jpeg;base"}


def test_names_cannot_become_markup(evaluation, tmp_path):
    for image in evaluation.truth["images"]:
        image["file_name"] = "<script>alert(1)</script>.png"
    page = write_report(evaluation, tmp_path, title="<b>bold</b>", fetch=plain)
    assert "<script>alert" not in page.read_text() and "<b>bold" not in page.read_text()


def test_its_numbers_are_the_metrics(evaluation, tmp_path):
    text = write_report(evaluation, tmp_path, title="A run").read_text()
    rows = [
        re.findall(r'data-v="([^"]+)"', line) for line in re.findall(r"<tr>.*?</tr>", text, re.S)
    ]
    mask = list(evaluation.metrics.mask.values())
    assert [float(value) for value in rows[1]] == mask
    assert f"<b>{100 * mask[0]:.1f}</b><span>mask AP</span>" in text and ">0.25</b>" in text
    for name, cost in evaluation.errors.cost.items():
        line = next(line for line in text.split("<tr") if f"<td>{name}</td>" in line)
        assert f"{100 * cost:.1f}</td>" in line
    assert "name their folder with --images" in text


def test_best_and_worst_are_ordered_and_apart(evaluation, tmp_path):
    requested = []

    def fetch(places):
        requested.extend(places)
        return plain(places)

    text = write_report(evaluation, tmp_path, title="A run", fetch=fetch).read_text()
    quality = evaluation.operating.quality
    best = min(MOST_PICTURES, len(quality) // 2)
    assert len(set(requested)) == len(requested) == len(quality)
    assert quality[requested[0]] == quality.max() and quality[requested[best]] == quality.min()
    assert (np.diff(quality[requested[:best]]) <= 0).all() and (
        np.diff(quality[requested[best:]]) >= 0
    ).all()
    assert text.index(">The worst<") < text.index(">The best<")


@pytest.mark.parametrize("boxes_only", [True, False])
def test_whatever_is_lacking_there_is_a_page(tmp_path, boxes_only):
    truth, found = truth_of([(square(5, 5), 3)], []), []
    if boxes_only:
        found = [{"image_id": 1, "category_id": 3, "score": 0.5, "bbox": [5.0, 5.0, 10.0, 9.0]}]
    page = write_report(measure(truth, found, LABELS), tmp_path, title="A run", fetch=plain)
    text = page.read_text()
    assert ("No masks" if boxes_only else "No detections at all") in text
    assert ("<td>boundary</td>" in text) is not boxes_only and "data:image" in text
