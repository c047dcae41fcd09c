"""From cluster objects to answers: endpoints, profiles, outbound and inbound policy. No I/O, no clock, no protobuf."""
