"""Measurements of the whole: programs with a report, not tests. `python -m bench` writes build/bench and docs."""
