"""Training: what a model learns from, and how."""
