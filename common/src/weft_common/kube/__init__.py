"""The Kubernetes API as raw JSON: configuration, requests, watches, informers.

Why not the official client here: importing it costs 1.5 s and 50 MiB per process and its models 0.5 ms per
EndpointSlice (docs/adr/0003). Objects stay dictionaries until a service's own parser makes values of them.
"""
