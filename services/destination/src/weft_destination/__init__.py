"""Discovery and policy of the Weft service mesh."""
