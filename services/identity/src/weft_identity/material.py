"""Issuer and trust roots on disk: load, notice a change, keep the old when the new is unusable.

Owns the files. A mounted Secret is swapped as a whole, so a changed stat of any of them means: read all again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from weft_common.log import get_logger

from weft_identity.core.issuer import IssuerUnusable, issuer_from_pem, roots_from_pem
from weft_identity.ports import Material, material_from
from weft_identity.rotator import PAIRS

DEFAULT_CHECK_EVERY_S: Final = 1.0

_log = get_logger(__name__)

_Fingerprint = tuple[tuple[str, int, int, int] | None, ...]


class MaterialAbsent(Exception):
    """The files are not there yet. The text says which."""


@dataclass(slots=True)
class MaterialFiles:
    """The current material and where it comes from.

    updated: called after a reload. skipped: called with the reason when new files are unusable and the old stay.
    trouble: why the files, as they are, are not in use; empty when they are.
    """

    issuer_dir: Path
    roots_file: Path
    updated: Callable[[Material], None]
    skipped: Callable[[str], None]
    current: Material | None = None
    trouble: str = ""
    _seen: _Fingerprint | None = field(default=None, init=False)

    def load_first(self) -> None:
        """Load what is there. Raises IssuerUnusable; absent files are not an error yet."""
        self._seen = self._fingerprint()
        try:
            self.current = self._read()
        except MaterialAbsent as error:
            self.trouble = str(error)
            _log.warning("waiting for the issuer", missing=str(error))

    async def follow(self, check_every_s: float = DEFAULT_CHECK_EVERY_S) -> None:
        """Reload on change until cancelled. A check is a few stat calls; files are read only after a change."""
        while True:
            await asyncio.sleep(check_every_s)
            self.check()

    def check(self) -> None:
        """Reload if the files changed since the last look."""
        found = self._fingerprint()
        if found == self._seen:
            return
        self._seen = found
        try:
            fresh = self._read()
        except (IssuerUnusable, MaterialAbsent) as error:
            self.trouble = str(error)
            _log.error("new issuer material is unusable; keeping the old", error=str(error))
            self.skipped(str(error))
            return
        self.trouble = ""
        if self.current == fresh:
            return
        self.current = fresh
        _log.info("issuer loaded", not_after=fresh.issuer.not_after.isoformat(), roots=len(fresh.roots))
        self.updated(fresh)

    def _read(self) -> Material:
        certificate_file, key_file = self._pair()
        try:
            certificate_pem, key_pem = certificate_file.read_bytes(), key_file.read_bytes()
            roots_pem = self.roots_file.read_bytes()
        except OSError as error:
            raise MaterialAbsent(f"{error.filename}: {error.strerror}") from error
        issuer, roots = issuer_from_pem(certificate_pem, key_pem), roots_from_pem(roots_pem)
        return material_from(issuer, roots, roots_pem.decode())

    def _pair(self) -> tuple[Path, Path]:
        pairs = [(self.issuer_dir / certificate, self.issuer_dir / key) for certificate, key in PAIRS]
        return next((pair for pair in pairs if pair[0].exists()), pairs[0])

    def _fingerprint(self) -> _Fingerprint:
        return tuple(_stat(path) for path in (*self._pair(), self.roots_file))


def _stat(path: Path) -> tuple[str, int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return (path.name, stat.st_ino, stat.st_mtime_ns, stat.st_size)
