"""Training, evaluating and explaining sentiment classifiers."""
