"""Conditions in words: wordings, grammar, captions and tokenizer."""
