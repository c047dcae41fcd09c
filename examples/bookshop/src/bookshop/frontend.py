"""The shop's pages, HTTP/1.1. Every page needs the catalog; reviews may be missing, orders may be refused."""

from __future__ import annotations

import contextlib
import html
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bookshop import catalog_pb2, catalog_pb2_grpc, environment

UPSTREAM_TIMEOUT_S = 5.0
REVIEWS_VERSIONS = ("1", "2")


@dataclass(frozen=True, slots=True)
class Upstreams:
    """Where the other services are. catalog: host:port; the others: base URLs.

    reviews_version: of one version of the reviews, with {version} in it.
    """

    catalog: str
    reviews: str
    reviews_version: str
    orders: str


def application(upstreams: Upstreams) -> Starlette:
    """The frontend over given upstreams; connections are opened with the application and closed with it."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with (
            grpc.aio.insecure_channel(upstreams.catalog) as channel,
            httpx.AsyncClient(base_url=upstreams.reviews, timeout=UPSTREAM_TIMEOUT_S) as reviews,
            httpx.AsyncClient(base_url=upstreams.orders, timeout=UPSTREAM_TIMEOUT_S, http1=False, http2=True) as orders,
        ):
            app.state.catalog = catalog_pb2_grpc.CatalogStub(channel)
            app.state.reviews = reviews
            app.state.reviews_version = upstreams.reviews_version
            app.state.orders = orders
            yield

    return Starlette(
        routes=[
            Route("/", index),
            Route("/books/{book:int}", book_page),
            Route("/books/{book:int}/order", order, methods=["POST"]),
            Route("/healthz", healthz),
        ],
        exception_handlers={grpc.aio.AioRpcError: catalog_failed, httpx.HTTPError: upstream_failed},
        lifespan=lifespan,
    )


async def index(request: Request) -> Response:
    """Every book, as links."""
    answer = await request.app.state.catalog.List(catalog_pb2.ListRequest(), timeout=UPSTREAM_TIMEOUT_S)
    lines = [
        f'<li><a href="/books/{book.id}">{html.escape(book.title)}</a>, {html.escape(book.author)}, '
        f"{book.price_cents / 100:.2f}</li>"
        for book in answer.books
    ]
    return page("Bookshop", f"<ul>{''.join(lines)}</ul>")


async def book_page(request: Request) -> Response:
    """One book with its reviews, of any version, or as the editors look at them: ?reviews=1 or 2."""
    number = int(request.path_params["book"])
    version = request.query_params.get("reviews")
    if version not in (None, *REVIEWS_VERSIONS):
        return PlainTextResponse(f"reviews: expected {' or '.join(REVIEWS_VERSIONS)}\n", status_code=400)
    book = await request.app.state.catalog.Get(catalog_pb2.GetRequest(id=number), timeout=UPSTREAM_TIMEOUT_S)
    reviews = request.app.state.reviews_version.format(version=version) if version else ""
    answer = await request.app.state.reviews.get(f"{reviews}/reviews/{number}")
    if answer.status_code != 200:
        return PlainTextResponse("reviews are not available\n", status_code=502)
    lines = []
    for review in answer.json()["reviews"]:
        stars = "★" * int(review.get("stars", 0))
        lines.append(f"<p>{html.escape(review['text'])} {stars}</p>")
    return page(book.title, f"<p>{html.escape(book.author)}</p>{''.join(lines)}")


async def order(request: Request) -> Response:
    """Order one copy."""
    number = int(request.path_params["book"])
    await request.app.state.catalog.Get(catalog_pb2.GetRequest(id=number), timeout=UPSTREAM_TIMEOUT_S)
    answer = await request.app.state.orders.post("/orders", content=json.dumps({"book": number}))
    if answer.status_code != 201:
        return PlainTextResponse("the order was not taken\n", status_code=502)
    return JSONResponse(answer.json(), status_code=201)


async def healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def catalog_failed(_: Request, error: Exception) -> Response:
    """404 for a book that does not exist, 502 for a catalog that does not answer."""
    if isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.NOT_FOUND:
        return PlainTextResponse(f"{error.details()}\n", status_code=404)
    return PlainTextResponse("the catalog is not available\n", status_code=502)


async def upstream_failed(_: Request, error: Exception) -> Response:
    return PlainTextResponse(f"an upstream is not available: {type(error).__name__}\n", status_code=502)


def page(title: str, body: str) -> HTMLResponse:
    escaped = html.escape(title)
    return HTMLResponse(f"<!doctype html><title>{escaped}</title><h1>{escaped}</h1>{body}")


def main() -> None:
    upstreams = Upstreams(
        catalog=environment.address("CATALOG_ADDR", "catalog:50051"),
        reviews=environment.address("REVIEWS_URL", "http://reviews:8080"),
        reviews_version=environment.address("REVIEWS_VERSION_URL", "http://reviews-v{version}:8080"),
        orders=environment.address("ORDERS_URL", "http://orders:8080"),
    )
    uvicorn.run(
        application(upstreams),
        host="0.0.0.0",  # noqa: S104 - the pod's own namespace
        port=environment.port(8080),
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
