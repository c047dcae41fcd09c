"""Demonstration application of the Weft service mesh."""
