"""Training of captioners and language models."""
