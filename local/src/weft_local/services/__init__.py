"""ClusterIP for clients outside the mesh and for the host. Public door: `rules.ServiceRules`. Imports nothing."""
