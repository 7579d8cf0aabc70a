"""Captions where other programs read them: beside pictures, inside them, in tables, in pages and in shards."""
