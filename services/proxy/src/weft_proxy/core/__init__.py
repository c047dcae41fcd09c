"""What the proxy decides: values in, values out. No sockets, no clock, no environment, no gRPC."""
