"""One container process: started through the launcher, its output logged, its end reported, commands run beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Any, Final

from weft_local.node.core.identity import RunAs
from weft_local.node.ledger import Ledger
from weft_local.node.logs import RunLog

LAUNCHER: Final = Path(__file__).with_name("launch.py")
# A program that is process 1 and handles no SIGTERM will not notice it; it gets this long for open requests instead
# of the whole grace period.
LINGER_S: Final = 2.0
_READ_BYTES: Final = 64 * 1024


class CannotStart(Exception):
    """The launcher could not run the program. The text is the system's reason."""


@dataclass(frozen=True, slots=True)
class BindMount:
    """source: on the host. target: in the container."""

    source: Path
    target: str
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """Everything the launcher needs. env keys to values; aliases: path in the container to path on the host.

    traverse: paths whose ancestors every user must be able to pass. hide: host directories shown empty.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    run_as: RunAs
    netns: Path
    hostname: str
    scratch: Path
    files: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[BindMount] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    traverse: Sequence[str] = ()
    hide: Sequence[Path] = ()
    readonly_root: bool = False

    def to_json(self, *, argv: Sequence[str] | None = None, enter_pid: int | None = None, tty: bool = False) -> str:
        """The launcher's input. enter_pid: join that process's namespaces instead of making new ones."""
        who = self.run_as
        document: dict[str, Any] = {
            "argv": list(argv or self.argv),
            "env": dict(self.env),
            "cwd": self.cwd,
            "uid": who.uid,
            "gid": who.gid,
            "groups": list(who.groups),
            "bounding": who.bounding,
            "ambient": who.ambient,
            "no_new_privs": who.no_new_privs,
            "netns": str(self.netns),
            "hostname": self.hostname,
            "scratch": str(self.scratch),
            "files": dict(self.files),
            "mounts": [{"source": str(m.source), "target": m.target, "readonly": m.readonly} for m in self.mounts],
            "aliases": dict(self.aliases),
            "traverse": list(self.traverse),
            "hide": [str(path) for path in self.hide],
            "readonly_root": self.readonly_root,
            "enter_pid": enter_pid,
            "tty": tty,
        }
        return json.dumps(document)


class RunningContainer:
    """A started program. pid: of its process 1 as the host sees it."""

    def __init__(
        self, spec: LaunchSpec, launcher: Process, pid: int, status: asyncio.StreamReader, ledger: Ledger
    ) -> None:
        self.spec = spec
        self.pid = pid
        self._launcher = launcher
        self._status = status
        self._ledger = ledger
        self.log_done = asyncio.Event()

    async def wait(self) -> int:
        """The exit code; 128 + signal for one that a signal ended."""
        line = await self._status.readline()
        code = await self._launcher.wait()
        self._ledger.forget(self._launcher.pid)
        self._ledger.forget(self.pid)
        with contextlib.suppress(ValueError, KeyError):
            return int(json.loads(line)["exit"])
        return 128 - code if code < 0 else code

    async def pump_output(self, log: RunLog) -> None:
        """Move output into the log until the last holder of it has closed it."""
        assert self._launcher.stdout is not None
        try:
            while data := await self._launcher.stdout.read(_READ_BYTES):
                log.write(data)
        finally:
            log.close()

    def send(self, number: Signals) -> None:
        """Send a signal to the program; nothing happens when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def handles(self, number: Signals) -> bool:
        """Whether the program has installed a handler. Process 1 of a namespace ignores what it does not handle."""
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            return False
        caught = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")), 0)
        return bool(caught >> (number - 1) & 1)

    async def execute(
        self, argv: Sequence[str], *, stdin: int = DEVNULL, stdout: int = PIPE, stderr: int = PIPE, tty: bool = False
    ) -> Process:
        """Run a command inside, as the container's user. Its exit code is the process's; 126 when it cannot start."""
        path = self.spec.scratch / f"exec-{os.urandom(6).hex()}.json"
        path.write_text(self.spec.to_json(argv=argv, enter_pid=self.pid, tty=tty))
        return await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(LAUNCHER), str(path), "exec", stdin=stdin, stdout=stdout, stderr=stderr
        )


async def start_container(spec: LaunchSpec, ledger: Ledger) -> RunningContainer:
    """Start a program. Raises CannotStart."""
    spec.scratch.mkdir(parents=True, exist_ok=True)
    path = spec.scratch / "spec.json"
    path.write_text(spec.to_json())
    read_fd, write_fd = os.pipe()
    try:
        launcher = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", str(LAUNCHER), str(path), str(write_fd)),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            pass_fds=(write_fd,),
        )
    except BaseException:
        os.close(read_fd)
        raise
    finally:
        os.close(write_fd)
    status = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(status), os.fdopen(read_fd, "rb", buffering=0)
    )
    try:
        ledger.record(launcher.pid)
        line = await status.readline()
        report: dict[str, Any] = json.loads(line) if line else {"error": "the launcher ended without a word"}
        if "pid" not in report:
            assert launcher.stdout is not None
            said = (await launcher.stdout.read()).decode(errors="replace").strip()
            await launcher.wait()
            ledger.forget(launcher.pid)
            transport.close()
            raise CannotStart("\n".join(filter(None, [report.get("error", ""), said])))
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            launcher.kill()
        transport.close()
        raise
    ledger.record(report["pid"])
    return RunningContainer(spec, launcher, int(report["pid"]), status, ledger)
