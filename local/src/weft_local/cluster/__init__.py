"""Assembling a local cluster: its keys, its parts, its life from up to down."""
