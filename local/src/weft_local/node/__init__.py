"""The node of the embedded cluster: pods as processes in network namespaces.

Public door: NodeSettings, Node, cleanup, leftovers, preflight, check_images. The rest is inside business.
"""

from __future__ import annotations

from weft_local.node.cleanup import cleanup, leftovers
from weft_local.node.images import ImageProblem, check_images, parse_image_option
from weft_local.node.node import Node
from weft_local.node.preflight import preflight
from weft_local.node.settings import NodeSettings, default_state_dir

__all__ = [
    "ImageProblem",
    "Node",
    "NodeSettings",
    "check_images",
    "cleanup",
    "default_state_dir",
    "leftovers",
    "parse_image_option",
    "preflight",
]
