"""A small shop that a mesh can be watched with: five services, three protocols, and a generator of traffic.

frontend (HTTP/1.1) asks catalog (gRPC), reviews (HTTP/1.1, versions 1 and 2) and orders (HTTP/2); orders keeps what it
sells in Redis (opaque TCP). No service knows that there is a mesh.
"""
