"""Follows pods and their owners in the API server."""
