"""What the figures of `plots` and `mosaics` share: their colours, their sizes, a place to draw."""

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

# Colour-blind readers tell these apart too: Okabe and Ito 2008.
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
COLORS = (BLUE, ORANGE, GREEN, "#cc79a7", "#56b4e9", "#e69f00")
WIDTH = 7.0  # of most figures, in inches
LONGEST = 60  # letters of a text in a figure
# Such a figure has no need of pyplot, nor of the backend that the user's environment names for windows.
DRAWN_FOR_A_FILE: ContextVar[bool] = ContextVar("DRAWN_FOR_A_FILE", default=False)


def axes(width: float, height: float) -> "Axes":
    """A new figure's axes, with pyplot, which a notebook shows; sizes are in inches."""
    if DRAWN_FOR_A_FILE.get():
        from matplotlib.figure import Figure

        return Figure(figsize=(width, height), layout="constrained").subplots()
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def fade(color: str) -> "Colormap":
    """A scale from nothing to a colour, so that the background shows where nothing is."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    return LinearSegmentedColormap.from_list("fade", [(*to_rgb(color), 0.0), (*to_rgb(color), 1.0)])


def plain(text: str) -> str:
    """Text as it is, cut where too long; Matplotlib takes dollars for mathematics, and hides `_names`."""
    seen = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
    if len(seen) > LONGEST:
        seen = f"{seen[: LONGEST - 1]}…"
    return " " * seen.startswith("_") + seen.replace("$", r"\$")
