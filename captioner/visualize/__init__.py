"""Visualization of attention maps: figure, animation, page and gallery.

`overlay` blends a map with its image; the other modules each make one kind of output. matplotlib is imported only when
something is drawn.
"""

from captioner.visualize.figure import plot

__all__ = ["plot"]
