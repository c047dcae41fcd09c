"""Admission webhooks of the Weft service mesh."""
