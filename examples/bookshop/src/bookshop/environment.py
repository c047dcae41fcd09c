"""Reads what the manifests set, with one clear line for a value that cannot be used."""

from __future__ import annotations

import os


def address(name: str, default: str) -> str:
    """host:port or URL of another service."""
    return os.environ.get(name) or default


def number(name: str, default: float, low: float, high: float) -> float:
    """A number within [low, high]. Ends the process with a message when the text is something else."""
    text = os.environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        raise SystemExit(f"{name}={text!r}: expected a number from {low:g} to {high:g}") from None
    if not low <= value <= high:
        raise SystemExit(f"{name}={text}: expected a number from {low:g} to {high:g}")
    return value


def port(default: int) -> int:
    """The port to listen on, from PORT."""
    return int(number("PORT", default, 1, 65535))
