"""Cluster DNS. Public door: DnsServer."""

from __future__ import annotations

from weft_local.dns.server import DnsServer

__all__ = ["DnsServer"]
