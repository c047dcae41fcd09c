"""The cluster side: raw objects to values, informers that feed the index."""
