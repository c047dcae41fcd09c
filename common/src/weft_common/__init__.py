"""What every Weft service shares, and no service's own logic.

Owns settings, logging, the Kubernetes client and informers, the Redis cache, the gRPC and admin servers and
task ownership. It never imports a service, and importing one module of it costs only what that module needs.
"""
