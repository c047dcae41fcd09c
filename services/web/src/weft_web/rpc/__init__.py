"""Answers of metrics-api, fetched over gRPC."""
