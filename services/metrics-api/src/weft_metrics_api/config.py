"""Settings of metrics-api, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from weft_common.settings import Setting, choice, duration, port, read_settings, text

MIN_INTERVAL: Final = timedelta(seconds=1)
DEFAULT_IGNORED: Final[tuple[str, ...]] = ("kube-system",)


@dataclass(frozen=True, slots=True)
class MetricsApiSettings:
    """See SETTINGS for meanings and defaults."""

    grpc_port: int
    admin_port: int
    scrape_interval: timedelta
    window_retention: timedelta
    control_plane_namespace: str
    ignored_namespaces: tuple[str, ...]
    log_level: str
    log_format: str


def _interval(value: str) -> timedelta:
    interval = duration(value)
    if interval < MIN_INTERVAL:
        raise ValueError("expected a duration of at least 1s")
    return interval


def _names(value: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in value.split(",") if item.strip())


SETTINGS: Final = (
    Setting("WEFT_GRPC_PORT", port, 8085, "port of weft.metrics.v1"),
    Setting("WEFT_ADMIN_PORT", port, 9995, "port of /ping, /live, /ready and /metrics"),
    Setting("WEFT_SCRAPE_INTERVAL", _interval, timedelta(seconds=5), "how often each proxy is asked for its metrics"),
    Setting("WEFT_WINDOW_RETENTION", _interval, timedelta(minutes=10), "how far back questions may reach"),
    Setting("WEFT_CONTROL_PLANE_NAMESPACE", text, "linkerd", "pods of this control plane count as meshed"),
    Setting("WEFT_IGNORED_NAMESPACES", _names, DEFAULT_IGNORED, "namespaces without rows, comma separated"),
    Setting("WEFT_LOG_LEVEL", choice("debug", "info", "warning", "error"), "info", "least severe level to log"),
    Setting("WEFT_LOG_FORMAT", choice("json", "console"), "json", "json or console"),
)


def load_settings(environ: Mapping[str, str] = os.environ) -> MetricsApiSettings:
    """Raises SettingsError with every mistake."""
    values = read_settings(SETTINGS, environ)
    return MetricsApiSettings(
        grpc_port=values["WEFT_GRPC_PORT"],
        admin_port=values["WEFT_ADMIN_PORT"],
        scrape_interval=values["WEFT_SCRAPE_INTERVAL"],
        window_retention=values["WEFT_WINDOW_RETENTION"],
        control_plane_namespace=values["WEFT_CONTROL_PLANE_NAMESPACE"],
        ignored_namespaces=values["WEFT_IGNORED_NAMESPACES"],
        log_level=values["WEFT_LOG_LEVEL"],
        log_format=values["WEFT_LOG_FORMAT"],
    )
