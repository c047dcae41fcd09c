"""Keeps the trust bundle current while the proxy runs, and tells the identity service what is trusted.

Two sources, each heeded when it changes: a mounted file, where there is one, and the stream `weft.identity.v1.Trust`.
The last bundle is kept in the identity folder, because the environment still holds the one the pod was made with when
the container starts again. Linkerd's identity service has no such stream; then the bundle of the start stays.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import grpc.aio
from weft_proto.weft import engine_pb2, identity_pb2
from weft_proto.weft.identity_pb2_grpc import TrustStub

from weft_proxy import VERSION
from weft_proxy.core.metrics import ControlMetrics
from weft_proxy.core.settings import BackoffSettings, ControlService, IdentitySettings
from weft_proxy.core.timing import Backoff
from weft_proxy.core.trust import Leaf, anchor_ids
from weft_proxy.files import read_token, text_or_none, write_private
from weft_proxy.logs import Logger
from weft_proxy.ports import Engine, EngineFault

BUNDLE_FILE = "trust-anchors.pem"
FILE_CHECK_S = 1.0


def bundle_at_start(settings: IdentitySettings, log: Logger) -> str:
    """The bundle an earlier run of this pod's proxy took up, else the environment's."""
    kept = Path(settings.directory) / BUNDLE_FILE
    try:
        bundle = kept.read_text()
        if anchor_ids(bundle):
            return bundle
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        log.warning("The kept trust bundle cannot be used", file=str(kept), why=str(error))
    return settings.trust_anchors_pem


class TrustBundle:
    """The bundle in use. Readers: the certificate loop, which checks answers, and the reports."""

    def __init__(self, pem: str, settings: IdentitySettings, engine: Engine, log: Logger) -> None:
        self.pem = pem
        self._settings = settings
        self._engine = engine
        self._log = log
        self.changed: Callable[[], None] = lambda: None

    @property
    def ids(self) -> list[str]:
        """Of its anchors."""
        return anchor_ids(self.pem)

    def take_up(self, pem: str, source: str) -> None:
        """Trust this bundle from now on; one that cannot be used leaves the old one in use."""
        if pem == self.pem:
            return
        try:
            ids = anchor_ids(pem)
            self._engine.apply(engine_pb2.Command(set_trust_anchors=engine_pb2.SetTrustAnchors(pem=pem)))
        except (EngineFault, ValueError) as error:
            self._log.warning("New trust bundle not used", source=source, why=str(error))
            return
        self.pem = pem
        self._log.info("Trust bundle taken up", source=source, anchors=",".join(i[:12] for i in ids))
        with contextlib.suppress(OSError):
            # A folder that cannot be written was said when the key was made.
            write_private(Path(self._settings.directory) / BUNDLE_FILE, pem.encode())
        self.changed()


async def follow_file(path: str, bundle: TrustBundle) -> None:
    """Never returns. The kubelet swaps mounted files whole; absent is nothing new."""
    seen = ""
    while True:
        text = text_or_none(path)
        if text is not None and text != seen:
            seen = text
            bundle.take_up(text, path)
        await asyncio.sleep(FILE_CHECK_S)


class TrustFollower:
    """One stream to the identity service, opened again whenever it ends."""

    def __init__(
        self,
        settings: IdentitySettings,
        service: ControlService,
        channel: grpc.aio.Channel,
        bundle: TrustBundle,
        backoff: BackoffSettings,
        lifetime_ms: int | None,
        metrics: ControlMetrics,
        rng: Random,
        log: Logger,
    ) -> None:
        self._settings = settings
        self._service = service
        self._stub = TrustStub(channel)
        self._bundle = bundle
        self._backoff = Backoff(backoff, rng)
        self._lifetime_s = None if lifetime_ms is None else lifetime_ms / 1000
        self._metrics = metrics
        self._log = log
        self._leaf: Leaf | None = None
        self._news = asyncio.Event()
        bundle.changed = self._news.set

    def leaf_changed(self, leaf: Leaf) -> None:
        """To be reported."""
        self._leaf = leaf
        self._news.set()

    async def run(self, issuer_told: Callable[[str, float], None]) -> None:
        """Returns only when the service has no such stream. issuer_told: who signs now, and how soon to follow."""
        failing = False
        while True:
            code, detail = await self._once(issuer_told)
            if code is grpc.StatusCode.UNIMPLEMENTED:
                self._log.info("This identity service tells no trust bundle; the one of the start stays")
                return
            if code is not grpc.StatusCode.OK and not failing:
                self._log.warning("Trust stream ended, trying again", code=code.name, why=detail)
            failing = code is not grpc.StatusCode.OK
            await asyncio.sleep(self._backoff.next_s())

    async def _once(self, issuer_told: Callable[[str, float], None]) -> tuple[grpc.StatusCode, str]:
        try:
            token = read_token(self._settings.token_file)
        except (OSError, ValueError) as error:
            return grpc.StatusCode.UNAUTHENTICATED, f"cannot read token: {error}"
        call = self._stub.Follow(self._reports(token))
        counted = self._metrics.started(self._service)
        code, detail = grpc.StatusCode.OK, ""
        try:
            async with asyncio.timeout(self._lifetime_s):
                async for update in call:
                    counted.answered()
                    self._backoff.reset()
                    self._bundle.take_up(update.bundle_pem, "identity")
                    issuer_told(update.issuer_id, float(update.renew_within_s))
        except TimeoutError:
            detail = "reached its lifetime"
        except grpc.aio.AioRpcError as error:
            code, detail = error.code(), error.details() or ""
        finally:
            call.cancel()
            counted.ended((code.name, code.value[0]))
        return code, detail

    async def _reports(self, token: bytes) -> AsyncIterator[identity_pb2.ProxyReport]:
        while True:
            self._news.clear()
            yield self._report(token)
            token = b""
            await self._news.wait()

    def _report(self, token: bytes) -> identity_pb2.ProxyReport:
        report = identity_pb2.ProxyReport(
            identity=self._settings.local_name,
            token=token,
            trusted_anchors=self._bundle.ids,
            proxy=f"weft-proxy/{VERSION}",
        )
        if self._leaf is not None:
            report.leaf_serial, report.leaf_issuer_id = self._leaf.serial, self._leaf.issuer_id
            report.leaf_not_after.FromSeconds(self._leaf.not_after_s)
        return report
