"""Data-plane proxy of the Weft service mesh: Python decides, the engine moves bytes."""

VERSION = "0.1.0"
"""Kept here because reading package metadata costs tens of milliseconds at every proxy start; a test compares both."""
