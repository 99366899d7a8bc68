"""What makes the models faster; switched on by name and tested equal to the plain code."""
