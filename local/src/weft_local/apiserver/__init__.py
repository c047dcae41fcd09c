"""The embedded Kubernetes API server: REST as kubectl and every Kubernetes client speak it, over an in-memory store.

Pure: storage, selectors, patch, apply, fieldsets, defaults, schema, custom, validation, decoding, allocation, tables,
protobuf, openapi, discovery. `operations` and `deletion` are the verbs over the store and know no HTTP.
Shells: `app` (routes), `answers`, `watching`, `requests`, `subresources`, `reviews`, `streams`, `webhooks` (calls out),
`server` (sockets, start and stop).
RBAC objects are stored but not enforced: every authenticated caller may do everything.
"""
