"""ClusterIP for clients outside the mesh and for the host. Public door: ServiceRules."""

from __future__ import annotations

from weft_local.services.rules import RulesRefused, ServiceRules

__all__ = ["RulesRefused", "ServiceRules"]
