"""Checks of certificates: trust anchors, issuer, webhook, and the bundles that proxies run with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from weft_cli.core.check_facts import ClusterFacts
from weft_cli.core.check_model import Category, Check, verdict

WARN_DAYS: Final = (7, 30, 60)
SOON: Final = timedelta(days=WARN_DAYS[-1])
NEW_ISSUER: Final = "replace it while traffic flows: weft identity rotate issuer"
NEW_ANCHOR: Final = "replace it while traffic flows: weft identity rotate anchor"
DEAD_ISSUER: Final = (
    "no certificate can be renewed, so connections fail as the ones in use expire. "
    "Recover: weft identity rotate issuer; proxies then renew by themselves"
)
DEAD_ANCHOR: Final = (
    "no certificate can be renewed, so connections fail as the ones in use expire. "
    "Recover: weft identity rotate anchor, then restart the pods that `weft identity rotate status` names"
)
NEW_WEBHOOK: Final = "install the chart weft-injector again, or renew the Secret linkerd-proxy-injector-k8s-tls"


def identity_category(facts: ClusterFacts, now: datetime) -> Category:
    """Trust anchors and issuer."""
    anchors, anchor_problem = _certificates(facts.trust_anchors_pem, "ConfigMap linkerd-identity-trust-roots")
    issuers, issuer_problem = _certificates(facts.issuer_pem, "Secret linkerd-identity-issuer")
    problems = [problem for problem in (anchor_problem, issuer_problem) if problem]
    issuer = issuers[0] if issuers else None
    if issuer is not None and not problems:
        problems += _key_problems(issuer, facts.issuer_key_pem)
    checks = [verdict("certificate config is valid", problems, "install the chart weft-identity again", fatal=True)]
    if problems or issuer is None:
        return Category("linkerd-identity", tuple(checks))
    checks += [
        verdict(
            "trust anchors are using supported crypto algorithm",
            [f"{_name(anchor)} uses {_key(anchor)}" for anchor in anchors if not _is_anchor_key(anchor)],
            "use ECDSA P-256 or RSA",
            fatal=True,
        ),
        verdict(
            "trust anchors are within their validity period",
            [problem for anchor in anchors if (problem := _out_of_time(anchor, now))],
            DEAD_ANCHOR,
            fatal=True,
        ),
        _lasting("trust anchors are valid for at least 60 days", anchors, now, NEW_ANCHOR),
        verdict(
            "issuer cert is using supported crypto algorithm",
            [] if _is_p256(issuer) else [f"{_name(issuer)} uses {_key(issuer)}"],
            "use ECDSA P-256",
            fatal=True,
        ),
        verdict(
            "issuer cert is within its validity period",
            [problem for problem in [_out_of_time(issuer, now)] if problem],
            DEAD_ISSUER,
            fatal=True,
        ),
        _lasting("issuer cert is valid for at least 60 days", [issuer], now, NEW_ISSUER),
        verdict(
            "issuer cert is issued by the trust anchor",
            [] if chains_to_any(issuers, anchors) else [f"{_name(issuer)} is signed by none of {_names(anchors)}"],
            NEW_ISSUER,
        ),
    ]
    return Category("linkerd-identity", tuple(checks))


def webhook_category(facts: ClusterFacts, now: datetime) -> Category:
    """The injector's serving certificate, as the API server will check it."""
    webhook = facts.webhook
    name = "linkerd-webhooks-and-apisvc-tls"
    if webhook is None or webhook.certificate_pem is None:
        # A certificate that is mounted from elsewhere cannot be seen from here.
        return Category(name, ())
    chain, problem = _certificates(webhook.certificate_pem, "Secret linkerd-proxy-injector-k8s-tls")
    bundle, bundle_problem = _certificates(webhook.ca_bundle_pem, "caBundle of the webhook configuration")
    problems = [found for found in (problem, bundle_problem) if found]
    if not problems:
        leaf = chain[0]
        problems += [found for found in [_out_of_time(leaf, now)] if found]
        if webhook.dns_name not in _dns_names(leaf):
            problems.append(f"{_name(leaf)} is not for {webhook.dns_name}")
        if not chains_to_any(chain, bundle):
            problems.append(f"{_name(leaf)} is signed by none of the caBundle")
    checks = [verdict("proxy-injector webhook has valid cert", problems, NEW_WEBHOOK, fatal=True)]
    if not problems:
        checks.append(_lasting("proxy-injector cert is valid for at least 60 days", chain[:1], now, NEW_WEBHOOK))
    return Category(name, tuple(checks))


def data_plane_category(facts: ClusterFacts) -> Category:
    """Whether every proxy trusts what the control plane trusts. Proxies that read the ConfigMap do by definition."""
    anchors, problem = _certificates(facts.trust_anchors_pem, "")
    if problem:
        return Category("linkerd-identity-data-plane", ())
    wanted = _ids(anchors)
    different = []
    for pod in facts.pods:
        if pod.is_terminating or pod.phase != "Running":
            continue
        trusted = facts.reported_trust.get((pod.namespace, pod.name))
        if trusted is None and pod.trust_anchors is not None:
            # A proxy that does not report keeps what its pod was made with.
            trusted = _ids(_certificates(pod.trust_anchors, "")[0])
        if trusted is not None and trusted != wanted:
            different.append(f"{pod.namespace}/{pod.name}")
    problems = [_few("another bundle in ", different)]
    return Category(
        "linkerd-identity-data-plane",
        (
            verdict(
                "data plane proxies certificate match CA",
                problems if different else [],
                "restart these pods to give them the current trust anchors",
                warning=True,
            ),
            verdict(
                "data plane proxies renew their certificates in time",
                [_few("overdue: ", facts.overdue)] if facts.overdue else [],
                "see what keeps them: kubectl logs -n NAMESPACE POD -c linkerd-proxy",
                warning=True,
            ),
        ),
    )


def _few(what: str, names: Sequence[str]) -> str:
    return f"{what}{', '.join(names[:5])}{' and more' if len(names) > 5 else ''}"


def _ids(certificates: Sequence[x509.Certificate]) -> frozenset[str]:
    return frozenset(c.fingerprint(SHA256()).hex() for c in certificates)


def _certificates(pem: str | None, where: str) -> tuple[list[x509.Certificate], str]:
    if pem is None or not pem.strip():
        return [], f"{where} does not exist or is empty"
    try:
        return x509.load_pem_x509_certificates(pem.encode()), ""
    except ValueError as error:
        return [], f"{where} holds no readable certificate: {error}"


def _key_problems(issuer: x509.Certificate, key_pem: str | None) -> list[str]:
    if key_pem is None:
        return ["Secret linkerd-identity-issuer has no private key"]
    try:
        key = load_pem_private_key(key_pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        return [f"the issuer's private key cannot be read: {error}"]
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != issuer.public_key().public_bytes(*form):
        return ["the issuer's private key does not belong to its certificate"]
    return []


def _is_p256(certificate: x509.Certificate) -> bool:
    key = certificate.public_key()
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def _is_anchor_key(certificate: x509.Certificate) -> bool:
    return _is_p256(certificate) or isinstance(certificate.public_key(), rsa.RSAPublicKey)


def _key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    return f"ECDSA {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__.strip("_")


def _out_of_time(certificate: x509.Certificate, now: datetime) -> str:
    if now < certificate.not_valid_before_utc:
        return f"{_name(certificate)} is not valid before {_time(certificate.not_valid_before_utc)}"
    if now > certificate.not_valid_after_utc:
        return f"{_name(certificate)} expired on {_time(certificate.not_valid_after_utc)}"
    return ""


def _lasting(description: str, certificates: Sequence[x509.Certificate], now: datetime, hint: str) -> Check:
    soon = [c for c in certificates if c.not_valid_after_utc < now + SOON]
    problems = [f"{_name(c)} expires on {_time(c.not_valid_after_utc)}{_within(c, now)}" for c in soon]
    return verdict(description, problems, hint, warning=True)


def _within(certificate: x509.Certificate, now: datetime) -> str:
    left = certificate.not_valid_after_utc - now
    days = next((days for days in WARN_DAYS if left < timedelta(days=days)), None)
    return "" if days is None or left <= timedelta() else f", in less than {days} days"


def chains_to_any(chain: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate]) -> bool:
    """Whether the first certificate leads to an anchor, through the others of its chain."""
    current = chain[0]
    for _ in range(len(chain) + 1):
        if any(_fingerprint(current) == _fingerprint(anchor) or _signed_by(current, anchor) for anchor in anchors):
            return True
        parent = next((other for other in chain if other is not current and _signed_by(current, other)), None)
        if parent is None:
            return False
        current = parent
    return False


def _signed_by(child: x509.Certificate, parent: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(parent)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def _fingerprint(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or f"serial {certificate.serial_number:x}"


def _names(certificates: Sequence[x509.Certificate]) -> str:
    return ", ".join(_name(certificate) for certificate in certificates)


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
