"""This proxy's certificate: key and CSR once, then Certify for as long as the process lives (wire.md 4.2).

The token file is read for every request, because the kubelet replaces it. A failure keeps the certificate in use and
never ends the process.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from random import Random

import grpc.aio
from weft_proto.linkerd import identity_pb2
from weft_proto.linkerd.identity_pb2_grpc import IdentityStub
from weft_proto.weft import engine_pb2

from weft_proxy.core.metrics import ControlMetrics, IdentityMetrics
from weft_proxy.core.settings import BackoffSettings, ControlService, IdentitySettings
from weft_proxy.core.timing import Backoff, refresh_after_s
from weft_proxy.core.trust import IssuerSought, Leaf, leaf_from_der
from weft_proxy.files import read_token
from weft_proxy.key_files import KeyAndCsr
from weft_proxy.logs import Logger
from weft_proxy.ports import Cryptography, Engine, EngineFault, LeafRejected
from weft_proxy.trust import TrustBundle

CERTIFY_TIMEOUT_S = 30.0


class CertifyFailed(Exception):
    """No new certificate. unreachable: the service could not be asked, as while it starts."""

    def __init__(self, reason: str, *, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.unreachable = unreachable


class Certifier:
    """Keeps the engine's identity fresh."""

    def __init__(
        self,
        settings: IdentitySettings,
        service: ControlService,
        channel: grpc.aio.Channel,
        pair: KeyAndCsr,
        bundle: TrustBundle,
        engine: Engine,
        cryptography: Cryptography,
        connect_backoff: BackoffSettings,
        identity_metrics: IdentityMetrics,
        control_metrics: ControlMetrics,
        rng: Random,
        log: Logger,
    ) -> None:
        self._settings = settings
        self._service = service
        self._stub = IdentityStub(channel)
        self._pair = pair
        self._bundle = bundle
        self._engine = engine
        self._cryptography = cryptography
        self._metrics = identity_metrics
        self._control = control_metrics
        self._log = log
        # A service that cannot be reached yet is asked again soon, but never less often than a failure is retried.
        capped = min(connect_backoff.max_ms, settings.min_refresh_ms)
        connecting = BackoffSettings(min(connect_backoff.min_ms, capped), capped, connect_backoff.jitter_ratio)
        self._connecting = Backoff(connecting, rng)
        self._sought = IssuerSought(rng)
        self._hurry = asyncio.Event()
        self._leaf: Leaf | None = None

    def issuer_told(self, issuer_id: str, within_s: float) -> None:
        """Another CA certificate signs now: a leaf of the one before is to be replaced within that time."""
        if self._sought.told(issuer_id, within_s, self._leaf):
            self._hurry.set()

    async def run(self, on_certified: Callable[[Leaf], None]) -> None:
        """Never returns. on_certified: after every certificate that the engine took."""
        while True:
            wait_s = await self._once(on_certified)
            await self._wait(wait_s)

    async def _wait(self, wait_s: float) -> None:
        """Until the next certificate is due, or sooner when another issuer signs now."""
        loop = asyncio.get_running_loop()
        due = loop.time() + wait_s
        while loop.time() < due:
            sooner_s = self._sought.wait_s(self._leaf, self._settings.min_refresh_ms / 1000)
            if sooner_s is not None:
                due = min(due, loop.time() + sooner_s)
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._hurry.wait()

    async def _once(self, on_certified: Callable[[Leaf], None]) -> float:
        settings, metrics = self._settings, self._metrics
        try:
            leaf = await self._certify()
            self._engine.apply(engine_pb2.Command(set_identity=leaf))
        except (CertifyFailed, EngineFault) as error:
            metrics.refreshes["error"] += 1
            unreachable = isinstance(error, CertifyFailed) and error.unreachable
            wait_s = self._wait_s()
            if unreachable and (metrics.not_after_s is None or metrics.not_after_s <= time.time()):
                wait_s = min(wait_s, self._connecting.next_s())
            self._log.warning("Could not obtain a certificate", why=str(error), wait_s=round(wait_s, 3))
            return wait_s
        self._connecting.reset()
        metrics.refreshes["ok"] += 1
        metrics.not_after_s, metrics.refreshed_at_s = float(leaf.not_after_s), time.time()
        wait_s = self._wait_s()
        self._log.info("Certified identity", id=settings.local_name, refresh_s=round(wait_s))
        self._leaf = leaf_from_der(leaf.leaf_der, list(leaf.intermediates_der), leaf.not_after_s)
        on_certified(self._leaf)
        return wait_s

    def _wait_s(self) -> float:
        minimum, maximum = self._settings.min_refresh_ms / 1000, self._settings.max_refresh_ms / 1000
        return refresh_after_s(time.time(), self._metrics.not_after_s, minimum, maximum)

    async def _certify(self) -> engine_pb2.SetIdentity:
        """Raises CertifyFailed."""
        response = await self._call(self._request())
        not_after_s = response.valid_until.seconds
        if not response.HasField("valid_until") or not_after_s <= time.time():
            raise CertifyFailed("the answer is expired or has no expiry")
        leaf, intermediates = response.leaf_certificate, list(response.intermediate_certificates)
        anchors, name = self._bundle.pem, self._settings.local_name
        try:
            self._cryptography.verify_leaf(leaf, intermediates, anchors, name)
        except LeafRejected as error:
            raise CertifyFailed(f"the answer does not verify: {error}") from error
        return engine_pb2.SetIdentity(
            leaf_der=leaf,
            intermediates_der=intermediates,
            private_key_pkcs8=self._pair.key,
            not_after_s=not_after_s,
        )

    def _request(self) -> identity_pb2.CertifyRequest:
        try:
            token = read_token(self._settings.token_file)
        except (OSError, ValueError) as error:
            raise CertifyFailed(f"cannot read token: {error}") from error
        return identity_pb2.CertifyRequest(
            identity=self._settings.local_name, token=token, certificate_signing_request=self._pair.csr
        )

    async def _call(self, request: identity_pb2.CertifyRequest) -> identity_pb2.CertifyResponse:
        call = self._control.started(self._service)
        status = grpc.StatusCode.CANCELLED
        try:
            response = await self._stub.Certify(request, timeout=CERTIFY_TIMEOUT_S)
            status = grpc.StatusCode.OK
            call.answered()
        except grpc.aio.AioRpcError as error:
            status = error.code()
            unreachable = status is grpc.StatusCode.UNAVAILABLE
            raise CertifyFailed(f"{status.name}: {error.details()}", unreachable=unreachable) from error
        finally:
            call.ended((status.name, status.value[0]))
        return response
