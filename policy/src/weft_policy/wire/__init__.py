"""Answers to protobuf messages, exactly as proxies receive them."""
