"""Runs the planned commands, in this network namespace or in another. The first failure ends the run."""

import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence

from weft_proxy.init.core.binaries import choose
from weft_proxy.init.core.plan import Family, FirewallSettings, plan

COMMAND_TIMEOUT_S = 30.0
CLOSE_WAIT_SYSCTL = "net.netfilter.nf_conntrack_tcp_timeout_close_wait"


class CommandFailed(Exception):
    """The text holds the command and what it said."""


class Runner:
    """report: told each command before it runs. simulate: tell only, and take the firewall for empty."""

    def __init__(self, *, netns: str | None, simulate: bool, wait: bool, report: Callable[[str], None]) -> None:
        self._prefix = ["nsenter", f"--net={netns}"] if netns else []
        self._simulate = simulate
        self._wait = ["-w"] if wait else []
        self._report = report

    def install(self, settings: FirewallSettings, family: Family, binary: str, save_binary: str | None) -> None:
        """Raises CommandFailed or binaries.NoIptables."""
        exists = (lambda _name: True) if self._simulate else (lambda name: shutil.which(name) is not None)
        binaries = choose(binary, save_binary, family, exists)
        existing = self._run([binaries.save, "-t", "nat"])
        for arguments in plan(existing, settings, family):
            self._run([binaries.apply, *self._wait, *arguments])

    def set_close_wait(self, seconds: int) -> None:
        self._run(["sysctl", "-w", f"{CLOSE_WAIT_SYSCTL}={seconds}"])

    def _run(self, command: Sequence[str]) -> str:
        full = [*self._prefix, *command]
        shown = shlex.join(full)
        self._report(shown)
        if self._simulate:
            return ""
        try:
            done = subprocess.run(full, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
        except OSError as error:
            raise CommandFailed(f"{shown}: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"{shown}: not over in {COMMAND_TIMEOUT_S:.0f} s; is the xtables lock held?") from error
        if done.returncode != 0:
            raise CommandFailed(f"{shown}: exit code {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return done.stdout
