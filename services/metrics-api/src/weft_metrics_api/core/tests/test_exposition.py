"""Exposition lines, as proxies write them and as they might."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft_metrics_api.core.exposition import BadExposition, parse_key, split_samples


def test_comments_blank_lines_and_the_end_marker_are_no_samples() -> None:
    text = '# HELP a b\n# TYPE a counter\n\na{b="c"} 3\nbare 1.5e3\n# EOF\n'
    assert list(split_samples(text)) == [('a{b="c"}', "3"), ("bare", "1.5e3")]


def test_timestamp_and_exemplar_are_dropped() -> None:
    text = 'a{b="} c"} 3 1700000000000\nb 4 17\nc_bucket{le="1"} 5 # {trace_id="x"} 0.5\n'
    assert list(split_samples(text)) == [('a{b="} c"}', "3"), ("b", "4"), ('c_bucket{le="1"}', "5")]


def test_labels_may_hold_spaces_braces_quotes_and_newlines() -> None:
    key = r'm{a="x y",b="}",c="say \"hi\"",d="1\n2",e="\\n",}'
    assert parse_key(key) == ("m", {"a": "x y", "b": "}", "c": 'say "hi"', "d": "1\n2", "e": "\\n"})


def test_empty_label_set_is_read() -> None:
    assert parse_key("m{}") == ("m", {})


@pytest.mark.parametrize("key", ["", "1m", 'm{a="b"', "m{a=b}", 'm{a="b" c="d"}', 'm{="b"}'])
def test_malformed_keys_are_refused(key: str) -> None:
    with pytest.raises(BadExposition):
        parse_key(key)


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), st.text(), max_size=5), st.floats())
def test_whatever_labels_hold_is_read_back(labels: dict[str, str], value: float) -> None:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    key = "m{" + ",".join(f'{name}="{escaped(text)}"' for name, text in labels.items()) + "}"
    ((found, shown),) = split_samples(f"{key} {value!r}\n")
    assert parse_key(found) == ("m", labels)
    assert shown == repr(value)


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    for key, _ in split_samples(text):
        try:
            parse_key(key)
        except BadExposition:
            continue
