"""Reads the Prometheus text format, as far as a proxy writes it.

Split in two so that a scrape costs little: `split_samples` cuts each line into a key (name and labels, as written) and
the value's text; `parse_key` takes a key apart and is needed only the first time a key is seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_LABEL: Final = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_ESCAPE: Final = re.compile(r"\\(.)")
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


class BadExposition(ValueError):
    """A line that is not an exposition sample."""


def split_samples(text: str) -> Iterator[tuple[str, str]]:
    """(key, value text) of every sample line, in order. Comments and blank lines are left out.

    A timestamp or exemplar behind the value is dropped. The value's text is not checked.
    """
    for line in text.split("\n"):
        if not line or line[0] == "#":
            continue
        key, _, value = line.rpartition(" ")
        # Almost every line ends its key with "}" or has no labels at all; whatever is not so, is cut with care.
        if key.endswith("}") and " # " not in key:
            yield key, value
        else:
            yield _split_carefully(line)


def _split_carefully(line: str) -> tuple[str, str]:
    line = line.strip()
    name = _NAME.match(line)
    if name is None:
        return line, ""
    end = name.end()
    if line[end : end + 1] == "{":
        end = _closing_brace(line, end) + 1
    fields = line[end:].split()
    return line[:end], fields[0] if fields else ""


def _closing_brace(line: str, start: int) -> int:
    quoted = False
    position = start
    while position < len(line):
        char = line[position]
        if quoted and char == "\\":
            position += 1
        elif char == '"':
            quoted = not quoted
        elif char == "}" and not quoted:
            return position
        position += 1
    return len(line) - 1


def parse_key(key: str) -> tuple[str, dict[str, str]]:
    """Family name and labels. Raises BadExposition."""
    name, brace, rest = key.partition("{")
    name = name.strip()
    if _NAME.fullmatch(name) is None:
        raise BadExposition(f"not a metric name: {name!r}")
    if not brace:
        return name, {}
    if not rest.endswith("}"):
        raise BadExposition(f"labels of {name} do not end with a brace")
    body = rest[:-1]
    labels: dict[str, str] = {}
    position = 0
    while position < len(body):
        match = _LABEL.match(body, position)
        if match is None:
            raise BadExposition(f"labels of {name} cannot be read at {body[position : position + 20]!r}")
        labels[match[1]] = _unescaped(match[2])
        position = match.end()
    return name, labels


def _unescaped(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], value)
