"""Data-plane proxy of the Weft service mesh: Python decides, the engine moves bytes."""
