"""How answers reach readers, few and many."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from weft_destination.views import View, Views
from weft_policy.core.index import Topic, TopicKind

TOPIC = Topic(TopicKind.SERVICE, ("shop", "web"))
MANY = 200


class Counter:
    """An answer that changes."""

    def __init__(self) -> None:
        self.value = 0
        self.views: Views[str, int] = Views(lambda _: self.value, lambda _: frozenset({TOPIC}))

    def change_to(self, value: int) -> None:
        self.value = value
        self.views.refresh({TOPIC})


async def told(view: View[int], counter: Counter, changes: int) -> list[int]:
    """What one reader is told while the answer changes, each time in a turn of the loop of its own."""
    seen: list[int] = []

    async def read() -> None:
        last = view.value
        while last != changes:
            await view.changed_from(last)
            last = view.value
            seen.append(last)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(read())
        for value in range(1, changes + 1):
            await asyncio.sleep(0)
            counter.change_to(value)
            await asyncio.sleep(0)
    return seen


async def test_few_readers_are_told_of_every_change() -> None:
    counter = Counter()
    with counter.views.open("web") as view:
        assert await told(view, counter, 10) == list(range(1, 11))


async def test_many_readers_are_told_of_the_first_change_at_once_and_then_of_the_last() -> None:
    counter = Counter()
    with ExitStack() as stack:
        views = [stack.enter_context(counter.views.open("web")) for _ in range(MANY)]
        assert await told(views[0], counter, 10) == [1, 10]


async def test_answer_that_changes_there_and_back_wakes_nobody() -> None:
    counter = Counter()
    with ExitStack() as stack:
        views = [stack.enter_context(counter.views.open("web")) for _ in range(MANY)]
        view = views[0]
        counter.change_to(1)
        counter.change_to(2)
        counter.change_to(1)
        published = view.value
        assert await told(view, counter, 3) == [3]
        assert published == 1


async def test_last_reader_leaves_no_timer_behind() -> None:
    counter = Counter()
    with ExitStack() as stack:
        for _ in range(MANY):
            view = stack.enter_context(counter.views.open("web"))
        counter.change_to(1)
        counter.change_to(2)
    assert view.value == 1
    await asyncio.sleep(0.2)
    assert view.value == 1
    assert len(counter.views) == 0
