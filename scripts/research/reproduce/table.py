"""Markdown table of rows from standard input: title, paper's AP and AP50, folder of metrics."""

import json
import sys
from pathlib import Path


def main() -> None:
    """Print the table whose title is the argument; "+" is the gain over the first row."""
    print(f"### {sys.argv[1]}\n")
    print("| row | paper AP | AP50 | here AP | + | AP50 | APs | APm | APl | box AP | s |")
    print("|---" * 11 + "|")
    base = None
    for line in sys.stdin:
        title, ap, ap50, folder = line.rstrip("\n").split("\t")
        metrics = json.loads((Path(folder) / "metrics.json").read_text())
        seconds = (Path(folder) / "seconds").read_text().strip()
        mask = metrics["mask"]
        base = mask["AP"] if base is None else base
        cells = [title, ap, ap50, percent(mask["AP"]), f"{100 * (mask['AP'] - base):+.1f}"]
        cells += [percent(mask[name]) for name in ("AP50", "APs", "APm", "APl")]
        print("| " + " | ".join([*cells, percent(metrics["box"]["AP"]), seconds]) + " |")
    print(
        f"\nIn percent, on {metrics['images']} images. Seconds are those of the whole evaluation."
    )
    print("The paper's numbers are of COCO test-dev.")


def percent(value: float) -> str:
    """COCO's -1 where there is nothing to measure."""
    return "-" if value < 0 else f"{100 * value:.1f}"


main()
