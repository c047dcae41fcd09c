"""What outlives a replica: snapshots in Redis."""
