"""The version that every distribution of this workspace carries."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
