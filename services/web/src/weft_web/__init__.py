"""Web UI of the Weft service mesh: golden metrics, topology and mTLS at a glance.

Talks only gRPC to metrics-api. `core` turns its answers into view models and drawings, `rpc` fetches, `web` serves
pages.
"""
