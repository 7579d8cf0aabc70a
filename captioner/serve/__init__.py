"""Captions over HTTP: one network behind one queue, for the requests of several programs, and a page for people.

`app` puts the parts together. A request passes `guards` (token, size, time), is read by `requests`, waits in `batching`
and is written by the interface that it came through: `native`, `ollama_api` or `openai_api`. Only the public interface
of `captioner.Captioner` is used.
"""
