"""`weft`: the user's door to the mesh."""
