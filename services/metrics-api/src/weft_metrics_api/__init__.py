"""metrics-api: golden metrics and edges of the mesh, from the proxies' own counters."""
