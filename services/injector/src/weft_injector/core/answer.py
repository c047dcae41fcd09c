"""What a review comes to."""

from __future__ import annotations

from dataclasses import dataclass

from weft_injector.core.patch import Add


@dataclass(frozen=True, slots=True)
class Admitted:
    """The object may be written, with these changes. warnings: shown to whoever writes it."""

    ops: tuple[Add, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The object must not be written. status: HTTP, as the API server then answers."""

    message: str
    status: int = 403


Answer = Admitted | Refused
