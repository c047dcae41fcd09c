"""Raw API objects to values."""
