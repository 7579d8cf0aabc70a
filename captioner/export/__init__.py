"""Writing a captioner for programs that have no torch: two ONNX graphs, or one HTML page.

`graphs` turns networks into graphs, `weights` gives these the numbers as a checkpoint holds them, `onnx_files` writes
both beside their description, and `page` packs them with a program that runs in a browser.
"""
