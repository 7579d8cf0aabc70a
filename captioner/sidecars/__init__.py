"""Write captions into image metadata, sidecar files, tables, web pages and shards."""
