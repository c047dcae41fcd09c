"""What a rotation replaces with what: from the CA files people have to the two sides that the state machine works on.

Pure: PEM text and the moment in, values or BadInput out. Private keys pass through as PEM and are in no message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from weft_local.cluster.pki import Credentials, certificate_authority
from weft_proto.weft import identity_pb2 as pb

from weft_cli.core.check_certificates import chains_to_any
from weft_cli.errors import BadInput

ANCHOR_NAME: Final = "root.linkerd.{domain}"
ISSUER_NAME: Final = "identity.linkerd.{domain}"
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Issuer:
    """A pair as the issuer Secret holds it. certificate_pem: the issuer first, toward the anchor."""

    certificate_pem: str
    key_pem: str

    @property
    def id(self) -> str:
        """SHA-256 of the certificate that signs."""
        return x509.load_pem_x509_certificate(self.certificate_pem.encode()).fingerprint(hashes.SHA256()).hex()


@dataclass(frozen=True, slots=True)
class Current:
    """What the cluster has now."""

    bundle_pem: str
    issuer: Issuer


@dataclass(frozen=True, slots=True)
class Plan:
    """bundle_pem, issuer: of the new side. made_anchor: a new anchor whose key has to be kept by somebody."""

    kind: pb.RotationState.Kind.ValueType
    current: Current
    bundle_pem: str
    issuer: Issuer
    made_anchor: Credentials | None = None


@dataclass(frozen=True, slots=True)
class CaFile:
    """Certificates and the one key of a PEM file. owner: the certificate the key belongs to."""

    certificates: tuple[x509.Certificate, ...]
    owner: x509.Certificate
    key: Key

    @property
    def is_anchor(self) -> bool:
        """Whether the key is that of a self-signed certificate."""
        return self.owner.subject == self.owner.issuer

    @property
    def anchors(self) -> list[x509.Certificate]:
        """The self-signed ones."""
        return [c for c in self.certificates if c.subject == c.issuer]

    @property
    def issuer(self) -> Issuer:
        """The owner and what leads to its anchor."""
        between = [c for c in self.certificates if c != self.owner and c.subject != c.issuer]
        return Issuer(_pem(self.owner, *between), _key_pem(self.key))


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Of CA certificates that are made."""

    anchor: timedelta
    issuer: timedelta


def ca_file(text: str, where: str) -> CaFile:
    """Raises BadInput unless the text holds CA certificates and the private key of one of them."""
    try:
        certificates = tuple(x509.load_pem_x509_certificates(text.encode()))
    except ValueError as error:
        raise BadInput(f"{where} holds no readable PEM certificate") from error
    start = text.find("-----BEGIN", text.find("PRIVATE KEY") - 20)
    try:
        key = serialization.load_pem_private_key(text[start:].encode(), password=None)
    except (ValueError, TypeError) as error:
        raise BadInput(
            f"{where} holds no unencrypted PEM private key", hint="put the certificates and the key into one file"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise BadInput(f"{where}: the key must be ECDSA or RSA")
    owner = next((c for c in certificates if c.public_key() == key.public_key()), None)
    if owner is None:
        raise BadInput(f"{where}: the private key belongs to none of its certificates")
    return CaFile(certificates, owner, key)


def plan_anchor(current: Current, given: CaFile | None, domain: str, now: datetime, lives: Lifetimes) -> Plan:
    """A new anchor, or the one given, and an issuer below it. Raises BadInput."""
    kind = pb.RotationState.ANCHOR
    if given is None:
        anchor = certificate_authority(ANCHOR_NAME.format(domain=domain), now, None, lives.anchor)
        made = _issuer_below(anchor, domain, now, lives)
        return Plan(kind, current, anchor.certificate_pem, made, anchor)
    if not given.anchors:
        raise BadInput("the file has no self-signed certificate, so no trust anchor")
    bundle = _pem(*given.anchors)
    if given.is_anchor:
        return Plan(kind, current, bundle, _issuer_below(_credentials(given), domain, now, lives))
    if not chains_to_any([given.owner, *given.certificates], given.anchors):
        raise BadInput(f"{given.owner.subject.rfc4514_string()} is not signed by the anchor in the file")
    return Plan(kind, current, bundle, given.issuer)


def plan_issuer(current: Current, given: CaFile, domain: str, now: datetime, lives: Lifetimes) -> Plan:
    """The issuer given, or a new one signed by the anchor given. Raises BadInput."""
    anchors = x509.load_pem_x509_certificates(current.bundle_pem.encode())
    if given.is_anchor:
        if given.owner not in anchors:
            raise BadInput(
                f"{given.owner.subject.rfc4514_string()} is no anchor of this mesh",
                hint="to make it one:  weft identity rotate anchor --to FILE",
            )
        issuer = _issuer_below(_credentials(given), domain, now, lives)
    else:
        if not chains_to_any([given.owner, *given.certificates], anchors):
            raise BadInput(
                f"{given.owner.subject.rfc4514_string()} is signed by none of the mesh's anchors",
                hint="to bring its anchor along:  weft identity rotate anchor --to FILE",
            )
        issuer = given.issuer
    if issuer.id == current.issuer.id:
        raise BadInput("that issuer is in use already")
    return Plan(pb.RotationState.ISSUER, current, current.bundle_pem, issuer)


def state_of(plan: Plan, rotation_id: str, now: datetime) -> pb.RotationState:
    """The state as it begins."""
    state = pb.RotationState(
        id=rotation_id,
        kind=plan.kind,
        stage=pb.RotationState.PUBLISH,
        to=pb.RotationSide(name="new", bundle_pem=plan.bundle_pem, issuer_id=plan.issuer.id),
    )
    old = pb.RotationSide(name="old", bundle_pem=plan.current.bundle_pem, issuer_id=plan.current.issuer.id)
    getattr(state, "from").CopyFrom(old)
    state.started_at.FromDatetime(now)
    state.stage_since.FromDatetime(now)
    return state


def keys_of(plan: Plan) -> dict[str, str]:
    """Contents of the rotation's Secret."""
    return {
        "old.crt": plan.current.issuer.certificate_pem,
        "old.key": plan.current.issuer.key_pem,
        "new.crt": plan.issuer.certificate_pem,
        "new.key": plan.issuer.key_pem,
    }


def _issuer_below(anchor: Credentials, domain: str, now: datetime, lives: Lifetimes) -> Issuer:
    issuer = certificate_authority(ISSUER_NAME.format(domain=domain), now, anchor, lives.issuer)
    return Issuer(issuer.certificate_pem, issuer.key_pem)


def _credentials(given: CaFile) -> Credentials:
    if not isinstance(given.key, ec.EllipticCurvePrivateKey):
        raise BadInput(
            "an issuer can be made here below an ECDSA anchor only",
            hint="make the issuer yourself and pass its certificate, its key and the anchor's certificate",
        )
    return Credentials(given.owner, given.key)


def _pem(*certificates: x509.Certificate) -> str:
    return "".join(c.public_bytes(serialization.Encoding.PEM).decode() for c in certificates)


def _key_pem(key: Key) -> str:
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*form).decode()


def managed_by(labels_and_annotations: Sequence[dict[str, str]]) -> str:
    """Who else writes an object, which a rotation must then not: cert-manager or trust-manager; empty for nobody."""
    for fields in labels_and_annotations:
        if "cert-manager.io/certificate-name" in fields:
            return "cert-manager"
        if any(name.startswith("trust.cert-manager.io/") for name in fields):
            return "trust-manager"
    return ""
