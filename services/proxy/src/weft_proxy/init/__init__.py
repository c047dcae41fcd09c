"""weft-proxy-init: the firewall rules that send a pod's TCP traffic through its proxy."""
