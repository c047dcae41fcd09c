"""The catalog: gRPC, with the standard health service for probes."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from bookshop import catalog_pb2, catalog_pb2_grpc, environment

if TYPE_CHECKING:
    ListContext = grpc.aio.ServicerContext[catalog_pb2.ListRequest, catalog_pb2.ListResponse]
    GetContext = grpc.aio.ServicerContext[catalog_pb2.GetRequest, catalog_pb2.Book]

BOOKS = (
    catalog_pb2.Book(id=1, title="The Art of Doing Science and Engineering", author="Hamming", price_cents=3200),
    catalog_pb2.Book(id=2, title="The Mythical Man-Month", author="Brooks", price_cents=2800),
    catalog_pb2.Book(id=3, title="Structure and Interpretation of Programs", author="Abelson", price_cents=4500),
    catalog_pb2.Book(id=4, title="A Pattern Language", author="Alexander", price_cents=5500),
)


class Catalog(catalog_pb2_grpc.CatalogServicer):
    """Answers from memory."""

    async def List(  # noqa: N802 - named by the schema
        self, request: catalog_pb2.ListRequest, context: ListContext
    ) -> catalog_pb2.ListResponse:
        return catalog_pb2.ListResponse(books=BOOKS)

    async def Get(  # noqa: N802 - named by the schema
        self, request: catalog_pb2.GetRequest, context: GetContext
    ) -> catalog_pb2.Book:
        for book in BOOKS:
            if book.id == request.id:
                return book
        await context.abort(grpc.StatusCode.NOT_FOUND, f"no book has id {request.id}")
        raise AssertionError("abort raises")


async def serve(port: int, stop: asyncio.Event) -> None:
    """Serve until stop is set, then finish calls in flight."""
    server = grpc.aio.server()
    catalog_pb2_grpc.add_CatalogServicer_to_server(Catalog(), server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    server.add_insecure_port(f"[::]:{port}")
    await server.start()
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    await stop.wait()
    await server.stop(5)


async def main() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(environment.port(50051), stop)


if __name__ == "__main__":
    asyncio.run(main())
