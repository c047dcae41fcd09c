"""The controllers of the embedded cluster: what kube-controller-manager does for the kinds an application uses.

Door: `Controllers`. `core/` decides, `runner` watches and writes. Garbage collection by ownerReferences is the API
server's.
"""
