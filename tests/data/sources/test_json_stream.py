import json

import pytest

from fcis_tf.data.sources import json_stream
from fcis_tf.data.sources.json_stream import iterate, read_spans

CONTENT = {
    "info": {"a": [1, 2], "b": "é]}"},
    "rows": [{"x": 12.5e-3, "text": 'ü "quoted" \\ 日本'}, {}, [[1], []], "s", 12345, None, True],
    "none": [],
    "number": 678,
    "last": [1],
}


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("options", [{}, {"indent": 2}, {"ensure_ascii": False}])
def test_the_elements_are_those_of_the_json_module(tmp_path, monkeypatch, chunk, options):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(CONTENT, **options), encoding="utf-8")
    found = list(iterate(path))
    expected = []
    for key, value in CONTENT.items():
        rows = value if isinstance(value, list) and value else [value]
        expected += [(key, row) for row in rows]
    assert [(key, value) for key, value, _ in found] == expected
    placed = [(value, span) for _, value, span in found if span]
    assert len(placed) == 8
    assert read_spans(path, tuple(span for _, span in placed)) == [value for value, _ in placed]


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "x.json").write_text('{"a": [1]}', encoding="utf-8-sig")
    assert [row[:2] for row in iterate(tmp_path / "x.json")] == [("a", 1)]


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '{"a"}', '{"a": [1', '{"a": [1 2]}', '{"a": 1} x', '{"a": [1,]}', "{1"]
)
def test_what_is_no_object_is_an_error(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError):
        list(iterate(tmp_path / "x.json"))
