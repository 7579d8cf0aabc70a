"""Caption files, pictures and batches: from disk to the model."""
