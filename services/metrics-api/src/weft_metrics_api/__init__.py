"""Golden metrics and edges of the Weft service mesh."""
