"""The table: every model, in every way to run it that we know, in turns on one machine."""
