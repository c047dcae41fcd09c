"""Service-account tokens: signed here, reviewed here.

A token is a JWT (ES256) bound to a ServiceAccount and usually to a Pod. Reviewing checks the signature, the time, the
audience and that what the token is bound to still exists with the same uid.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from weft_common.kube.resource import ObjectKey

ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
API_AUDIENCE: Final = ISSUER
MIN_SECONDS: Final = 600
ALGORITHM: Final = "ES256"


@dataclass(frozen=True, slots=True)
class BoundObject:
    """What a token lives and dies with."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class User:
    """Who a request or a token is. extra: as in TokenReview."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def as_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"username": self.name, "groups": list(self.groups)}
        if self.uid:
            body["uid"] = self.uid
        if self.extra:
            body["extra"] = {name: list(values) for name, values in self.extra}
        return body


class TokenRejected(Exception):
    """The token proves nothing. The text says why, and never holds the token."""


class TokenAuthority:
    """Signs and reviews tokens with one key.

    uid_of: the uid of an object that exists now, by kind ("ServiceAccount", "Pod") and key; None when it does not.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, uid_of: Callable[[str, ObjectKey], str | None]) -> None:
        self._key = key
        self._uid_of = uid_of
        der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()

    def issue(
        self,
        account: ObjectKey,
        account_uid: str,
        audiences: Sequence[str],
        now_s: int,
        ttl_s: int,
        pod: BoundObject | None,
    ) -> str:
        """A token for these audiences, valid from now for ttl_s seconds."""
        kubernetes: dict[str, Any] = {
            "namespace": account.namespace,
            "serviceaccount": {"name": account.name, "uid": account_uid},
        }
        if pod is not None:
            kubernetes["pod"] = {"name": pod.name, "uid": pod.uid}
        claims = {
            "iss": ISSUER,
            "sub": f"system:serviceaccount:{account.namespace}:{account.name}",
            "aud": list(audiences),
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + ttl_s,
            "kubernetes.io": kubernetes,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self.key_id})

    def review(self, token: str, audiences: Sequence[str]) -> tuple[User, list[str]]:
        """Who the token is, and which of the audiences it is meant for. Raises TokenRejected."""
        try:
            claims = jwt.decode(
                token,
                self._key.public_key(),
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                options={"verify_aud": False, "require": ["exp", "iat", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenRejected("token has expired") from error
        except jwt.InvalidTokenError as error:
            raise TokenRejected(f"invalid bearer token: {error}") from error
        matching = [audience for audience in audiences if audience in claims["aud"]]
        if not matching:
            raise TokenRejected(f"token audiences {claims['aud']} do not include any of {list(audiences)}")
        return self._user(claims["kubernetes.io"]), matching

    def _user(self, bound: dict[str, Any]) -> User:
        namespace = bound["namespace"]
        account = bound["serviceaccount"]
        if self._uid_of("ServiceAccount", ObjectKey(namespace, account["name"])) != account["uid"]:
            raise TokenRejected("the token's service account no longer exists")
        extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
        if pod := bound.get("pod"):
            if self._uid_of("Pod", ObjectKey(namespace, pod["name"])) != pod["uid"]:
                raise TokenRejected("the token's pod no longer exists")
            extra = (
                ("authentication.kubernetes.io/pod-name", (pod["name"],)),
                ("authentication.kubernetes.io/pod-uid", (pod["uid"],)),
            )
        return User(
            name=f"system:serviceaccount:{namespace}:{account['name']}",
            groups=("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"),
            uid=account["uid"],
            extra=extra,
        )

    def jwks(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set."""
        key = jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**key, "use": "sig", "alg": ALGORITHM, "kid": self.key_id}]}
