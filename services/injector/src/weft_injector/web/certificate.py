"""The webhook's serving certificate, exchanged without a restart.

Each handshake looks whether the files changed; nothing polls. A pair that cannot be loaded (half-written, mismatched)
leaves the previous one in use.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from weft_common.log import get_logger
from weft_common.settings import ConfigurationError

_log = get_logger(__name__)

_Stamp = tuple[int, int, int, int]


class ServingCertificate:
    """`context` is what the server listens with. Raises ConfigurationError without a usable pair to start with."""

    def __init__(self, folder: Path) -> None:
        self._certificate, self._key = folder / "tls.crt", folder / "tls.key"
        try:
            self._stamp = self._stamp_now()
            self._current = self._load()
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"no usable certificate at {self._certificate} and {self._key}: {error}"
            ) from error
        self.context = self._load()
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _ctx: ssl.SSLContext) -> None:
        self._refresh()
        connection.context = self._current

    def _refresh(self) -> None:
        try:
            stamp = self._stamp_now()
            if stamp == self._stamp:
                return
            self._current = self._load()
            self._stamp = stamp
            _log.info("serving certificate reloaded", path=str(self._certificate))
        except (OSError, ssl.SSLError) as error:
            _log.warning("serving certificate not reloaded; the previous one stays in use", error=str(error))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self._certificate, self._key)
        return context

    def _stamp_now(self) -> _Stamp:
        certificate, key = self._certificate.stat(), self._key.stat()
        return certificate.st_mtime_ns, certificate.st_ino, key.st_mtime_ns, key.st_ino
