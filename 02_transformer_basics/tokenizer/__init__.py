"""Byte level, vocabulary training and demonstration of the BPE tokenizer in `bpe_tokenizer.py`."""
