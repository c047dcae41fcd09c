"""Matches, filters and hosts of routes as messages, for both directions."""

from __future__ import annotations

from typing import Final

from weft_proto.linkerd import grpc_route_pb2, http_route_pb2, http_types_pb2, tls_route_pb2

from weft_policy.core.routes import (
    GrpcMatch,
    HeaderChange,
    HttpMatch,
    PathChange,
    PathKind,
    PathMatch,
    Redirect,
    TextMatch,
    UrlRewrite,
)

_METHODS: Final = frozenset(http_types_pb2.HttpMethod.Registered.keys())
_SCHEMES: Final = {"http": http_types_pb2.Scheme.HTTP, "https": http_types_pb2.Scheme.HTTPS}


def http_match(match: HttpMatch) -> http_route_pb2.HttpRouteMatch:
    """One match."""
    message = http_route_pb2.HttpRouteMatch(
        path=_path(match.path),
        headers=[_header(name, value) for name, value in match.headers],
        query_params=[_query_param(name, value) for name, value in match.query_params],
    )
    if match.method:
        message.method.CopyFrom(http_method(match.method))
    return message


def grpc_match(match: GrpcMatch) -> grpc_route_pb2.GrpcRouteMatch:
    """One match. The rpc is always there: a match without it is invalid."""
    return grpc_route_pb2.GrpcRouteMatch(
        rpc=grpc_route_pb2.GrpcRpcMatch(service=match.service, method=match.method),
        headers=[_header(name, value) for name, value in match.headers],
    )


def http_method(method: str) -> http_types_pb2.HttpMethod:
    """A method by its name."""
    if method in _METHODS:
        return http_types_pb2.HttpMethod(registered=http_types_pb2.HttpMethod.Registered.Value(method))
    return http_types_pb2.HttpMethod(unregistered=method)


def host_match(host: str) -> http_route_pb2.HostMatch:
    """A host name, or `*.` and what it ends in."""
    if host.startswith("*."):
        return http_route_pb2.HostMatch(suffix=http_route_pb2.HostMatch.Suffix(reverse_labels=_reverse_labels(host)))
    return http_route_pb2.HostMatch(exact=host)


def sni_match(host: str) -> tls_route_pb2.SniMatch:
    """A server name, or `*.` and what it ends in."""
    if host.startswith("*."):
        return tls_route_pb2.SniMatch(suffix=tls_route_pb2.SniMatch.Suffix(reverse_labels=_reverse_labels(host)))
    return tls_route_pb2.SniMatch(exact=host)


def request_headers(change: HeaderChange) -> http_route_pb2.RequestHeaderModifier:
    """A change of a request's headers."""
    return http_route_pb2.RequestHeaderModifier(
        add=_headers(change.add), set=_headers(change.set), remove=change.remove
    )


def response_headers(change: HeaderChange) -> http_route_pb2.ResponseHeaderModifier:
    """A change of a response's headers."""
    return http_route_pb2.ResponseHeaderModifier(
        add=_headers(change.add), set=_headers(change.set), remove=change.remove
    )


def redirect(found: Redirect) -> http_route_pb2.RequestRedirect:
    """A redirect."""
    message = http_route_pb2.RequestRedirect(host=found.host, port=found.port or 0, status=found.status)
    if found.scheme:
        message.scheme.CopyFrom(_scheme(found.scheme))
    if found.path is not None:
        message.path.CopyFrom(_path_change(found.path))
    return message


def url_rewrite(found: UrlRewrite) -> http_route_pb2.UrlRewrite:
    """A rewrite; Weft's proxies alone understand it."""
    message = http_route_pb2.UrlRewrite(host=found.host)
    if found.path is not None:
        message.path.CopyFrom(_path_change(found.path))
    return message


def _path(path: PathMatch) -> http_route_pb2.PathMatch:
    match path.kind:
        case PathKind.EXACT:
            return http_route_pb2.PathMatch(exact=path.value)
        case PathKind.PREFIX:
            return http_route_pb2.PathMatch(prefix=path.value)
        case PathKind.REGEX:
            return http_route_pb2.PathMatch(regex=path.value)


def _header(name: str, match: TextMatch) -> http_route_pb2.HeaderMatch:
    if match.is_regex:
        return http_route_pb2.HeaderMatch(name=name, regex=match.value)
    return http_route_pb2.HeaderMatch(name=name, exact=match.value.encode())


def _query_param(name: str, match: TextMatch) -> http_route_pb2.QueryParamMatch:
    if match.is_regex:
        return http_route_pb2.QueryParamMatch(name=name, regex=match.value)
    return http_route_pb2.QueryParamMatch(name=name, exact=match.value)


def _headers(pairs: tuple[tuple[str, str], ...]) -> http_types_pb2.Headers | None:
    if not pairs:
        return None
    headers = [http_types_pb2.Headers.Header(name=name, value=value.encode()) for name, value in pairs]
    return http_types_pb2.Headers(headers=headers)


def _scheme(scheme: str) -> http_types_pb2.Scheme:
    registered = _SCHEMES.get(scheme)
    if registered is None:
        return http_types_pb2.Scheme(unregistered=scheme)
    return http_types_pb2.Scheme(registered=registered)


def _path_change(change: PathChange) -> http_route_pb2.PathModifier:
    if change.is_prefix:
        return http_route_pb2.PathModifier(prefix=change.value)
    return http_route_pb2.PathModifier(full=change.value)


def _reverse_labels(host: str) -> list[str]:
    return host.removeprefix("*.").split(".")[::-1]
