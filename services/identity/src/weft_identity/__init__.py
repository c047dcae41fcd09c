"""Certificate authority of the Weft service mesh."""
