"""Whole models, built from `transformer_block.py`: DistilBERT and GPT-2, generation, and reading checkpoints."""
