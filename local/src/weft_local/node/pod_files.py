"""Everything file-like of one pod: its volumes on the host, and what each container sees mounted and set.

Volumes are made once, before the first container; those with content are rewritten when their source changes. Tokens
are kept until they have used up most of their life.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Final

from weft_local.node.container import BindMount, LaunchSpec
from weft_local.node.core.environment import environment, expand
from weft_local.node.core.identity import run_as
from weft_local.node.core.spec import ContainerSpec, Mount, PodSpec
from weft_local.node.core.volumes import TOKEN_RENEW_AT, TokenRequest, files_of, holds_files, token_requests
from weft_local.node.images import argv_of, path_aliases
from weft_local.node.ports import Cluster
from weft_local.node.settings import NodeSettings
from weft_local.node.volume_files import VolumeUnsupported, make_directory, unmount, write_files

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MESSAGE_BYTES: Final = 4096
# Kept from our own environment: what a developer sets to make programs behave, and nothing that tells of this host.
_INHERITED: Final = ("LANG", "LC_ALL", "TZ", "PYTHONPATH", "VIRTUAL_ENV")


class PodFiles:
    """The files of one pod. pod: replaced when the API's object changes."""

    def __init__(self, pod: PodSpec, pod_ip: str, settings: NodeSettings, cluster: Cluster) -> None:
        self.pod = pod
        self._pod_ip = pod_ip
        self._settings = settings
        self._cluster = cluster
        self._root = settings.pod_dir(pod.uid)
        self._volumes: dict[str, Path] = {}
        self._tokens: dict[tuple[str, str], tuple[bytes, float]] = {}
        self._lock = asyncio.Lock()

    async def refresh(self) -> float | None:
        """Bring volumes up to date; the result is in how many seconds a token wants renewal, None for never."""
        async with self._lock:
            if self._volumes:
                await self._write_volumes()
        due = [renew_at for _, renew_at in self._tokens.values()]
        return max(1.0, min(due) - time.time()) if due else None

    async def launch_spec(self, spec: ContainerSpec, netns: Path) -> LaunchSpec:
        """What to start. Raises ReferenceMissing, ImageUnknown, VolumeUnsupported, ValueError, KubeError, OSError."""
        async with self._lock:
            if not self._volumes:
                await self._write_volumes()
        refs = self._cluster.references(self.pod, self._pod_ip)
        env = environment(self.pod, spec, refs, self._base_environment())
        argv = [expand(word, env) for word in argv_of(spec, self._settings.entrypoints)]
        run = run_as(self.pod, spec.security)
        env.setdefault("HOME", "/root" if run.uid == 0 else "/")
        scratch = self._root / "containers" / f"{spec.name}-{os.urandom(4).hex()}"
        mounts = [self._bind(mount, env) for mount in spec.mounts]
        message = self._message_file(spec)
        message.parent.mkdir(parents=True, exist_ok=True)
        message.write_bytes(b"")
        message.chmod(0o666)
        mounts.append(BindMount(message, spec.termination_message_path))
        return LaunchSpec(
            argv=argv,
            env=env,
            cwd=spec.working_dir or str(self._settings.working_dir),
            run_as=run,
            netns=netns,
            hostname=self.pod.hostname,
            scratch=scratch,
            files=self._etc_files(),
            # Shorter paths first, so that a mount below another lands in it and not under it.
            mounts=sorted(mounts, key=lambda m: m.target.count("/")),
            aliases=path_aliases(),
            traverse=_traversed(self._settings.working_dir),
            hide=[self._settings.state_dir],
            readonly_root=spec.security.readonly_root,
        )

    def termination_message(self, spec: ContainerSpec) -> str:
        """What the last run wrote to its terminationMessagePath."""
        try:
            return self._message_file(spec).read_bytes()[:_MESSAGE_BYTES].decode(errors="replace")
        except FileNotFoundError:
            return ""

    def remove(self) -> None:
        """Take everything away; volumes that outlive the pod stay."""
        for path in self._volumes.values():
            if path.is_relative_to(self._root):
                unmount(path)
        shutil.rmtree(self._root, ignore_errors=True)

    async def _write_volumes(self) -> None:
        pod, refs = self.pod, self._cluster.references(self.pod, self._pod_ip)
        made: dict[str, Path] = {}
        for name, volume in pod.volumes.items():
            directory = self._root / "volumes" / name
            if holds_files(volume):
                tokens = {request.path: await self._token(request) for request in token_requests(volume)}
                write_files(directory, files_of(pod, volume, refs, tokens), pod.fs_group)
            elif name in self._volumes:
                directory = self._volumes[name]
            else:
                claims = self._settings.state_dir / "claims" / pod.namespace
                directory = make_directory(directory, volume, claims, pod.fs_group)
            made[name] = directory
        self._root.mkdir(parents=True, exist_ok=True)
        self._volumes = made

    async def _token(self, request: TokenRequest) -> bytes:
        key = (request.path, request.audience)
        known = self._tokens.get(key)
        now = time.time()
        if known is not None and now < known[1]:
            return known[0]
        token = await self._cluster.token(self.pod, request)
        self._tokens[key] = (token, now + TOKEN_RENEW_AT * _lifetime_s(token, request.ttl_s, now))
        return token

    def _bind(self, mount: Mount, env: dict[str, str]) -> BindMount:
        if mount.volume not in self._volumes:
            raise VolumeUnsupported(f"the pod has no volume named {mount.volume!r}, which {mount.path} wants")
        source = self._volumes[mount.volume]
        sub_path = expand(mount.sub_path_expr, env) if mount.sub_path_expr else mount.sub_path
        if sub_path:
            base = source
            source = (base / sub_path).resolve()
            if not source.is_relative_to(base.resolve()):
                raise VolumeUnsupported(f"subPath {sub_path!r} leaves volume {mount.volume!r}")
            if not source.exists():
                source.mkdir(parents=True)
        volume = self.pod.volumes[mount.volume]
        return BindMount(source, mount.path, mount.readonly or holds_files(volume))

    def _message_file(self, spec: ContainerSpec) -> Path:
        return self._root / "messages" / spec.name

    def _base_environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return {
            **inherited,
            "PATH": f"{sys.prefix}/bin:{os.environ.get('PATH') or _PATH}",
            "HOSTNAME": self.pod.hostname,
            # Output of a program that buffers it would reach the log only when its buffer is full.
            "PYTHONUNBUFFERED": "1",
            "KUBERNETES_SERVICE_HOST": self._settings.kubernetes_host,
            "KUBERNETES_SERVICE_PORT": str(self._settings.api_port),
            "KUBERNETES_SERVICE_PORT_HTTPS": str(self._settings.api_port),
        }

    def _etc_files(self) -> dict[str, str]:
        pod, settings = self.pod, self._settings
        domain = settings.cluster_domain
        search = f"{pod.namespace}.svc.{domain} svc.{domain} {domain}"
        resolver = f"search {search}\nnameserver {settings.dns_ip}\noptions ndots:5\n"
        names = pod.hostname
        if pod.subdomain:
            names = f"{pod.hostname}.{pod.subdomain}.{pod.namespace}.svc.{domain} {pod.hostname}"
        hosts = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback", f"{self._pod_ip} {names}"]
        aliases = pod.raw["spec"].get("hostAliases") or ()
        hosts += [f"{alias['ip']} {' '.join(alias.get('hostnames') or ())}" for alias in aliases]
        dns = pod.raw["spec"].get("dnsConfig") or {}
        if pod.raw["spec"].get("dnsPolicy") == "None":
            resolver = "".join(f"nameserver {ip}\n" for ip in dns.get("nameservers") or ())
            if dns.get("searches"):
                resolver += f"search {' '.join(dns['searches'])}\n"
        if dns.get("options"):
            words = [o["name"] + (f":{o['value']}" if o.get("value") else "") for o in dns["options"]]
            resolver += f"options {' '.join(words)}\n"
        return {
            "/etc/resolv.conf": resolver,
            "/etc/hosts": "\n".join(hosts) + "\n",
            "/etc/hostname": f"{pod.hostname}\n",
        }


def _traversed(working_dir: Path) -> list[str]:
    """Directories of this Python installation and its sources, which may lie below a private home."""
    roots = {sys.prefix, sys.base_prefix, str(working_dir), os.path.realpath(sys.executable)}
    roots |= {entry for entry in sys.path if entry.startswith("/")}
    return sorted(roots)


def _lifetime_s(token: bytes, asked_s: int, now: float) -> float:
    """Seconds a token lives, from its own claims: the server may have given less than was asked."""
    try:
        payload = token.split(b".")[1]
        return float(json.loads(urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))["exp"]) - now
    except (IndexError, ValueError, KeyError, TypeError):
        return float(asked_s)
