"""The parts of the byte-level BPE tokenizer in `bpe_tokenizer.py`."""
