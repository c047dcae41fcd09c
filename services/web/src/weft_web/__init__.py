"""Web UI of the Weft service mesh."""
