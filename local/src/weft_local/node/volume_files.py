"""Volumes as directories on the host. Content that can change is swapped whole: readers see the old or the new set.

The layout is Kubernetes': real files in a dated directory, `..data` pointing to it, and a link per top-level name, so
programs that watch `..data` work unchanged.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from weft_local.node.core.spec import Json, quantity
from weft_local.node.core.volumes import File

_MS_NOSUID, _MS_NODEV, _MNT_DETACH = 2, 4, 2
_libc = ctypes.CDLL(None, use_errno=True)
DATA_LINK: Final = "..data"


class VolumeUnsupported(Exception):
    """A kind of volume that a single machine has no answer for."""


def write_files(directory: Path, files: Mapping[str, File], group: int | None) -> bool:
    """Make the directory show exactly these files; False when it already does. group: fsGroup."""
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / DATA_LINK
    old = link.resolve() if link.is_symlink() else None
    if old is not None and _same(old, files):
        return False
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=directory))
    fresh.chmod(0o755)
    for path, file in files.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        # A group that should own the volume must be able to read what only its owner could.
        target.chmod(file.mode | 0o040 if group is not None else file.mode)
        if group is not None:
            os.chown(target, -1, group)
    swap = directory / "..data_tmp"
    swap.unlink(missing_ok=True)
    swap.symlink_to(fresh.name)
    swap.replace(link)
    wanted = {path.split("/")[0] for path in files}
    for name in wanted:
        entry = directory / name
        if not entry.is_symlink():
            entry.symlink_to(f"{DATA_LINK}/{name}")
    for entry in directory.iterdir():
        if not entry.name.startswith("..") and entry.name not in wanted:
            entry.unlink()
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True


def make_directory(directory: Path, volume: Json, claims: Path, group: int | None) -> Path:
    """The host's path of a volume whose content the node does not write. Raises VolumeUnsupported, OSError."""
    if "emptyDir" in volume:
        directory.mkdir(parents=True, exist_ok=True)
        empty = volume["emptyDir"] or {}
        if empty.get("medium") == "Memory" and not directory.is_mount():
            _mount_tmpfs(directory, empty.get("sizeLimit"))
        _open_to(directory, group)
        return directory
    if "hostPath" in volume:
        return _host_path(volume["hostPath"])
    if "persistentVolumeClaim" in volume:
        claim = claims / str(volume["persistentVolumeClaim"]["claimName"])
        claim.mkdir(parents=True, exist_ok=True)
        _open_to(claim, group)
        return claim
    kinds = ", ".join(sorted(set(volume) - {"name"})) or "none"
    raise VolumeUnsupported(
        f"volume {volume['name']}: {kinds} is not available on one machine; use emptyDir, hostPath, configMap, "
        "secret, projected, downwardAPI or persistentVolumeClaim"
    )


def unmount(path: Path) -> bool:
    """Detach whatever is mounted there; False when nothing is."""
    return bool(_libc.umount2(str(path).encode(), _MNT_DETACH) == 0)


def _mount_tmpfs(directory: Path, size_limit: object) -> None:
    options = "mode=1777" + (f",size={int(quantity(str(size_limit)))}" if size_limit else "")
    flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV)
    if _libc.mount(b"tmpfs", str(directory).encode(), b"tmpfs", flags, options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount a tmpfs at {directory}: {os.strerror(number)}")


def _open_to(directory: Path, group: int | None) -> None:
    if group is not None:
        os.chown(directory, -1, group)
    directory.chmod(0o2777 if group is not None else 0o777)


def _host_path(source: Json) -> Path:
    path, kind = Path(str(source["path"])), source.get("type") or ""
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.touch()
    if not path.exists():
        raise VolumeUnsupported(
            f"hostPath {path} does not exist on this machine; create it, or set type: DirectoryOrCreate"
        )
    return path


def _same(old: Path, files: Mapping[str, File]) -> bool:
    present = {str(p.relative_to(old)): p for p in old.rglob("*") if p.is_file()}
    return present.keys() == files.keys() and all(present[n].read_bytes() == f.content for n, f in files.items())
