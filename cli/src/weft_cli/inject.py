"""`weft inject` and `weft uninject`: manifests in, manifests out, comments and order kept, a report on stderr.

Reads and writes; what changes in a document is decided by `weft_injector.core.manifest`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from weft_injector.core.inject import Mesh
from weft_injector.core.manifest import Document, Report, Warned, documents_in, inject_document, uninject_document
from weft_injector.core.names import CONFIG_ALPHA_PREFIX, CONFIG_PREFIX, INJECT, INJECT_INGRESS
from weft_injector.core.overrides import CONFIG_ANNOTATIONS
from weft_injector.core.settings import MeshSettings, settings_from_values

from weft_cli.errors import BadInput, CliError
from weft_cli.options import ContextOption, KubeconfigOption

SUFFIXES: Final = (".yaml", ".yml", ".json")
_LINE_WIDTH: Final = 4096

FileArgument = Annotated[str, typer.Argument(metavar="FILE|DIR|-", help="Manifests; - reads standard input.")]


def _flag(name: str, help_: str) -> Any:
    return typer.Option(name, help=help_, rich_help_panel="Proxy configuration")


def inject(
    file: FileArgument,
    manual: Annotated[bool, typer.Option("--manual", help="Add the proxy itself, not just the annotation.")] = False,
    ignore_cluster: Annotated[
        bool, typer.Option("--ignore-cluster", help="With --manual: default values, no cluster asked.")
    ] = False,
    trust_anchors_file: Annotated[
        Path | None, typer.Option("--identity-trust-anchors-file", help="With --ignore-cluster: the PEM bundle.")
    ] = None,
    ingress: Annotated[bool, typer.Option("--ingress", help="Ingress mode.")] = False,
    enable_debug_sidecar: Annotated[bool, _flag("--enable-debug-sidecar", "Add the debug container.")] = False,
    enable_external_profiles: Annotated[bool, _flag("--enable-external-profiles", "Profiles for any name.")] = False,
    native_sidecar: Annotated[
        bool | None, typer.Option("--native-sidecar/--no-native-sidecar", rich_help_panel="Proxy configuration")
    ] = None,
    close_wait_timeout: Annotated[
        str | None, _flag("--close-wait-timeout", "Conntrack close-wait, a duration.")
    ] = None,
    wait_before_exit_seconds: Annotated[
        int | None, _flag("--wait-before-exit-seconds", "Wait before the proxy stops.")
    ] = None,
    require_identity_on_inbound_ports: Annotated[
        str | None, _flag("--require-identity-on-inbound-ports", "Ports that need mesh identity.")
    ] = None,
    opaque_ports: Annotated[str | None, _flag("--opaque-ports", "Ports without protocol detection.")] = None,
    proxy_image: Annotated[str | None, _flag("--proxy-image", "Image of the proxy.")] = None,
    proxy_version: Annotated[str | None, _flag("--proxy-version", "Tag of the proxy's image.")] = None,
    image_pull_policy: Annotated[str | None, _flag("--image-pull-policy", "Always, IfNotPresent or Never.")] = None,
    inbound_port: Annotated[int | None, _flag("--inbound-port", "Inbound port of the proxy.")] = None,
    outbound_port: Annotated[int | None, _flag("--outbound-port", "Outbound port of the proxy.")] = None,
    control_port: Annotated[int | None, _flag("--control-port", "Tap port of the proxy.")] = None,
    admin_port: Annotated[int | None, _flag("--admin-port", "Metrics port of the proxy.")] = None,
    skip_inbound_ports: Annotated[str | None, _flag("--skip-inbound-ports", "Ports that bypass the proxy.")] = None,
    skip_outbound_ports: Annotated[str | None, _flag("--skip-outbound-ports", "Ports that bypass the proxy.")] = None,
    proxy_uid: Annotated[int | None, _flag("--proxy-uid", "User of the proxy.")] = None,
    proxy_gid: Annotated[int | None, _flag("--proxy-gid", "Group of the proxy.")] = None,
    proxy_log_level: Annotated[str | None, _flag("--proxy-log-level", "Log filter.")] = None,
    proxy_cpu_request: Annotated[str | None, _flag("--proxy-cpu-request", "CPU reserved.")] = None,
    proxy_cpu_limit: Annotated[str | None, _flag("--proxy-cpu-limit", "CPU at most.")] = None,
    proxy_memory_request: Annotated[str | None, _flag("--proxy-memory-request", "Memory reserved.")] = None,
    proxy_memory_limit: Annotated[str | None, _flag("--proxy-memory-limit", "Memory at most.")] = None,
    default_inbound_policy: Annotated[str | None, _flag("--default-inbound-policy", "Default inbound policy.")] = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Add the proxy to manifests: by annotation, or with --manual by rendering it in. YAML to stdout, report to stderr.

    Examples:  weft inject app.yaml | kubectl apply -f -  ·  kubectl get deploy -o yaml | weft inject -
    """
    values: dict[str, object] = {
        "enable-debug-sidecar": enable_debug_sidecar or None,
        "enable-external-profiles": enable_external_profiles or None,
        "proxy-enable-native-sidecar": native_sidecar,
        "close-wait-timeout": close_wait_timeout,
        "proxy-require-identity-inbound-ports": require_identity_on_inbound_ports,
        "opaque-ports": opaque_ports,
        "proxy-image": proxy_image,
        "proxy-version": proxy_version,
        "image-pull-policy": image_pull_policy,
        "inbound-port": inbound_port,
        "outbound-port": outbound_port,
        "control-port": control_port,
        "admin-port": admin_port,
        "skip-inbound-ports": skip_inbound_ports,
        "skip-outbound-ports": skip_outbound_ports,
        "proxy-uid": proxy_uid,
        "proxy-gid": proxy_gid,
        "proxy-log-level": proxy_log_level,
        "proxy-cpu-request": proxy_cpu_request,
        "proxy-cpu-limit": proxy_cpu_limit,
        "proxy-memory-request": proxy_memory_request,
        "proxy-memory-limit": proxy_memory_limit,
        "default-inbound-policy": default_inbound_policy,
    }
    annotations = {CONFIG_PREFIX + key: _text(value) for key, value in values.items() if value is not None}
    if wait_before_exit_seconds is not None:
        annotations[CONFIG_ALPHA_PREFIX + "proxy-wait-before-exit-seconds"] = str(wait_before_exit_seconds)
    if ingress:
        annotations[INJECT] = INJECT_INGRESS
    _check(annotations)
    mesh = _mesh(ignore_cluster, trust_anchors_file, kubeconfig, context) if manual else None
    _transform(file, lambda document: inject_document(document, annotations, mesh))


def uninject(file: FileArgument) -> None:
    """Take the proxy and its annotations out of manifests. YAML to stdout, report to stderr.

    Example:  kubectl get deploy -o yaml | weft uninject - | kubectl apply -f -
    """
    _transform(file, uninject_document)


def _text(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _check(annotations: dict[str, str]) -> None:
    """The webhook would leave a bad value aside with a warning; somebody who types one wants to know."""
    settings = replace(MeshSettings(), init_as_root=True)
    for row in CONFIG_ANNOTATIONS:
        if row.key in annotations:
            try:
                row.apply(settings, annotations[row.key])
            except ValueError as error:
                raise BadInput(f"{row.key.rpartition('/')[2]}={annotations[row.key]!r}: {error}") from error


def _mesh(ignore_cluster: bool, anchors_file: Path | None, kubeconfig: Path | None, context: str | None) -> Mesh:
    from weft_common.version import VERSION

    created_by = f"linkerd/cli {VERSION}"
    if ignore_cluster:
        if anchors_file is None:
            raise BadInput(
                "--manual --ignore-cluster needs the trust bundle", hint="pass --identity-trust-anchors-file FILE"
            )
        try:
            return Mesh(MeshSettings(), anchors_file.read_text().strip(), created_by)
        except OSError as error:
            raise BadInput(f"cannot read {anchors_file}: {error.strerror}") from error
    settings, anchors = _mesh_of_cluster(kubeconfig, context)
    return Mesh(settings, anchors, created_by)


def _mesh_of_cluster(kubeconfig: Path | None, context: str | None) -> tuple[MeshSettings, str]:
    import yaml
    from weft_common.kube.client import KubeClient
    from weft_common.kube.resource import CONFIG_MAPS

    from weft_cli.cluster import find_cluster, run

    config = find_cluster(kubeconfig, context)

    async def fetch() -> tuple[dict[str, Any], dict[str, Any]]:
        async with KubeClient(config) as kube:
            return (
                await kube.get(CONFIG_MAPS.path("linkerd", "linkerd-config")),
                await kube.get(CONFIG_MAPS.path("linkerd", "linkerd-identity-trust-roots")),
            )

    values, roots = run(fetch(), config)
    try:
        return settings_from_values(yaml.safe_load(values["data"]["values"]) or {}), roots["data"]["ca-bundle.crt"]
    except (KeyError, ValueError, yaml.YAMLError) as error:
        raise CliError(f"the mesh's configuration cannot be used: {error}", hint="weft check says more") from error


@dataclass(slots=True)
class _Outcome:
    """Of a whole run. failures: documents that could not be transformed."""

    reports: list[Report]
    failures: list[str]


def _transform(file: str, change: Callable[[Document], Report]) -> None:
    outcome = _Outcome([], [])
    rendered = [_changed(name, text, change, outcome) for name, text in _sources(file)]
    _print_report(outcome)
    if outcome.failures:
        # Half of an application piped into kubectl would be worse than none.
        raise CliError(f"{len(outcome.failures)} of the documents could not be transformed; nothing was written")
    sys.stdout.write("---\n".join(text for text in rendered if text))


def _sources(file: str) -> Iterator[tuple[str, str]]:
    """Name and text of every manifest. Raises BadInput."""
    if file == "-":
        yield "standard input", sys.stdin.read()
        return
    path = Path(file)
    if not path.exists():
        raise BadInput(f"no such file or folder: {file}")
    files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"no manifests in {file}", hint=f"looked for {', '.join(SUFFIXES)}")
    for found in files:
        try:
            yield str(found), found.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"cannot read {found}: {error}") from error


def _changed(name: str, text: str, change: Callable[[Document], Report], outcome: _Outcome) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = _LINE_WIDTH
    yaml.brace_single_entry_mapping_in_flow_sequence = True  # as people write them: [{port: 80}]
    yaml.indent(**_indentation(text))
    try:
        documents = [document for document in yaml.load_all(text) if document is not None]
    except YAMLError as error:
        raise BadInput(f"{name} is not YAML: {error}") from error
    for position, document in enumerate(documents, start=1):
        place = f"{name}, document {position}"
        if not isinstance(document, dict):
            outcome.failures.append(
                f"{place}: expected an object, found {'a list' if isinstance(document, list) else 'a value'}"
            )
            continue
        try:
            for part in documents_in(document):
                outcome.reports.append(change(part))
        except ValueError as error:
            outcome.failures.append(f"{place}: {error}")
    out = io.StringIO()
    yaml.dump_all(documents, out)
    return out.getvalue()


def _indentation(text: str) -> dict[str, int]:
    """As the file has it: dashes under their key, or two columns in."""
    for key, item in pairwise(line for line in text.splitlines() if line.strip()):
        if item.lstrip().startswith("- ") and key.rstrip().endswith(":"):
            deeper = len(item) - len(item.lstrip()) > len(key) - len(key.lstrip().removeprefix("- "))
            return {"mapping": 2, "sequence": 4, "offset": 2} if deeper else {"mapping": 2, "sequence": 2, "offset": 0}
    return {"mapping": 2, "sequence": 4, "offset": 2}


def _print_report(outcome: _Outcome) -> None:
    lines = []
    for warned in Warned:
        named = [f"{report.kind}/{report.name}" for report in outcome.reports if warned in report.warned]
        if named:
            lines.append(f"‼ {warned.value}: {', '.join(named)}")
    lines += [f"‼ {note}" for report in outcome.reports for note in report.notes]
    lines += [f"× {failure}" for failure in outcome.failures]
    lines += [str(report) for report in outcome.reports]
    sys.stderr.write("".join(f"{line}\n" for line in ["", *lines, ""]))
