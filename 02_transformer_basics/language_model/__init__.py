"""Training a GPT-2 from random weights."""
