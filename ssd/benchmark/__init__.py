"""How fast networks are, each combination of the grid in a process of its own."""
