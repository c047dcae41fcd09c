"""Answers that live: each question is computed once, shared by all streams that ask it, re-made when its facts change.

Streams read the latest value and get a wakeup, never a backlog, so a slow one costs nobody anything. Equal answers wake
nobody. Everything runs on one event loop; changes of one loop turn are applied together.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from weft_policy.core.index import NODES_TOPIC, ClusterIndex, Topic

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")

# Distinct states that streams of one view lag behind by; beyond it an encoding is made again.
_REMEMBERED_ENCODINGS: Final = 16

# Answers of a view that many read follow each other no faster than this: about five times what it takes to write one
# message (100 µs), so that no view's churn takes more than a fifth of the core.
_MANY_READERS: Final = 50
_SPACING_PER_READER_S: Final = 0.0005
_MAX_SPACING_S: Final = 1.0


class View(Generic[A]):
    """The latest answer to one question. value: what readers are told; replaced, never changed.

    newest: ahead of value for a moment where many read and answers change quickly. A rolling restart changes the answer
    with each pod; telling a thousand readers of each would cost a core for seconds, and they only want the last.
    """

    def __init__(self, value: A, topics: frozenset[Topic]) -> None:
        self.value = value
        self.newest = value
        self.topics = topics
        self.readers = 0
        self._next = asyncio.Event()
        self._encoded: dict[int, tuple[object, tuple[bytes, ...]]] = {}
        self._may_publish_at = 0.0
        self._publishing: asyncio.TimerHandle | None = None

    def encoded(self, have: object, encode: Callable[[], Iterable[bytes]]) -> tuple[bytes, ...]:
        """What brings a reader from `have` to `value`, encoded once for all readers that have the same object."""
        found = self._encoded.get(id(have))
        if found is None:
            if len(self._encoded) >= _REMEMBERED_ENCODINGS:
                self._encoded.clear()
            # Keeping `have` alive keeps its id from being given to another object.
            found = self._encoded[id(have)] = (have, tuple(encode()))
        return found[1]

    async def changed_from(self, value: A) -> None:
        """Return once the answer is another object than value, or the views close."""
        if self.value is value:
            await self._next.wait()

    def offer(self, value: A) -> None:
        """Publish a new answer: at once, or as soon as the readers have had time for the last one."""
        self.newest = value
        if self._publishing is not None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._may_publish_at:
            self._publish()
        else:
            self._publishing = loop.call_at(self._may_publish_at, self._publish)

    def wake(self) -> None:
        """Let every reader look again."""
        waiting, self._next = self._next, asyncio.Event()
        waiting.set()

    def close(self) -> None:
        """Nobody reads any more."""
        if self._publishing is not None:
            self._publishing.cancel()

    def _publish(self) -> None:
        self._publishing = None
        if self.newest == self.value:
            # It changed there and back meanwhile.
            return
        spacing_s = min(_MAX_SPACING_S, self.readers * _SPACING_PER_READER_S) if self.readers >= _MANY_READERS else 0.0
        self._may_publish_at = asyncio.get_running_loop().time() + spacing_s
        self.value = self.newest
        self._encoded.clear()
        self.wake()


class RefreshTopics(Protocol):
    """One kind of views."""

    def refresh(self, topics: set[Topic]) -> None:
        """Re-make the answers that rest on these facts."""

    def wake_all(self) -> None:
        """Let every reader look again."""


class Views(Generic[Q, A]):
    """All views of one kind of question. on_change: told which question has a new answer."""

    def __init__(
        self,
        answer: Callable[[Q], A],
        topics: Callable[[Q], frozenset[Topic]],
        on_change: Callable[[Q], None] = lambda _: None,
    ) -> None:
        self._answer = answer
        self._topics = topics
        self._on_change = on_change
        self._views: dict[Q, View[A]] = {}
        self._by_topic: defaultdict[Topic, set[Q]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._views)

    def questions(self) -> tuple[Q, ...]:
        """What is asked now."""
        return tuple(self._views)

    @contextmanager
    def open(self, question: Q) -> Iterator[View[A]]:
        """Share the view of a question; the last reader to leave closes it."""
        view = self._views.get(question)
        if view is None:
            view = View(self._answer(question), self._topics(question))
            self._views[question] = view
            for topic in view.topics:
                self._by_topic[topic].add(question)
            self._on_change(question)
        view.readers += 1
        try:
            yield view
        finally:
            view.readers -= 1
            if view.readers == 0:
                self._close(question, view)

    def refresh(self, topics: set[Topic]) -> None:
        """Re-make the answers that rest on these facts."""
        touched: set[Q] = set()
        for topic in topics:
            touched |= self._by_topic.get(topic, set())
        for question in touched:
            view = self._views[question]
            value = self._answer(question)
            if value != view.newest:
                view.offer(value)
                self._on_change(question)
            elif NODES_TOPIC in topics:
                # The answer stands, but a reader whose own node moved to another zone may now ask another question.
                view.wake()

    def wake_all(self) -> None:
        """Let every reader look again."""
        for view in self._views.values():
            view.wake()

    def _close(self, question: Q, view: View[A]) -> None:
        del self._views[question]
        view.close()
        for topic in view.topics:
            questions = self._by_topic[topic]
            questions.discard(question)
            if not questions:
                del self._by_topic[topic]


@dataclass(slots=True)
class Refresher:
    """Brings all views up to date once per loop turn in which the index changed; and ends them at shutdown.

    synced: set when every kind has been listed; answers before that would be wrong. draining: streams end.
    """

    kinds: list[RefreshTopics] = field(default_factory=list)
    index: ClusterIndex = field(init=False)
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    draining: bool = False
    _scheduled: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.index = ClusterIndex(self._index_changed)

    def drain(self) -> None:
        """End every stream in good order."""
        self.draining = True
        self.synced.set()
        for kind in self.kinds:
            kind.wake_all()

    def _index_changed(self) -> None:
        if not self._scheduled and self.kinds:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._refresh)

    def _refresh(self) -> None:
        self._scheduled = False
        topics = self.index.take_changes()
        for kind in self.kinds:
            kind.refresh(topics)
