"""The report of a conversion: counts, and by reason what was left out or changed."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fcis_tf.data.sources.faults import NOTES
from fcis_tf.errors import FcisError

# Most entries that are listed by reason. Faults lose data, so practically all of them are listed.
LISTED_FAULTS = 10_000
LISTED_NOTES = 20


@dataclass
class Report:
    """What was converted, and every fault and note with what it happened to.

    Faults lose data; notes do not. The reasons are the constants of `sources/faults.py`.
    """

    images: int = 0
    instances: int = 0
    crowds: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    strict: bool = False
    kept: int = 0  # shards that were complete before this call
    missing: int = 0  # shards that other parts still have to make

    def add_fault(self, reason: str, what: str) -> None:
        """Count a fault or a note: the `Reporter` that readers of labels call.

        Stops at the first fault if strict.

        Raises:
            FcisError: strict, and the reason loses data.
        """
        if self.strict and reason not in NOTES:
            raise _stop(reason, what)
        self.reasons[reason] += 1
        listed = self.examples.setdefault(reason, [])
        if len(listed) < _limit(reason):
            listed.append(what)

    def merge(self, other: "Report") -> None:
        """Include what another part of the same source found.

        Raises:
            FcisError: strict, and the other lost data.
        """
        if self.strict and other.faults:
            raise _stop(other.faults[0], other.examples[other.faults[0]][0])
        self.images += other.images
        self.instances += other.instances
        self.crowds += other.crowds
        self.classes.update(other.classes)
        self.reasons.update(other.reasons)
        for reason, listed in other.examples.items():
            mine = self.examples.setdefault(reason, [])
            mine += listed[: _limit(reason) - len(mine)]

    @property
    def faults(self) -> list[str]:
        """Reasons that lost data, the most frequent first."""
        return [reason for reason, _ in self.reasons.most_common() if reason not in NOTES]

    def to_dict(self) -> dict[str, Any]:
        """As ``report.json`` holds it."""
        return {
            "images": self.images,
            "instances": self.instances,
            "crowds": self.crowds,
            "classes": dict(sorted(self.classes.items())),
            "faults": self._listing(lambda reason: reason not in NOTES),
            "notes": self._listing(lambda reason: reason in NOTES),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Report":
        """The inverse of `to_dict`."""
        found = content["faults"] | content["notes"]
        return cls(
            content["images"],
            content["instances"],
            content["crowds"],
            Counter(content["classes"]),
            Counter({reason: entry["count"] for reason, entry in found.items()}),
            {reason: list(entry["examples"]) for reason, entry in found.items()},
        )

    def __str__(self) -> str:
        head = f"{self.images} images, {self.instances} instances, {self.crowds} crowds"
        return f"{head}\n{self.reason_lines()}".rstrip()

    def reason_lines(self) -> str:
        """A line for every reason, the most frequent first."""
        lines = []
        for reason, count in self.reasons.most_common():
            kind = "note " if reason in NOTES else "fault"
            lines.append(f"  {kind} {count:7d}  {reason}; first: {self.examples[reason][0]}\n")
        return "".join(lines)

    def _listing(self, wanted: Callable[[str], bool]) -> dict[str, dict[str, Any]]:
        return {
            reason: {"count": count, "examples": self.examples[reason]}
            for reason, count in sorted(self.reasons.items())
            if wanted(reason)
        }


def _limit(reason: str) -> int:
    return LISTED_NOTES if reason in NOTES else LISTED_FAULTS


def _stop(reason: str, what: str) -> FcisError:
    return FcisError(f"{what}: {reason} (--strict stops here)")
