"""`weft local up` and `apply`: what the user asked for, how it goes, how it ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import typer

from weft_local.cli.errors import BAD_INPUT, FAILED, Stop
from weft_local.cli.options import seconds_from
from weft_local.cli.progress import Spoken
from weft_local.cli.running import require_running
from weft_local.cluster.apply import Refused
from weft_local.cluster.charts import ChartsFailed
from weft_local.cluster.down import take_down
from weft_local.cluster.process import StartFailed, log_tail
from weft_local.cluster.readiness import Pending
from weft_local.cluster.state import (
    Record,
    StateDir,
    exclusively,
    read_record,
    remove_lock,
    running,
    state_dir,
    write_record,
)
from weft_local.cluster.up import (
    CannotRunHere,
    Wish,
    apply_documents,
    check_manifests,
    client,
    start,
    wait_for_all,
    wait_for_numbers,
)
from weft_local.cluster.waiting import NotReady, last_words
from weft_local.manifests.documents import load
from weft_local.manifests.problems import BadManifests
from weft_local.node.images import parse_image_option


def up(
    paths: Sequence[Path],
    *,
    detach: bool,
    wait: str | None,
    images: Sequence[str],
    name: str,
    control_plane: bool,
) -> None:
    """Exit codes: 0, 1 when something does not come up, 2 for bad input (then nothing was applied)."""
    wait_s = _wait_seconds(wait)
    wish = _wish(paths, images, name, control_plane=control_plane, parent=0 if detach else os.getpid())
    already = running(wish.state)
    if already is not None:
        _say_already_running(already)
        _checked(_with_known_images(wish))
        with exclusively(wish.state):
            _finish(wish, wait_s)
            _remember_manifests(wish, already)
        return
    _checked(wish)
    failed = False
    with exclusively(wish.state):
        with Spoken() as progress:
            record = _started(wish, progress)
        try:
            _finish(wish, wait_s)
        except Stop as stop:
            if detach:
                raise
            sys.stderr.write(f"error: {stop}\n")
            failed = True
        except BaseException:
            if not detach:
                _take_down(wish.state)
            raise
    _say_running(record, wish)
    if not detach:
        ended = failed or _run_until_interrupted(record)
        with exclusively(wish.state):
            tail = log_tail(wish.state.log) if ended and not failed else ""
            _take_down(wish.state)
        if tail:
            sys.stderr.write(f"error: the cluster's process ended by itself\n{tail}\n")
        if ended:
            raise typer.Exit(FAILED)


def apply(paths: Sequence[Path], *, name: str) -> None:
    """Check all, then apply all."""
    wish = _wish(paths, (), name, control_plane=True, parent=0)
    require_running(wish.state)
    _checked(_with_known_images(wish))
    with exclusively(wish.state):
        _finish(wish, None)


def _wish(paths: Sequence[Path], images: Sequence[str], name: str, *, control_plane: bool, parent: int) -> Wish:
    try:
        entrypoints = dict(parse_image_option(text) for text in images)
        documents = load(paths)
    except ValueError as error:
        raise Stop(str(error), BAD_INPUT) from error
    except BadManifests as bad:
        raise _bad(bad) from bad
    manifests = tuple(str(path.resolve()) for path in paths)
    return Wish(state_dir(name), documents, manifests, entrypoints, control_plane, parent)


def _wait_seconds(wait: str | None) -> float | None:
    try:
        return None if wait is None else seconds_from(wait)
    except ValueError as error:
        raise Stop(f"--wait: {error}", BAD_INPUT) from error


def _checked(wish: Wish) -> None:
    try:
        asyncio.run(check_manifests(wish))
    except BadManifests as bad:
        raise _bad(bad) from bad
    except ChartsFailed as error:
        raise Stop(str(error), FAILED) from error


def _bad(bad: BadManifests) -> Stop:
    count = len(bad.problems)
    listed = "\n".join(f"  {problem}" for problem in bad.problems)
    return Stop(f"{count} problem{'s' * (count != 1)} in the manifests, nothing was applied\n{listed}", BAD_INPUT)


def _started(wish: Wish, progress: Spoken) -> Record:
    try:
        return asyncio.run(start(wish, progress))
    except CannotRunHere as error:
        remove_lock(wish.state)
        raise Stop(str(error)) from error
    except (StartFailed, ChartsFailed, Refused) as error:
        raise Stop(str(error)) from error


def _finish(wish: Wish, wait_s: float | None) -> None:
    """Apply the user's objects and wait. Raises Stop."""
    began = time.monotonic()
    with Spoken() as progress:
        try:
            asyncio.run(_apply_and_wait(wish, wait_s, progress))
        except Refused as error:
            raise Stop(f"refused by the cluster: {error}") from error
        except NotReady as error:
            reasons = asyncio.run(_explain(wish.state, error.pending))
            raise Stop(f"{error} ({time.monotonic() - began:.0f} s)\n{reasons}") from error


async def _apply_and_wait(wish: Wish, wait_s: float | None, progress: Spoken) -> None:
    await apply_documents(wish, progress)
    if wait_s is not None:
        progress.step("waiting until everything is ready")
        await wait_for_all(wish.state, wait_s, progress.waiting)
        progress.step("waiting for the first numbers")
        await wait_for_numbers(wish)


async def _explain(state: StateDir, missing: Sequence[Pending]) -> str:
    """Each workload that is not ready, its pods, and the last lines of the container to blame."""
    lines = []
    async with client(state) as kube:
        for one in missing:
            lines.append(f"  {one}")
            for pod in one.pods:
                lines.append(f"    {pod.name}: {pod.why}, {pod.restarts} restarts")
                lines += [f"      | {line}" for line in await last_words(kube, pod)]
    return "\n".join(lines)


def _with_known_images(wish: Wish) -> Wish:
    """The wish with the images that the running cluster was started with. Raises Stop when it brings others."""
    try:
        entrypoints = json.loads(wish.state.order.read_text())["entrypoints"]
    except (OSError, ValueError, KeyError):
        return wish
    known = {name: tuple(words) for name, words in entrypoints.items()}
    for name, words in wish.entrypoints.items():
        if known.get(name) != words:
            message = f"--image {name}: the running cluster was started without it; run `weft local down` first"
            raise Stop(message, BAD_INPUT)
    return replace(wish, entrypoints=known)


def _remember_manifests(wish: Wish, record: Record) -> None:
    current = read_record(wish.state) or record
    manifests = tuple(dict.fromkeys([*current.manifests, *wish.manifests]))
    write_record(wish.state, replace(current, manifests=manifests))


def _run_until_interrupted(record: Record) -> bool:
    """Wait for Ctrl-C, SIGTERM, or the end of the cluster; True when it ended by itself."""
    sys.stderr.write("running; Ctrl-C takes everything down\n")

    async def wait() -> bool:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        handle = os.pidfd_open(record.pid)
        ended = asyncio.Event()
        loop.add_reader(handle, ended.set)
        try:
            waits = [asyncio.ensure_future(event.wait()) for event in (stop, ended)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for one in waits:
                one.cancel()
            return not stop.is_set()
        finally:
            loop.remove_reader(handle)
            os.close(handle)

    try:
        return asyncio.run(wait())
    except ProcessLookupError:
        return True


def _take_down(state: StateDir) -> None:
    with Spoken() as progress:
        progress.step("taking everything down")
        take_down(state, progress.step)
        remove_lock(state)


def _say_already_running(record: Record) -> None:
    minutes, seconds = divmod(int(time.time() - record.started_at), 60)
    which = "" if record.name == "default" else f" --name {record.name}"
    text = f"cluster {record.name!r} is already running: pid {record.pid}, for {minutes}m{seconds}s, API {record.api}"
    if record.manifests:
        text += f", with {', '.join(record.manifests)}"
    typer.echo(f"{text}\nTake it down with `weft local down{which}`.", err=True)


def _say_running(record: Record, wish: Wish) -> None:
    if wish.control_plane:
        typer.echo(f"web UI       {record.web}")
    typer.echo(f"kubeconfig   {wish.state.kubeconfig}")
