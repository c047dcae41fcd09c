"""What every controller decides, as pure functions from the state of the cluster to a plan. No I/O, no clock."""
