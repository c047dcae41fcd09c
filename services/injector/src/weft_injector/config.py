"""Settings of the injector, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from weft_common.settings import Setting, choice, port, read_settings, text


@dataclass(frozen=True, slots=True)
class InjectorSettings:
    """See SETTINGS for meanings and defaults."""

    webhook_port: int
    policy_port: int
    profile_port: int
    admin_port: int
    tls_dir: Path
    policy_tls_dir: Path
    profile_tls_dir: Path
    values_file: Path
    trust_roots_file: Path
    control_plane_namespace: str
    log_level: str
    log_format: Literal["json", "console"]


SETTINGS: Final = (
    Setting("WEFT_WEBHOOK_PORT", port, 8443, "port of the injecting webhook, HTTPS"),
    Setting("WEFT_POLICY_WEBHOOK_PORT", port, 9443, "port of the webhook that validates policy and routes, HTTPS"),
    Setting("WEFT_PROFILE_WEBHOOK_PORT", port, 9444, "port of the webhook that validates ServiceProfiles, HTTPS"),
    Setting("WEFT_ADMIN_PORT", port, 9995, "port of /ping, /live, /ready and /metrics"),
    Setting(
        "WEFT_TLS_DIR", Path, Path("/var/run/linkerd/tls"), "folder with tls.crt and tls.key, read again on change"
    ),
    Setting("WEFT_POLICY_TLS_DIR", Path, Path("/var/run/linkerd/policy-tls"), "the same, of the policy webhook"),
    Setting("WEFT_PROFILE_TLS_DIR", Path, Path("/var/run/linkerd/profile-tls"), "the same, of the profile webhook"),
    Setting(
        "WEFT_VALUES_FILE",
        Path,
        Path("/var/run/linkerd/config/values"),
        "chart values as YAML, read again for every request",
    ),
    Setting(
        "WEFT_TRUST_ROOTS_FILE",
        Path,
        Path("/var/run/linkerd/identity/trust-roots/ca-bundle.crt"),
        "PEM bundle given to proxies, read again for every request",
    ),
    Setting("WEFT_CONTROL_PLANE_NAMESPACE", text, "linkerd", "namespace of the control plane, part of every identity"),
    Setting("WEFT_LOG_LEVEL", choice("debug", "info", "warning", "error"), "info", "least severe level to log"),
    Setting("WEFT_LOG_FORMAT", choice("json", "console"), "json", "json or console"),
)


def load_settings(environ: Mapping[str, str] = os.environ) -> InjectorSettings:
    """Raises SettingsError with every mistake."""
    values = read_settings(SETTINGS, environ)
    return InjectorSettings(
        webhook_port=values["WEFT_WEBHOOK_PORT"],
        policy_port=values["WEFT_POLICY_WEBHOOK_PORT"],
        profile_port=values["WEFT_PROFILE_WEBHOOK_PORT"],
        admin_port=values["WEFT_ADMIN_PORT"],
        tls_dir=values["WEFT_TLS_DIR"],
        policy_tls_dir=values["WEFT_POLICY_TLS_DIR"],
        profile_tls_dir=values["WEFT_PROFILE_TLS_DIR"],
        values_file=values["WEFT_VALUES_FILE"],
        trust_roots_file=values["WEFT_TRUST_ROOTS_FILE"],
        control_plane_namespace=values["WEFT_CONTROL_PLANE_NAMESPACE"],
        log_level=values["WEFT_LOG_LEVEL"],
        log_format=values["WEFT_LOG_FORMAT"],
    )
