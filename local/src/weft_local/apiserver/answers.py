"""Answers of reads and writes: objects, lists in pages, tables. Lists are joined from bytes made once per object."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from weft_common.kube.resource import ObjectKey, key_of

from weft_local.apiserver.decoding import Object
from weft_local.apiserver.errors import expired
from weft_local.apiserver.kinds import Kind
from weft_local.apiserver.operations import Written
from weft_local.apiserver.requests import int_of
from weft_local.apiserver.selectors import matches_labels, parse_field_selector, parse_label_selector
from weft_local.apiserver.storage import Storage, Stored
from weft_local.apiserver.tables import table


def selection(query: QueryParams) -> Callable[[Object], bool]:
    """Whether an object is what the selectors of a request ask for. Raises ApiError 400."""
    labels = parse_label_selector(query.get("labelSelector", ""))
    fields = parse_field_selector(query.get("fieldSelector", ""))
    return lambda obj: matches_labels(labels, obj["metadata"].get("labels")) and fields(obj)


def table_rows_wanted(request: Request) -> str:
    """What the rows of the wanted table hold (Metadata, Object, None); empty when no table is wanted."""
    if "as=Table" not in request.headers.get("accept", ""):
        return ""
    return request.query_params.get("includeObject") or "Metadata"


def in_version(kind: Kind, version: str, obj: Object) -> Object:
    """The object as a version serves it. Versions of one kind share their fields here (conversion: None)."""
    wanted = kind.api_version(version)
    return obj if obj.get("apiVersion") == wanted else {**obj, "apiVersion": wanted}


def encoded(kind: Kind, version: str, stored: Stored) -> bytes:
    """The object as JSON, shared when its stored version is the asked one."""
    if stored.obj.get("apiVersion") == kind.api_version(version):
        return stored.encoded
    return json.dumps(in_version(kind, version, stored.obj)).encode()


def one(request: Request, kind: Kind, version: str, obj: Object) -> Response:
    shown = in_version(kind, version, obj)
    if include := table_rows_wanted(request):
        metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        return JSONResponse(table(kind, [shown], time.time(), metadata, include))
    return JSONResponse(shown)


def after_write(request: Request, kind: Kind, version: str, written: Written) -> Response:
    response = one(request, kind, version, written.obj)
    response.status_code = 201 if written.created else 200
    for warning in written.warnings:
        quoted = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.append("warning", f'299 - "{quoted}"')
    return response


def listing(request: Request, storage: Storage, kind: Kind, version: str, namespace: str | None) -> Response:
    """A collection or a page of it, as objects or as a table."""
    query = request.query_params
    matches = selection(query)
    found = [stored for stored in storage.all(kind, namespace) if matches(stored.obj)]
    page, metadata = _page(found, query, storage.version)
    if include := table_rows_wanted(request):
        shown = [in_version(kind, version, stored.obj) for stored in page]
        return JSONResponse(table(kind, shown, time.time(), metadata, include))
    return list_of(kind, version, page, metadata)


def list_of(kind: Kind, version: str, found: Sequence[Stored], metadata: Object) -> Response:
    head = json.dumps(
        {"kind": f"{kind.kind}List", "apiVersion": kind.api_version(version), "metadata": metadata}
    ).encode()
    items = b",".join(encoded(kind, version, stored) for stored in found)
    return Response(head[:-1] + b', "items": [' + items + b"]}", media_type="application/json")


def success(details: Object | None = None, status_code: int = 200) -> Response:
    body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return JSONResponse({**body, "details": details} if details else body, status_code)


def _page(found: list[Stored], query: QueryParams, version: int) -> tuple[list[Stored], Object]:
    """What follows the key in the continue token, at most limit of it. found: in order of key."""
    if token := query.get("continue"):
        after, version = _position(token)
        found = [stored for stored in found if key_of(stored.obj) > after]
    metadata: Object = {"resourceVersion": str(version)}
    limit = int_of(query.get("limit") or "0", "limit")
    if limit <= 0 or limit >= len(found):
        return found, metadata
    last = key_of(found[limit - 1].obj)
    position = base64.urlsafe_b64encode(json.dumps([version, *last]).encode()).decode()
    return found[:limit], {**metadata, "continue": position, "remainingItemCount": len(found) - limit}


def _position(token: str) -> tuple[ObjectKey, int]:
    """The last key of the page before, and the version of the first page: what a watch goes on from."""
    try:
        version, namespace, name = json.loads(base64.urlsafe_b64decode(token))
        return ObjectKey(str(namespace), str(name)), int(version)
    except (ValueError, TypeError):
        raise expired("The provided continue parameter is not one this server has given") from None
