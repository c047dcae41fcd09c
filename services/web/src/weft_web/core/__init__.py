"""View models and drawings from metrics answers: no I/O, no clock, no web framework."""
