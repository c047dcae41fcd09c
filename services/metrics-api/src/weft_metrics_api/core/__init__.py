"""Counters to rows. No I/O, no clock, no client library."""
