"""The few files of the proxy: what others mount for it, and what it keeps for itself."""

import os
from pathlib import Path


def write_private(path: Path, content: bytes) -> None:
    """Replace a file whole, mode 0600. Raises OSError."""
    partial = path.with_suffix(path.suffix + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    partial.replace(path)


def text_or_none(path: str) -> str | None:
    """None for a file that cannot be read now, such as one that is being replaced."""
    try:
        return Path(path).read_text()
    except OSError:
        return None


def read_token(path: str) -> bytes:
    """A service-account token. Raises OSError, ValueError when the file is empty; the texts name the file."""
    token = Path(path).read_bytes().strip()
    if not token:
        raise ValueError(f"token {path} is empty")
    return token
