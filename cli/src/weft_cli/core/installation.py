"""Installations as values: what an upgrade starts from, what an object is called, what no longer belongs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509

Raw = Mapping[str, Any]

# Deleted first: while a webhook is registered and its pods are gone, nothing it watches can be created.
_FIRST: Final = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "APIService")
RENEWED_BEFORE_END: Final = timedelta(days=60)
_LAST: Final = ("Namespace", "CustomResourceDefinition")


@dataclass(frozen=True, slots=True)
class ObjectName:
    """Identity of an object in a cluster. group: of its apiVersion; versions of one group are the same object."""

    group: str
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Installed:
    """What an upgrade keeps. PEM texts; None where the cluster has none. overrides: values that were asked for."""

    overrides: Mapping[str, Any]
    trust_anchors: str | None
    issuer: tuple[str, str] | None
    webhooks: Mapping[str, tuple[str, str, str]]
    """Certificate, key and CA by the group of values that gives them, such as proxyInjector."""


def is_worn_out(certificate_pem: str, now: datetime) -> bool:
    """Whether an upgrade should replace a webhook's certificate: one that Helm made (it signs itself), near its end."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return certificate.issuer == certificate.subject and certificate.not_valid_after_utc - now < RENEWED_BEFORE_END


def name_of(obj: Raw) -> ObjectName:
    """Of a whole object."""
    group, slash, _ = obj["apiVersion"].rpartition("/")
    metadata = obj["metadata"]
    return ObjectName(group if slash else "", obj["kind"], metadata.get("namespace", ""), metadata["name"])


def upgrade_values(installed: Installed) -> dict[str, Any]:
    """Values that render what is installed, in the form of a values file."""
    values = dict(installed.overrides)
    if installed.trust_anchors:
        values["identityTrustAnchorsPEM"] = installed.trust_anchors
    if installed.issuer:
        certificate, key = installed.issuer
        identity = dict(values.get("identity") or {})
        identity["issuer"] = {**(identity.get("issuer") or {}), "tls": {"crtPEM": certificate, "keyPEM": key}}
        values["identity"] = identity
    for group, (certificate, key, authority) in installed.webhooks.items():
        given = values.get(group) or {}
        values[group] = {**given, "crtPEM": certificate, "keyPEM": key, "caBundle": authority}
    return {"global": values}


def fresh_values(trust_anchors: str, issuer_certificate: str, issuer_key: str) -> dict[str, Any]:
    """Values of a first installation."""
    return upgrade_values(Installed({}, trust_anchors, (issuer_certificate, issuer_key), {}))


def left_over(present: Iterable[Raw], rendered: Iterable[Raw]) -> list[Raw]:
    """Objects in the cluster that the charts do not render, in the order to delete them."""
    wanted = {name_of(obj) for obj in rendered}
    return in_deletion_order(obj for obj in present if name_of(obj) not in wanted)


def in_deletion_order(objects: Iterable[Raw]) -> list[Raw]:
    """Webhooks first, namespaces and definitions last."""

    def rank(obj: Raw) -> tuple[int, str, str, str]:
        kind = obj["kind"]
        place = 0 if kind in _FIRST else 2 + _LAST.index(kind) if kind in _LAST else 1
        name = name_of(obj)
        return place, kind, name.namespace, name.name

    return sorted(objects, key=rank)


def reference(obj: Raw) -> dict[str, Any]:
    """Just enough of an object to delete it."""
    metadata = {key: obj["metadata"][key] for key in ("name", "namespace") if obj["metadata"].get(key)}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata}
