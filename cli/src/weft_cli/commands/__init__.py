"""One module per command of `weft`: parse, ask, print."""
