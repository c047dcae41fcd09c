"""The cache against every kind of Redis that its URL can name."""
