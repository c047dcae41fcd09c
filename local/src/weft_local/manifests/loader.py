"""Reads files and folders of manifests: YAML of several documents, JSON, List objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from weft_local.manifests.model import FieldPath, Manifest, Problem

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was read, in order of files and documents, and what could not be."""

    manifests: tuple[Manifest, ...]
    problems: tuple[Problem, ...]


def load(paths: Iterable[Path]) -> Loaded:
    """Every object in these files and, recursively, folders. A path that does not exist is a problem, not an error."""
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    for path in paths:
        files = _files(path)
        if files is None:
            problems.append(Problem(path, 1, "", "no such file or folder", "check the path given with -f"))
        elif not files:
            problems.append(
                Problem(path, 1, "", "the folder holds no .yaml, .yml or .json file", "give another folder")
            )
        for file in files or ():
            found, wrong = _load_file(file)
            manifests += found
            problems += wrong
    return Loaded(tuple(manifests), tuple(problems))


def _files(path: Path) -> Sequence[Path] | None:
    if path.is_file():
        return [path]
    if path.is_dir():
        inside = (file for file in path.rglob("*") if file.is_file() and file.suffix in SUFFIXES)
        return sorted(file for file in inside if not any(p.startswith(".") for p in file.relative_to(path).parts))
    return None


def _load_file(file: Path) -> tuple[list[Manifest], list[Problem]]:
    # The round-trip loader keeps line numbers; values are converted to plain ones below.
    yaml = YAML(typ="rt", pure=True)
    yaml.allow_duplicate_keys = False
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    try:
        for document in yaml.load_all(file.read_text()):
            if document is None:
                continue
            for item, line in _objects(document):
                manifest = _manifest(file, item, line)
                if isinstance(manifest, Problem):
                    problems.append(manifest)
                else:
                    manifests.append(manifest)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        what = f"not valid YAML: {error.problem or 'syntax error'}"
        problems.append(Problem(file, line, "", what, "correct the syntax at this line"))
    except YAMLError as error:
        problems.append(Problem(file, 1, "", f"not valid YAML: {error}", "correct the syntax"))
    except UnicodeDecodeError:
        problems.append(Problem(file, 1, "", "not UTF-8 text", "save the file as UTF-8"))
    except OSError as error:
        problems.append(Problem(file, 1, "", f"cannot be read: {error.strerror}", "check its permissions"))
    return manifests, problems


def _objects(document: Any) -> Iterator[tuple[Any, int]]:
    if isinstance(document, CommentedMap) and str(document.get("kind", "")).endswith("List") and "items" in document:
        for index, item in enumerate(document["items"] or []):
            yield item, document["items"].lc.item(index)[0] + 1
    else:
        yield document, (document.lc.line + 1 if isinstance(document, CommentedMap | CommentedSeq) else 1)


def _manifest(file: Path, item: Any, line: int) -> Manifest | Problem:
    if not isinstance(item, CommentedMap):
        return Problem(
            file, line, "", "not a Kubernetes object", "every document is a mapping with apiVersion and kind"
        )
    lines: dict[FieldPath, int] = {(): line}
    obj = _plain(item, (), lines)
    manifest = Manifest(file, obj, lines)
    for field in ("apiVersion", "kind"):
        if not isinstance(obj.get(field), str) or not obj[field]:
            return manifest.problem("", f"{field} is missing", "every object names its apiVersion and kind")
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not (metadata.get("name") or metadata.get("generateName")):
        return manifest.problem("metadata.name", "Required value", "give the object a name")
    return manifest


def _plain(node: Any, path: FieldPath, lines: dict[FieldPath, int]) -> Any:
    """The node as plain Python values; the line of each field goes into lines."""
    if isinstance(node, CommentedMap):
        result = {}
        for name, value in node.items():
            here = (*path, str(name))
            lines[here] = node.lc.key(name)[0] + 1
            result[str(name)] = _plain(value, here, lines)
        return result
    if isinstance(node, CommentedSeq):
        items = []
        for index, value in enumerate(node):
            here = (*path, index)
            lines[here] = node.lc.item(index)[0] + 1
            items.append(_plain(value, here, lines))
        return items
    if isinstance(node, bool) or node is None:
        return node
    for plain in (int, float, str):
        # ruamel's scalars subclass the plain types to remember how they were written.
        if isinstance(node, plain):
            return plain(node)
    # Timestamps and other tagged scalars: Kubernetes takes them as text.
    return str(node)
