"""Manifests of users: reading them with the line of every field, and finding all their mistakes before anything starts.

Doors: `documents.load`, `check.find_problems`.
"""
