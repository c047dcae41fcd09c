"""The cluster side: informers that feed the index."""
