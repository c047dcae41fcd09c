"""What a node has to pull: the images that were built for this run, compressed as a registry keeps them."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest

from .conftest import REPOSITORY

MIB = 1024 * 1024
ARCHIVES = Path(REPOSITORY, os.environ.get("OUT") or "build/images")


@pytest.mark.skipif(
    not os.environ.get("WEFT_TEST_CLUSTER") or os.environ.get("SKIP_IMAGES") == "1", reason="no images were built"
)
@pytest.mark.parametrize(
    ("name", "limit_mib"),
    [
        ("proxy", 80),
        *((name, 120) for name in ("identity", "destination", "injector", "metrics-api", "web", "debug", "bookshop")),
    ],
)
def test_image_is_small(name: str, limit_mib: int) -> None:
    compressor = zlib.compressobj()
    size = 0
    with (ARCHIVES / f"{name}.tar").open("rb") as archive:
        while block := archive.read(MIB):
            size += len(compressor.compress(block))
    size += len(compressor.flush())
    print(f"{name}: {size / MIB:.1f} MiB")
    assert size < limit_mib * MIB
