"""Every annotation, label, path and fixed name that injection shares with Linkerd."""

from __future__ import annotations

from typing import Final

DISABLE_TAP: Final = "viz.linkerd.io/disable-tap"
CONFIG_PREFIX: Final = "config.linkerd.io/"
CONFIG_BETA_PREFIX: Final = "config.beta.linkerd.io/"
CONFIG_ALPHA_PREFIX: Final = "config.alpha.linkerd.io/"

INJECT: Final = "linkerd.io/inject"
INJECT_ENABLED: Final = "enabled"
INJECT_INGRESS: Final = "ingress"
INJECT_DISABLED: Final = "disabled"

OPAQUE_PORTS: Final = CONFIG_PREFIX + "opaque-ports"
ADDITIONAL_ENV: Final = CONFIG_PREFIX + "proxy-additional-env"

CREATED_BY: Final = "linkerd.io/created-by"
PROXY_VERSION: Final = "linkerd.io/proxy-version"
TRUST_ROOT_SHA256: Final = "linkerd.io/trust-root-sha256"
CONTROL_PLANE_NS: Final = "linkerd.io/control-plane-ns"
WORKLOAD_NS: Final = "linkerd.io/workload-ns"
PROXY_OWNER_PREFIX: Final = "linkerd.io/proxy-"
TRACE_ATTRIBUTE_PREFIX: Final = "resource.opentelemetry.io/"

PROXY_CONTAINER: Final = "linkerd-proxy"
INIT_CONTAINER: Final = "linkerd-init"
VALIDATOR_CONTAINER: Final = "linkerd-network-validator"
DEBUG_CONTAINER: Final = "linkerd-debug"

IDENTITY_VOLUME: Final = "linkerd-identity-end-entity"
TOKEN_VOLUME: Final = "linkerd-identity-token"  # noqa: S105 - a volume's name
PODINFO_VOLUME: Final = "linkerd-podinfo"
IDENTITY_DIR: Final = "/var/run/linkerd/identity/end-entity"
TOKEN_DIR: Final = "/var/run/secrets/tokens"  # noqa: S105 - a path
TOKEN_FILE: Final = "linkerd-identity-token"  # noqa: S105 - a file's name
PODINFO_DIR: Final = "/var/run/linkerd/podinfo"
TOKEN_AUDIENCE: Final = "identity.l5d.io"  # noqa: S105 - an audience
TOKEN_LIFETIME_S: Final = 86400

# Owner kinds that get a label naming the owner.
LABELLED_OWNER_KINDS: Final = frozenset(
    {"deployment", "replicationcontroller", "replicaset", "job", "daemonset", "statefulset"}
)
