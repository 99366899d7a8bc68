"""The whole models, built from `transformer_block.py`, and how they are read and run."""
