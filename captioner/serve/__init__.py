"""HTTP server for captions, with a web page: one network behind one queue.

`app` assembles the parts. A request passes `guards` (token, size, time), is parsed by `requests`, queued in `batching`,
and answered by its interface: `native`, `ollama_api` or `openai_api`. Only the public interface of
`captioner.Captioner` is used.
"""
