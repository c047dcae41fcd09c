"""Keeps out of the proxy process what it never uses: one proxy runs in every pod, so megabytes count.

Measured on CPython 3.11 (resident memory of `import weft_proxy.app`): 39.1 MiB as is, 34.5 without `ssl`, 32.0 without
`typing_extensions` too, which also takes 40 ms to import. OpenSSL, which hashing alone still maps, is another 3.4 MiB.
TLS is the engine's work; asyncio runs without `ssl`, and `hashlib` has digests of its own. gRPC wants
`typing_extensions` for `Self` alone, which `typing` has.
"""

import sys
import typing


def trim_imports() -> None:
    """To be called before asyncio and gRPC are first imported; does nothing for what is imported already."""
    modules = typing.cast("dict[str, object]", sys.modules)
    # None makes `import ssl` raise ImportError, which asyncio expects on builds without TLS.
    modules.setdefault("ssl", None)
    modules.setdefault("_hashlib", None)
    modules.setdefault("typing_extensions", typing)
