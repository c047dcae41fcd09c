"""Settings of the identity service: one table, environment to typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

from weft_common.settings import Setting, boolean, choice, duration, port, read_settings, text

DEFAULT_ISSUER_DIR: Final = Path("/var/run/linkerd/identity/issuer")
DEFAULT_TRUST_ROOTS_FILE: Final = Path("/var/run/linkerd/identity/trust-roots/ca-bundle.crt")
DEFAULT_ISSUANCE_LIFETIME: Final = timedelta(hours=24)
DEFAULT_CLOCK_SKEW_ALLOWANCE: Final = timedelta(seconds=20)


def _positive_duration(value: str) -> timedelta:
    found = duration(value)
    if not found:
        raise ValueError("expected a duration above 0, such as 24h")
    return found


TABLE: Final[tuple[Setting[Any], ...]] = (
    Setting("WEFT_GRPC_PORT", port, 8080, "Port of the Certify API."),
    Setting("WEFT_ADMIN_PORT", port, 9990, "Port of /live, /ready and /metrics."),
    Setting("WEFT_TRUST_DOMAIN", text, "cluster.local", "Trust domain: the last part of every identity."),
    Setting("WEFT_CONTROL_PLANE_NAMESPACE", text, "linkerd", "Namespace of the control plane; part of identities."),
    Setting("WEFT_ISSUER_DIR", Path, DEFAULT_ISSUER_DIR, "Directory with crt.pem and key.pem, or tls.crt and tls.key."),
    Setting("WEFT_TRUST_ROOTS_FILE", Path, DEFAULT_TRUST_ROOTS_FILE, "PEM bundle that the issuer must chain to."),
    Setting("WEFT_ISSUANCE_LIFETIME", _positive_duration, DEFAULT_ISSUANCE_LIFETIME, "Lifetime of a leaf."),
    Setting(
        "WEFT_CLOCK_SKEW_ALLOWANCE",
        duration,
        DEFAULT_CLOCK_SKEW_ALLOWANCE,
        "Added before and after a leaf's lifetime, for peers whose clocks run apart.",
    ),
    Setting(
        "WEFT_ACCEPT_API_TOKENS",
        boolean,
        False,
        "Also certify holders of the API server's own tokens, for pods without a token made for the mesh.",
    ),
    Setting("WEFT_REDIS_URL", text, "", "Redis for the certificate inventory, see docs/redis.md; empty keeps none."),
    Setting("WEFT_LOG_LEVEL", text, "info", "debug, info, warning or error."),
    Setting("WEFT_LOG_FORMAT", choice("json", "console"), "json", "json or console."),
)


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """The table's values, by meaning."""

    grpc_port: int
    admin_port: int
    trust_domain: str
    control_plane_namespace: str
    issuer_dir: Path
    trust_roots_file: Path
    issuance_lifetime: timedelta
    clock_skew_allowance: timedelta
    accept_api_tokens: bool
    redis_url: str
    log_level: str
    log_format: Literal["json", "console"]


def settings_from_environ(environ: Mapping[str, str]) -> IdentitySettings:
    """Raises SettingsError listing every mistake."""
    values = read_settings(TABLE, environ)
    return IdentitySettings(**{name.removeprefix("WEFT_").lower(): value for name, value in values.items()})
