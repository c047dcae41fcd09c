"""Manifests from files: read with the place of every field, checked as a whole, put in an order that applies.

Nothing here talks to a cluster; `problems_from_status` turns a server's refusal into places in files.
"""
