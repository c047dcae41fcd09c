"""Text that strangers chose, made fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Control characters become escapes; everything else stays."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()
