"""Injection decided: a pod, its namespace, its owner and the mesh's settings in; a JSON patch or reasons out.

Knows no HTTP, no cluster client, no clock and no files. `weft inject` and the webhook run the same code.
"""
