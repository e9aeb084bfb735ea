"""A JSON object of long lists, read one element at a time."""

import json
import re
from collections.abc import Iterator
from json import JSONDecodeError
from pathlib import Path
from typing import Any, NamedTuple

SPACE = re.compile(r"[ \t\n\r]*")
CHUNK = 1 << 20  # bytes read at a time
BYTE_ORDER_MARK = "\xef\xbb\xbf"  # of UTF-8, as Windows writes it, in Latin-1


class Span(NamedTuple):
    """Where in a file an element is, in bytes."""

    start: int
    length: int


def iterate(path: Path) -> Iterator[tuple[str, Any, Span | None]]:
    """Each (key, element, its place) of the lists that are values of the object in a file.

    A value that is no list comes as it is, with None for its place; so does an empty list.

    Raises:
        ValueError: not JSON, or not an object.
        OSError: the file cannot be read.
    """
    # In Latin-1 every byte is a character, so that places in the text are places in the file.
    with path.open(encoding="latin-1", newline="") as file:
        text = _Text(file)
        text.expect("{")
        more = text.next() != "}"
        while more:
            key, _ = text.value()
            text.expect(":")
            if text.next() == "[":
                yield from ((key, *element) for element in text.elements())
            else:
                yield key, text.value()[0], None
            more = text.next() == ","
            if more:
                text.expect(",")
        text.expect("}")
        text.expect("")


def read_spans(path: Path, spans: tuple[Span, ...]) -> list[Any]:
    """The elements at these places."""
    with path.open("rb") as file:
        found = []
        for start, length in spans:
            file.seek(start)
            found.append(json.loads(file.read(length)))
    return found


class _Text:
    """The part of a file that is being read."""

    def __init__(self, file: Any) -> None:
        self.file, self.decoder = file, json.JSONDecoder()
        self.buffer, self.place, self.dropped = "", 0, 0
        if self.next() == BYTE_ORDER_MARK[0]:
            for character in BYTE_ORDER_MARK:
                self.expect(character)

    def next(self) -> str:
        """The next character that is not white space, which is not taken; "" at the end."""
        while True:
            if space := SPACE.match(self.buffer, self.place):
                self.place = space.end()
            if self.place < len(self.buffer) or not self._more():
                return self.buffer[self.place : self.place + 1]

    def expect(self, character: str) -> None:
        """Take this character."""
        if self.next() != character:
            wanted = repr(character) if character else "the end"
            raise ValueError(f"expected {wanted} at byte {self.dropped + self.place}")
        self.place += len(character)

    def value(self) -> tuple[Any, Span]:
        """Take a value."""
        self.next()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.place)
                # A number may go on in the next part.
                if end < len(self.buffer) or not self._more():
                    break
            except JSONDecodeError as fault:
                if not self._more():
                    place = self.dropped + fault.pos
                    raise ValueError(f"{fault.msg} at byte {place}") from None
        raw = self.buffer[self.place : end]
        span = Span(self.dropped + self.place, len(raw))
        self.place = end
        return value if raw.isascii() else json.loads(raw.encode("latin-1")), span

    def elements(self) -> Iterator[tuple[Any, Span | None]]:
        """Take a list."""
        self.expect("[")
        if self.next() == "]":
            yield [], None
        else:
            yield self.value()
            while self.next() == ",":
                self.expect(",")
                yield self.value()
        self.expect("]")

    def _more(self) -> bool:
        """Read on; what has been taken is dropped. False at the end of the file."""
        part = self.file.read(CHUNK)
        self.dropped += self.place
        self.buffer, self.place = self.buffer[self.place :] + part, 0
        return bool(part)
