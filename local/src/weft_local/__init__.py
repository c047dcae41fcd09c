"""The embedded cluster behind weft local."""
