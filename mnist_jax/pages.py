"""Pages that need nothing but themselves: figures as SVG in HTML, in the colours of the page around them."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mnist_jax.canvas import COLORS, DRAWN_FOR_A_FILE

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

GENERATOR = b'<meta name="generator" content="mnist-jax">'
_INK = "#010203"  # no colour of any figure: it stands for the text's, which the page chooses
_STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: to be searched, copied and read aloud
}


@contextmanager
def style() -> Iterator[None]:
    """Within it, figures are drawn in the page's style, and for it alone."""
    import matplotlib

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has the font that Matplotlib lacks
        token = DRAWN_FOR_A_FILE.set(True)
        try:
            yield
        finally:
            DRAWN_FOR_A_FILE.reset(token)


def svg(title: str, ax: "Axes") -> "Markup":
    """A figure as an SVG element; `title` is what a screen reader says of it."""
    import matplotlib
    from markupsafe import Markup, escape

    text = io.StringIO()
    drawn: Any = ax.get_figure(root=True)
    with matplotlib.rc_context({"svg.hashsalt": title}):
        drawn.savefig(
            text,
            format="svg",
            transparent=True,
            bbox_inches="tight",
            pad_inches=0.02,
            metadata=dict.fromkeys(("Date", "Creator")),
        )
    found = text.getvalue()
    found = found[found.index("<svg") :]
    found = re.sub(r"<metadata>.*?</metadata>", "", found, flags=re.S)
    found = re.sub(r"<[^>]*>", _of_the_page, found)  # in tags alone: what people write stays as it is
    label = rf'<svg role="img" aria-label="{escape(title)}" style="--width: \1pt" '
    return Markup(re.sub(r'<svg .*?width="([\d.]+)pt" height="[\d.]+pt" ', label, found, count=1, flags=re.S))


def _of_the_page(tag: re.Match[str]) -> str:
    """A tag in the page's colours, without an id that is the same in every figure and used by none."""
    found = re.sub(r' id="[\w.]+_\d+"', "", tag.group())
    colors = {_INK: "var(--text)", **{color: f"var(--color-{n})" for n, color in enumerate(COLORS)}}
    for color, name in colors.items():
        found = found.replace(color, name)
    return found


def render(template: str, **values: Any) -> str:
    """A page from its template; whatever is put in is escaped, but for figures."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mnist_jax"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share, digits=2: f"{100 * share:.{digits}f} %"
    return environment.get_template(template).render(**values) + "\n"
