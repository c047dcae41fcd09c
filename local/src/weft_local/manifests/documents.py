"""Reads files and folders of manifests into objects that know where each of their fields stands.

YAML and JSON, several documents a file, List kinds taken apart. Folders are searched for *.yaml, *.yml and *.json,
hidden ones and Kustomize or Helm sources left out. Decides nothing about the objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from weft_local.manifests.problems import BadManifests, Problem

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
_SKIPPED_FOLDERS: Final = frozenset({"node_modules", "__pycache__", "venv"})
_STEP: Final = re.compile(r"\[([^\]]*)\]|[^.\[\]]+")

Node: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Document:
    """One object. obj: plain JSON values. node: the parsed YAML, which knows lines. first_line: from 1."""

    obj: dict[str, Any]
    file: str
    first_line: int
    node: Node

    @property
    def api_version(self) -> str:
        return str(self.obj.get("apiVersion") or "")

    @property
    def kind(self) -> str:
        return str(self.obj.get("kind") or "")

    @property
    def name(self) -> str:
        return str(self._metadata.get("name") or "")

    @property
    def namespace(self) -> str:
        """As written; empty when left to the default."""
        return str(self._metadata.get("namespace") or "")

    @property
    def _metadata(self) -> Mapping[str, Any]:
        metadata = self.obj.get("metadata")
        return metadata if isinstance(metadata, dict) else {}

    def problem(self, field: str, message: str) -> Problem:
        """A problem at a field, or at the nearest enclosing one that is written."""
        return Problem(self.file, self.line_of(field), field, message)

    def line_of(self, field: str) -> int:
        """Line of a field path such as spec.containers[0].image; a step may also be [name] of a named list item."""
        node, line = self.node, self.first_line
        for step in _steps(field):
            found = _child(node, step)
            if found is None:
                break
            node, line = found
        return line


def load(paths: Sequence[Path]) -> list[Document]:
    """Every object of the given files and folders, in order. Raises BadManifests."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for path in paths:
        files = list(_files(path))
        if not path.exists():
            problems.append(Problem(str(path), 0, "", "no such file or folder; check the argument of -f"))
        elif not files:
            problems.append(Problem(str(path), 0, "", "holds no *.yaml, *.yml or *.json; name another folder"))
        for file in files:
            try:
                documents += _read(file)
            except BadManifests as bad:
                problems += bad.problems
    if problems:
        raise BadManifests(problems)
    return documents


def parse(text: str, file: str) -> list[Document]:
    """Every object of one text. Raises BadManifests."""
    documents: list[Document] = []
    problems: list[Problem] = []
    try:
        nodes = list(YAML(typ="rt").load_all(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 0
        message = " ".join((error.problem or "not YAML").split())
        raise BadManifests([Problem(file, line, "", f"not readable as YAML: {message}; mend the syntax")]) from error
    except YAMLError as error:
        raise BadManifests([Problem(file, 0, "", f"not readable as YAML: {error}")]) from error
    for node in nodes:
        for one, line in _objects(node):
            if isinstance(one, CommentedMap):
                documents.append(Document(_plain(one), file, line, one))
            else:
                shown = type(one).__name__ if not isinstance(one, CommentedSeq) else "a list"
                message = f"expected an object with apiVersion and kind, found {shown}"
                problems.append(Problem(file, line, "", message))
    if problems:
        raise BadManifests(problems)
    return documents


def _read(file: Path) -> list[Document]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadManifests([Problem(str(file), 0, "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise BadManifests([Problem(str(file), 0, "", f"is not UTF-8 text (byte {error.start})")]) from error
    return parse(text, str(file))


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        for entry in sorted(path.iterdir()):
            if entry.name.startswith(".") or entry.name in _SKIPPED_FOLDERS:
                continue
            if entry.is_dir():
                yield from _files(entry)
            elif entry.suffix in SUFFIXES:
                yield entry


def _objects(node: Node) -> Iterator[tuple[Node, int]]:
    """The objects of one document, each with its first line; none for an empty one."""
    if node is None:
        return
    kind = node.get("kind") if isinstance(node, CommentedMap) else None
    if isinstance(node, CommentedMap) and isinstance(kind, str) and kind.endswith("List"):
        items = node.get("items")
        if isinstance(items, CommentedSeq):
            for item in items:
                yield from _objects(item)
            return
    yield node, _line_of(node)


def _line_of(node: Node) -> int:
    return int(node.lc.line) + 1 if isinstance(node, (CommentedMap, CommentedSeq)) else 1


def _steps(field: str) -> Iterable[str]:
    return (match[1] if match[1] is not None else match[0] for match in _STEP.finditer(field))


def _child(node: Node, step: str) -> tuple[Node, int] | None:
    if isinstance(node, CommentedMap) and step in node:
        return node[step], int(node.lc.key(step)[0]) + 1
    if isinstance(node, CommentedSeq):
        index = int(step) if step.isdigit() else _index_of_named(node, step)
        if index is not None and index < len(node):
            return node[index], int(node.lc.item(index)[0]) + 1
    return None


def _index_of_named(items: CommentedSeq, name: str) -> int | None:
    wanted = name.strip("\"'")
    return next((i for i, one in enumerate(items) if isinstance(one, dict) and one.get("name") == wanted), None)


def _plain(node: Node) -> Any:
    """The JSON value of a parsed node: no subclass of ruamel's survives, and times become text again."""
    if isinstance(node, Mapping):
        return {str(name): _plain(value) for name, value in node.items()}
    if isinstance(node, Sequence) and not isinstance(node, (str, bytes)):
        return [_plain(value) for value in node]
    if node is None or isinstance(node, bool):
        return node
    for plain in (int, float, str):
        if isinstance(node, plain):
            return plain(node)
    return node.isoformat() if hasattr(node, "isoformat") else str(node)
