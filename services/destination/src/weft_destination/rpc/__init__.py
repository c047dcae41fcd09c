"""The wire side: answers to streams."""
