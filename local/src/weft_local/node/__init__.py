"""The node of the embedded cluster: pods as processes in network namespaces.

Public doors: `settings.NodeSettings`, `node.Node`, `cleanup.cleanup` and `leftovers`, `preflight.preflight`,
`images.check_images`. The rest is inside business. Nothing is imported here: `weft local status` needs the settings and
not a network library, and `--help` needs neither.
"""
