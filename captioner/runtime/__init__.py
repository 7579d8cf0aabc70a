"""Captions without torch: an exported captioner on numpy, Pillow and onnxruntime."""
