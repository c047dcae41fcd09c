"""Starts one container: namespaces, mounts, identity, exec. Run as a file, `python -I -S launch.py SPEC STATUS_FD`.

Runs once per container start, so it imports a handful of standard modules and nothing of Weft. It decides nothing: the
specification says what to mount and whom to become. Two processes take part. The outer one stays in the host's
namespaces, waits and reports; the inner one is process 1 of the container's own pid namespace, so its end is the end of
everything the container started. Both die with their parent.

Reports on STATUS_FD, one JSON object a line: {"pid": host pid} when the program runs, {"error": text} when it could
not be started, {"exit": code} when it ended (128 + signal when a signal ended it). With `exec` in place of STATUS_FD it
runs one more command inside a running container, reports failure on standard error and passes the exit code on.
"""

# pathlib would cost a quarter of this program's start time, and starting a process is its purpose.
# ruff: noqa: PTH101, PTH102, PTH103, PTH108, PTH110, PTH112, PTH114, PTH115, PTH116, PTH120, PTH123, PTH211, S606
from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import stat
import sys

# Annotations below are never evaluated, so this name needs to exist for the type checker only.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Spec = dict[str, Any]

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 1, 8, 24, 38, 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

# Mounted afresh in every container, so the host's are not carried over.
OWN_MOUNTS = ("/proc", "/sys", "/dev", "/run")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# Kernel views, not data: nothing a container's files could live on.
PSEUDO_FILESYSTEMS = frozenset(
    [
        "proc",
        "sysfs",
        "devtmpfs",
        "devpts",
        "tmpfs",
        "cgroup",
        "cgroup2",
        "mqueue",
        "debugfs",
        "tracefs",
        "securityfs",
        "bpf",
        "pstore",
        "configfs",
        "fusectl",
        "hugetlbfs",
        "autofs",
        "binfmt_misc",
        "nsfs",
        "efivarfs",
        "rpc_pipefs",
    ]
)

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Raise OSError with errno's text when a libc call failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    check(
        libc.mount(source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode()),
        f"mount {source} on {target}",
    )


def join(path: str, kind: int) -> None:
    """Enter the namespace that a file stands for."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        check(libc.setns(fd, kind), f"enter {path}")
    finally:
        os.close(fd)


def inside(root: str, path: str) -> str:
    """Where an absolute path of the container lies below root, with the container's symlinks followed inside root.

    A plain join would follow an absolute symlink such as /var/run out to the host.
    """
    done: list[str] = []
    parts = [part for part in path.split("/") if part][::-1]
    hops = 0
    while parts:
        part = parts.pop()
        if part == ".":
            continue
        if part == "..":
            done = done[:-1]
            continue
        candidate = "/".join([root, *done, part])
        if os.path.islink(candidate):
            hops += 1
            if hops > 40:
                raise OSError(errno.ELOOP, f"{path}: too many symbolic links")
            target = os.readlink(candidate)
            if target.startswith("/"):
                done = []
            parts += [step for step in target.split("/") if step][::-1]
            continue
        done.append(part)
    return "/".join([root, *done])


def overlay(lower: str, target: str, scratch: str, name: str) -> None:
    """A private writable view of lower at target; changed files go below scratch."""
    upper, work = f"{scratch}/{name}.upper", f"{scratch}/{name}.work"
    os.makedirs(upper, exist_ok=True)
    os.makedirs(work, exist_ok=True)
    mount("overlay", target, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")


def build_root(spec: Spec) -> str:
    """The container's root: the host's files, privately writable, with its own /proc, /sys, /run and volumes."""
    mount("", "/", "", MS_REC | MS_PRIVATE)
    scratch, root = spec["scratch"], spec["scratch"] + "/root"
    os.makedirs(root, exist_ok=True)
    try:
        overlay("/", root, scratch, "base")
    except OSError:
        # The state directory lies on a filesystem that cannot hold an upper layer, such as another overlay.
        mount("tmpfs", scratch, "tmpfs", 0, "mode=755")
        os.makedirs(root, exist_ok=True)
        overlay("/", root, scratch, "base")
    for number, point in enumerate(data_mounts(spec["hide"])):
        at = inside(root, point)
        try:
            overlay(point, at, scratch, f"mount{number}")
        except OSError:
            bind(point, at, readonly=True)
    for path in spec["traverse"]:
        allow_traversal(root, path)
    for path in spec["hide"]:
        if os.path.isdir(at := inside(root, path)):
            mount("tmpfs", at, "tmpfs", MS_RDONLY, "mode=755,size=4k")
    build_dev(f"{root}/dev")
    mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", f"{root}/sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("tmpfs", f"{root}/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for path, target in spec["aliases"].items():
        at = inside(root, path)
        os.makedirs(os.path.dirname(at), exist_ok=True)
        if not os.path.lexists(at):
            os.symlink(target, at)
    for path, text in spec["files"].items():
        at = f"{root}{path}"
        os.makedirs(os.path.dirname(at), exist_ok=True)
        if os.path.lexists(at):
            os.unlink(at)
        with open(at, "w", encoding="utf-8") as file:
            file.write(text)
    for item in spec["mounts"]:
        place(root, item)
    if spec["readonly_root"]:
        mount("", root, "", MS_REMOUNT | MS_BIND | MS_RDONLY)
    return str(root)


def build_dev(dev: str) -> None:
    """A /dev of the container's own: the harmless devices, private shared memory, nothing of the host's disks."""
    mount("tmpfs", dev, "tmpfs", MS_NOSUID, "mode=755,size=64k")
    for name in DEVICES:
        if os.path.exists(f"/dev/{name}"):
            os.close(os.open(f"{dev}/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
            mount(f"/dev/{name}", f"{dev}/{name}", "", MS_BIND)
    os.mkdir(f"{dev}/pts")
    mount("/dev/pts", f"{dev}/pts", "", MS_BIND)
    os.symlink("pts/ptmx", f"{dev}/ptmx")
    os.mkdir(f"{dev}/shm")
    mount("tmpfs", f"{dev}/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{dev}/{name}")


def data_mounts(hidden: list[str]) -> list[str]:
    """Mount points of the host that hold data: an overlay of / shows only empty directories there."""
    points = []
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields, _, kind = line.partition(" - ")
            point = fields.split()[4].encode().decode("unicode_escape")
            below = (*OWN_MOUNTS, *hidden)
            if point == "/" or kind.split()[0] in PSEUDO_FILESYSTEMS:
                continue
            if not any(point == top or point.startswith(top + "/") for top in below) and os.path.isdir(point):
                points.append(point)
    return sorted(set(points))


def allow_traversal(root: str, path: str) -> None:
    """Let every user pass through the ancestors of path, in the container's view only."""
    while path not in ("/", ""):
        at = root + path
        try:
            mode = stat.S_IMODE(os.stat(at).st_mode)
            wanted = mode | 0o011
            if mode != wanted and os.path.isdir(at):
                os.chmod(at, wanted)
        except OSError:
            pass  # an entry of sys.path that does not exist
        path = os.path.dirname(path)


def place(root: str, item: Spec) -> None:
    """Bind one volume to its path, making the path when the image has none."""
    target = inside(root, item["target"])
    if os.path.isdir(item["source"]):
        os.makedirs(target, exist_ok=True)
    elif not os.path.lexists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    bind(item["source"], target, readonly=item["readonly"])


def bind(source: str, target: str, *, readonly: bool) -> None:
    """A bind mount; read-only needs a second call, since the first ignores the flag."""
    mount(source, target, "", MS_BIND | MS_REC)
    if readonly:
        mount("", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY)


def enter_root(root: str) -> None:
    """Make root the only file tree there is."""
    os.chdir(root)
    number = PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        os.chroot(".")
    else:
        check(libc.syscall(number, b".", b"."), "pivot_root")
        check(libc.umount2(b".", MNT_DETACH), "detach the host's root")
    os.chdir("/")


class CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def set_capabilities(mask: int) -> None:
    """Effective, permitted and inheritable sets."""
    data = (CapData * 2)()
    for word in range(2):
        part = (mask >> (32 * word)) & 0xFFFFFFFF
        data[word].effective = data[word].permitted = data[word].inheritable = part
    check(libc.capset(ctypes.byref(CapHeader(CAPABILITY_VERSION_3, 0)), data), "capset")


def become(spec: Spec) -> None:
    """Drop to the container's user and capabilities. Order matters: the bounding set needs root, ambient needs uid."""
    bounding, ambient = spec["bounding"], spec["ambient"]
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    for number in range(last + 1):
        if not bounding >> number & 1:
            check(libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0), "drop from the bounding set")
    os.setgroups(spec["groups"])
    check(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities")
    os.setresgid(spec["gid"], spec["gid"], spec["gid"])
    os.setresuid(spec["uid"], spec["uid"], spec["uid"])
    usable = (1 << (last + 1)) - 1
    set_capabilities((bounding if spec["uid"] == 0 else ambient) & usable)
    for number in range(last + 1):
        if ambient >> number & 1:
            check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0), "raise an ambient capability")
    if spec["no_new_privs"]:
        check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    # Changing identity cleared it.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def run_inner(spec: Spec) -> None:
    """Become the container's program; returns only by raising."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.setsid()
    if spec["tty"]:
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if spec["enter_pid"] is None:
        join(spec["netns"], CLONE_NEWNET)
        check(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC), "unshare")
        name = spec["hostname"].encode()
        check(libc.sethostname(name, len(name)), "sethostname")
        enter_root(build_root(spec))
    for fd in (0, 1, 2):
        try:
            if not stat.S_ISCHR(os.fstat(fd).st_mode) or spec["tty"]:
                # A program may open /dev/stdout by name, which asks for permission again.
                os.fchown(fd, spec["uid"], spec["gid"])
        except OSError:
            pass
    if spec["enter_pid"] is None:
        os.makedirs(inside("", spec["cwd"]) or "/", exist_ok=True)
    become(spec)
    os.chdir(spec["cwd"])
    os.umask(0o022)
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execvpe(spec["argv"][0], spec["argv"], spec["env"])


def main() -> int:
    """The outer process."""
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    entering = sys.argv[2] == "exec"
    status_fd = 2 if entering else int(sys.argv[2])
    if entering:
        os.unlink(sys.argv[1])
    else:
        os.set_inheritable(status_fd, False)

    def report(fact: Spec) -> None:
        if not entering:
            os.write(status_fd, json.dumps(fact).encode() + b"\n")
        elif "error" in fact:
            os.write(2, fact["error"].encode() + b"\n")

    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if spec["enter_pid"] is None:
            check(libc.unshare(CLONE_NEWPID), "unshare")
        else:
            base = f"/proc/{spec['enter_pid']}/ns"
            # The mount namespace comes last: after it, /proc is the container's.
            for name, kind in (
                ("pid", CLONE_NEWPID),
                ("net", CLONE_NEWNET),
                ("uts", CLONE_NEWUTS),
                ("ipc", CLONE_NEWIPC),
                ("mnt", CLONE_NEWNS),
            ):
                join(f"{base}/{name}", kind)
        # Closed by a successful exec, so its end of file says that the program runs.
        failure_read, failure_write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(failure_read)
            try:
                run_inner(spec)
            except OSError as error:
                what = error.strerror or str(error)
                os.write(failure_write, (f"{error.filename}: {what}" if error.filename else what).encode())
            except BaseException as error:
                os.write(failure_write, repr(error).encode())
            os._exit(127)
        os.close(failure_write)
        failure = os.read(failure_read, 4096).decode(errors="replace")
        if failure:
            report({"error": failure})
            os.waitpid(child, 0)
            return 126 if entering else 127
        report({"pid": child})
    except OSError as error:
        report({"error": str(error)})
        return 127
    # The program holds its own copies; ours would keep a reader of the output waiting.
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    while True:
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            break
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    report({"exit": code})
    return code


if __name__ == "__main__":
    sys.exit(main())
