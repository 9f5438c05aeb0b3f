"""Vocabularies cut to the tokens that a dataset needs: which these are, the tokenizer, the embeddings."""
