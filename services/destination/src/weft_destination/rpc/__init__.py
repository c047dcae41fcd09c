"""The wire side: core answers to protobuf, protobuf to streams."""
