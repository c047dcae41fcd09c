"""Keeps out of a service what it never uses: services start with the mesh, so imports are the mesh's start-up time.

Measured on CPython 3.11, CPU of importing `weft_destination.app`: 825 ms as is; 695 without what libraries load because
it happens to be installed (rich for tracebacks in structlog, OpenTelemetry in redis-py); 600 when aiohttp does not read
the system's certificate authorities, twice, for requests that bring no context of their own. `weft_web.app`: 1.87 s as
is, 1.07 s without both and without the HTTP clients that its Socket.IO library looks for.
"""

from __future__ import annotations

import gc
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import cast


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Imports in this block go as if these packages were not installed. Those imported before stay."""
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    hidden = [package for package in packages if package not in modules]
    # None makes an import raise ModuleNotFoundError.
    modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for package in hidden:
            if modules.get(package) is None:
                modules.pop(package, None)


@contextmanager
def lean_imports(*unwanted: str) -> Iterator[None]:
    """For the block of a process edge that imports the service. unwanted: packages to hide, as in `without`.

    Afterwards aiohttp trusts no authority by default: a request over TLS must bring its context, else it is refused.
    What was imported is exempt from garbage collection, for it lives as long as the process.
    """
    gc.disable()
    try:
        with without(*unwanted), _contexts_without_roots():
            yield
    finally:
        gc.enable()
    gc.freeze()


@contextmanager
def _contexts_without_roots() -> Iterator[None]:
    def load_nothing(*_: object) -> None:
        pass

    load_roots = ssl.SSLContext.load_default_certs
    ssl.SSLContext.load_default_certs = load_nothing  # type: ignore[method-assign, assignment]
    # Inherited from a class that cannot be changed, hence removed afterwards.
    ssl.SSLContext.set_default_verify_paths = load_nothing  # type: ignore[method-assign, assignment]
    try:
        # Imported here so that the contexts are made here, whatever the block imports.
        import aiohttp  # noqa: F401

        yield
    finally:
        ssl.SSLContext.load_default_certs = load_roots  # type: ignore[method-assign]
        del ssl.SSLContext.set_default_verify_paths
