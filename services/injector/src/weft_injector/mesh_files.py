"""The mesh's settings and trust bundle as they are on disk right now.

Both files are mounted from ConfigMaps and read for every request, so an update needs no restart. Parsing, the costly
part, happens only when the bytes changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml
from weft_common.version import VERSION

from weft_injector.core.inject import Mesh
from weft_injector.core.settings import BadValues, MeshSettings, settings_from_values


@dataclass(slots=True)
class MeshFiles:
    """values: chart values, YAML. trust_roots: PEM."""

    values: Path
    trust_roots: Path
    control_plane_namespace: str
    _seen: bytes | None = field(default=None, init=False)
    _settings: MeshSettings = field(default_factory=MeshSettings, init=False)

    def read(self) -> Mesh:
        """Raises BadValues naming the file."""
        raw = _bytes_of(self.values)
        if raw != self._seen:
            self._settings = self._parsed(raw)
            self._seen = raw
        anchors = _bytes_of(self.trust_roots).decode()
        return Mesh(self._settings, anchors, f"linkerd/proxy-injector {VERSION}")

    def _parsed(self, raw: bytes) -> MeshSettings:
        try:
            document = yaml.safe_load(raw)
        except yaml.YAMLError as error:
            raise BadValues(f"{self.values} is not YAML: {error}") from error
        if not isinstance(document, dict):
            raise BadValues(f"{self.values}: expected a mapping of chart values")
        try:
            settings = settings_from_values(document)
        except ValueError as error:
            raise BadValues(f"{self.values}: {error}") from error
        return replace(settings, control_plane_namespace=self.control_plane_namespace)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadValues(f"cannot read {path}: {error.strerror}") from error
