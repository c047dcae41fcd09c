"""The embedded Kubernetes API server: REST as kubectl and every Kubernetes client speak it, over an in-memory store.

`core` modules (storage, selectors, patch, defaults, schema, tables) know no HTTP; `server` and `operations` are the shells.
RBAC objects are stored but not enforced: every authenticated caller may do everything.
"""
