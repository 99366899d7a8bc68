"""What is not a lesson: command line, plots, animations, checkpoints, seeding, run records."""
