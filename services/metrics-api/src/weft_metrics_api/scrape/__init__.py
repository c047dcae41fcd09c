"""Fetches the proxies' metrics."""
