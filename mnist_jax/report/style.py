"""Shared style of all figures: colors, sizes, axes."""

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

# Safe for color-blind readers: Okabe and Ito 2008.
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
COLORS = (BLUE, ORANGE, GREEN, "#cc79a7", "#56b4e9", "#e69f00")
WIDTH = 7.0  # inches, of most figures
LONGEST = 60  # characters of a text in a figure
LONGEST_NAME = 14  # characters of a class name beside an axis or a bar
# Figures for files avoid pyplot, and so the interactive backend that the environment may name.
DRAWN_FOR_A_FILE: ContextVar[bool] = ContextVar("DRAWN_FOR_A_FILE", default=False)


def axes(width: float, height: float) -> "Axes":
    """Creates a figure and its axes; with pyplot, so that notebooks show it, unless drawn for a file.

    Args:
        width: in inches.
        height: in inches.
    """
    if DRAWN_FOR_A_FILE.get():
        from matplotlib.figure import Figure

        return Figure(figsize=(width, height), layout="constrained").subplots()
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def fade(color: str) -> "Colormap":
    """Returns a colormap from transparent to a color."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    return LinearSegmentedColormap.from_list("fade", [(*to_rgb(color), 0.0), (*to_rgb(color), 1.0)])


def short(name: str) -> str:
    """Truncates and escapes the name of a class."""
    return plain(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…")


def plain(text: str) -> str:
    """Escapes text that Matplotlib would interpret (`$`, leading `_`), and truncates long text."""
    shown = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
    if len(shown) > LONGEST:
        shown = f"{shown[: LONGEST - 1]}…"
    return " " * shown.startswith("_") + shown.replace("$", r"\$")
