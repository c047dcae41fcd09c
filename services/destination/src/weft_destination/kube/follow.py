"""One informer per kind, all feeding one index."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from weft_common.kube.client import KubeClient
from weft_common.kube.informer import Informer
from weft_common.kube.resource import ENDPOINT_SLICES, SERVICES
from weft_policy.core.index import ClusterIndex
from weft_policy.kube.kinds import KINDS

from weft_destination.kube.external_slices import SelectorBook
from weft_destination.kube.status import StatusBook


@dataclass(frozen=True, slots=True)
class ClusterFollower:
    """Keeps an index in step with the cluster.

    books: what the statuses of routes and policies say. selectors: what Services select.
    """

    informers: tuple[Informer[Any], ...]
    books: tuple[StatusBook[Any], ...]
    selectors: SelectorBook

    async def run(self) -> None:
        """Follow every kind until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self.informers:
                group.create_task(informer.run(), name=f"follow {informer.resource.qualified}")

    async def wait_synced(self) -> None:
        """Return once every kind has been listed."""
        for informer in self.informers:
            await informer.synced.wait()

    def missing(self) -> list[str]:
        """Kinds that have not been listed yet, in words."""
        return [f"waiting for {i.resource.qualified}" for i in self.informers if not i.synced.is_set()]

    def version(self) -> int | None:
        """The resource version of the endpoint slices that are known; None unless every kind is followed now."""
        if any(informer.stale or not informer.synced.is_set() for informer in self.informers):
            return None
        slices = next(informer for informer in self.informers if informer.resource == ENDPOINT_SLICES)
        # Numbers that grow, by the contract of Kubernetes since 1.35, and in fact ever since.
        return int(slices.resource_version) if slices.resource_version.isdecimal() else 0


def follow_cluster(kube: KubeClient, index: ClusterIndex, registry: CollectorRegistry) -> ClusterFollower:
    """Informers for every kind that answers depend on, with a gauge for those that lost the API server."""
    informers: list[Informer[Any]] = []
    books: list[StatusBook[Any]] = []
    selectors = SelectorBook(index.services)
    for kind in KINDS:
        table, parse = kind.table(index), kind.parse
        may_be_absent = not kind.is_builtin
        if kind.resource == SERVICES:
            informer = Informer[Any](kube, kind.resource, selectors.read, selectors)
        elif kind.has_status:
            book = StatusBook(kind.resource, parse, table)
            books.append(book)
            informer = Informer[Any](
                kube,
                kind.resource,
                book.read,
                book,
                may_be_absent=may_be_absent,
                other_versions=kind.other_versions,
            )
        else:
            informer = Informer[Any](
                kube,
                kind.resource,
                parse,
                table,
                may_be_absent=may_be_absent,
                other_versions=kind.other_versions,
            )
        informers.append(informer)
    stale = Gauge(
        "weft_destination_stale",
        "1 while a kind cannot be followed and answers rest on its last known state",
        ["resource"],
        registry=registry,
    )
    for informer in informers:
        stale.labels(informer.resource.qualified).set_function(
            lambda informer=informer: float(informer.stale or not informer.synced.is_set())  # type: ignore[misc]
        )
    return ClusterFollower(tuple(informers), tuple(books), selectors)
