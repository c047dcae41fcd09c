"""The smallest parts of routes: paths, patterns, headers. Each function says why a text is none; empty when it is."""

from __future__ import annotations

import re
from typing import Final

# Source: RFC 9110, 5.6.2 (token).
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# Source: RFC 9110, 5.5; octets above 127 are opaque data.
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")
_METHOD: Final = _HEADER_NAME
# Proxies compile patterns with an engine that never backtracks.
_UNSUPPORTED_PATTERN: Final = re.compile(r"\(\?(?:[=!]|<[=!]|P=|\()|\\[1-9]")


def path_problem(text: str) -> str:
    """Paths of requests are absolute."""
    return "" if text.startswith("/") else f"{text!r} is not absolute; it must start with /"


def pattern_problem(text: str) -> str:
    """Patterns must be read by Python's and by Rust's engine."""
    try:
        re.compile(text)
    except re.error as error:
        return f"{text!r} is not a regular expression: {error}"
    return f"{text!r} looks around or refers back, which proxies do not do" if _UNSUPPORTED_PATTERN.search(text) else ""


def header_name_problem(text: str) -> str:
    """Names of headers are tokens."""
    return "" if _HEADER_NAME.fullmatch(text) else f"{text!r} cannot be the name of a header"


def header_value_problem(text: str) -> str:
    """Values of headers have no control characters."""
    return "" if _HEADER_VALUE.fullmatch(text) else f"{text!r} cannot be the value of a header"


def method_problem(text: str) -> str:
    """Methods are tokens."""
    return "" if _METHOD.fullmatch(text) else f"{text!r} cannot be a method"
