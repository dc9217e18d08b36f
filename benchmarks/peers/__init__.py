"""The entrants of the table; each is imported in a process of its own."""
