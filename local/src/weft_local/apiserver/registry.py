"""Which kinds are served now: the built-in ones always, custom ones as their definitions come and go."""

from __future__ import annotations

from collections.abc import Iterator

from weft_local.apiserver.kinds import BUILT_IN, Kind


class Kinds:
    """Kinds by id (`group/plural`)."""

    def __init__(self) -> None:
        self._by_id: dict[str, Kind] = {kind.id: kind for kind in BUILT_IN}

    def __iter__(self) -> Iterator[Kind]:
        return iter(list(self._by_id.values()))

    def __getitem__(self, kind_id: str) -> Kind:
        return self._by_id[kind_id]

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind of a URL, None when it is not served in this version."""
        kind = self._by_id.get(f"{group}/{plural}")
        return kind if kind and version in kind.versions else None

    def by_kind(self, api_version: str, name: str) -> Kind | None:
        """The kind of an ownerReference or an object."""
        group = api_version.rpartition("/")[0]
        return next((kind for kind in self._by_id.values() if kind.group == group and kind.kind == name), None)

    def define(self, kind: Kind) -> None:
        self._by_id[kind.id] = kind

    def forget(self, kind_id: str) -> Kind | None:
        """Stop serving a custom kind; what it was, None for kinds that are not custom."""
        kind = self._by_id.get(kind_id)
        if kind is None or not kind.is_custom:
            return None
        return self._by_id.pop(kind_id)
