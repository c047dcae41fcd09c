"""What every Weft service shares: settings, logging, Kubernetes client and informers, Redis cache, servers, tasks."""
