"""The workload's key and signing request on disk, under the names that Linkerd's proxy reads (wire.md 4.2)."""

from dataclasses import dataclass
from pathlib import Path

from weft_proxy.files import write_private
from weft_proxy.logs import Logger
from weft_proxy.ports import Cryptography

KEY_FILE = "key.p8"
CSR_FILE = "csr.der"


@dataclass(frozen=True, slots=True)
class KeyAndCsr:
    """PKCS#8 DER and the CSR DER made with it."""

    key: bytes
    csr: bytes


def load_or_create_key(folder: Path, name: str, cryptography: Cryptography, log: Logger) -> KeyAndCsr:
    """The pair in the folder, or a new one for the DNS name, stored there when the folder can be written.

    Raises OSError when files exist and cannot be read.
    """
    if (pair := _stored(folder)) is not None:
        return pair
    pair = KeyAndCsr(*cryptography.generate_key_and_csr(name))
    try:
        _store(folder, pair)
    except OSError as error:
        log.warning("The key lives in memory only", folder=str(folder), why=error.strerror or str(error))
    return pair


def ensure_key_files(folder: Path, name: str, cryptography: Cryptography) -> None:
    """See to it that the folder holds a pair. Raises OSError: whoever reads the files cannot do without them."""
    if _stored(folder) is None:
        _store(folder, KeyAndCsr(*cryptography.generate_key_and_csr(name)))


def _stored(folder: Path) -> KeyAndCsr | None:
    key_file, csr_file = folder / KEY_FILE, folder / CSR_FILE
    if not (key_file.exists() and csr_file.exists()):
        return None
    return KeyAndCsr(key_file.read_bytes(), csr_file.read_bytes())


def _store(folder: Path, pair: KeyAndCsr) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_private(folder / KEY_FILE, pair.key)
    write_private(folder / CSR_FILE, pair.csr)
