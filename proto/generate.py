"""Build hook: turns the .proto files under src/ into Python modules and their type stubs, beside them.

Runs on every build of weft-proto, editable ones too. The results are ignored by git.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GenerateProtos(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        generate(Path(self.root) / "src")


def generate(src: Path) -> None:
    """Generate modules for every .proto below src. Raises RuntimeError when one does not compile."""
    from grpc_tools import protoc

    scripts = Path(sys.executable).parent
    protos = sorted(str(path.relative_to(src)) for path in src.rglob("*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={src}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--python_out={src}",
            f"--grpc_python_out={src}",
            f"--mypy_out=quiet:{src}",
            f"--mypy_grpc_out=quiet:{src}",
            *protos,
        ]
    )
    if status != 0:
        raise RuntimeError(f"protoc exited with {status}; see its message above")
