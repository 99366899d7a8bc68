"""Exercises: fill in a function of the lab, and be told which mistake you made (`lab check`)."""
