"""Where the decoder looked, as something to look at: a contact sheet, an animation, a page, a gallery.

`overlay` knows how a map lies over its photograph; the other modules are one kind of output each. matplotlib is loaded
only when something is drawn.
"""

from captioner.visualize.figure import plot

__all__ = ["plot"]
