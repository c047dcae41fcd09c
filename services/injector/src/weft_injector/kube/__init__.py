"""The cluster's side: namespaces and owners looked up, events written."""
