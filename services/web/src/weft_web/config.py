"""Settings of the web UI, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from weft_common.settings import Setting, choice, duration, port, read_settings, text


@dataclass(frozen=True, slots=True)
class WebSettings:
    """See SETTINGS for meanings and defaults."""

    http_port: int
    admin_port: int
    metrics_api_addr: str
    refresh_every: timedelta
    window: timedelta
    allowed_hosts: tuple[str, ...]
    log_level: str
    log_format: str


def _names(value: str) -> tuple[str, ...]:
    return tuple(item.strip().lower() for item in value.split(",") if item.strip())


NO_NAMES: Final[tuple[str, ...]] = ()

SETTINGS: Final = (
    Setting("WEFT_HTTP_PORT", port, 8084, "port of the pages"),
    Setting("WEFT_ADMIN_PORT", port, 9994, "port of /ping, /live, /ready and /metrics"),
    Setting(
        "WEFT_METRICS_API_ADDR",
        text,
        "metrics-api.linkerd-viz.svc.cluster.local:8085",
        "host:port of metrics-api, gRPC",
    ),
    Setting("WEFT_REFRESH_EVERY", duration, timedelta(seconds=2), "how often pages get new numbers"),
    Setting("WEFT_WINDOW", duration, timedelta(seconds=60), "time over which rates and percentiles are taken"),
    Setting(
        "WEFT_ALLOWED_HOSTS",
        _names,
        NO_NAMES,
        "more Host names to answer to, comma separated; localhost, IP addresses and the Service's own names always are",
    ),
    Setting("WEFT_LOG_LEVEL", choice("debug", "info", "warning", "error"), "info", "least severe level to log"),
    Setting("WEFT_LOG_FORMAT", choice("json", "console"), "json", "json or console"),
)


def load_settings(environ: Mapping[str, str] = os.environ) -> WebSettings:
    """Raises SettingsError with every mistake."""
    values = read_settings(SETTINGS, environ)
    return WebSettings(
        http_port=values["WEFT_HTTP_PORT"],
        admin_port=values["WEFT_ADMIN_PORT"],
        metrics_api_addr=values["WEFT_METRICS_API_ADDR"],
        refresh_every=values["WEFT_REFRESH_EVERY"],
        window=values["WEFT_WINDOW"],
        allowed_hosts=values["WEFT_ALLOWED_HOSTS"],
        log_level=values["WEFT_LOG_LEVEL"],
        log_format=values["WEFT_LOG_FORMAT"],
    )
