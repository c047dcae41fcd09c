"""Which firewall commands a pod needs. Runs none of them."""
