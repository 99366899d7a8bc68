"""Training, measuring and explaining sentiment classifiers."""
