"""Pages over the latest snapshot. The only package that knows the web framework."""
