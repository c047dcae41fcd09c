"""Cluster DNS. Public door: `server.DnsServer`. Nothing is imported here, so that looking in costs nothing."""
