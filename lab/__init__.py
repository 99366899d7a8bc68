"""Shared infrastructure: command line, plots, animations, checkpoints, seeding, run records."""
