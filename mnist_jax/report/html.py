"""Self-contained HTML pages, with figures as inline SVG that follow the page's color scheme."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mnist_jax.report.style import COLORS, DRAWN_FOR_A_FILE

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

GENERATOR = b'<meta name="generator" content="mnist-jax">'
_INK = "#010203"  # a placeholder that no figure uses; replaced by the page's text color
_STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",  # keeps text searchable and accessible
}


@contextmanager
def style() -> Iterator[None]:
    """Sets the page's style for the figures drawn in its context, without pyplot."""
    import matplotlib

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser substitutes missing fonts
        token = DRAWN_FOR_A_FILE.set(True)
        try:
            yield
        finally:
            DRAWN_FOR_A_FILE.reset(token)


def svg(title: str, ax: "Axes") -> "Markup":
    """Renders a figure as an SVG element.

    Args:
        title: label for screen readers.
        ax: axes of the figure.
    """
    import matplotlib
    from markupsafe import Markup, escape

    text = io.StringIO()
    figure: Any = ax.get_figure(root=True)
    with matplotlib.rc_context({"svg.hashsalt": title}):
        figure.savefig(
            text,
            format="svg",
            transparent=True,
            bbox_inches="tight",
            pad_inches=0.02,
            metadata=dict.fromkeys(("Date", "Creator")),
        )
    element = text.getvalue()
    element = element[element.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.S)
    element = re.sub(r"<[^>]*>", _adapt_tag, element)  # only tags, so that texts stay unchanged
    label = rf'<svg role="img" aria-label="{escape(title)}" style="--width: \1pt" '
    return Markup(
        re.sub(r'<svg .*?width="([\d.]+)pt" height="[\d.]+pt" ', label, element, count=1, flags=re.S)
    )


def _adapt_tag(tag: re.Match[str]) -> str:
    """Replaces a tag's colors by the page's, and drops unused ids, which repeat in every figure."""
    text = re.sub(r' id="[\w.]+_\d+"', "", tag.group())
    colors = {_INK: "var(--text)", **{color: f"var(--color-{n})" for n, color in enumerate(COLORS)}}
    for color, name in colors.items():
        text = text.replace(color, name)
    return text


def render(template: str, **values: Any) -> str:
    """Renders a template with autoescaping; figures are inserted as they are.

    Args:
        template: file name of the template.
        values: its variables.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mnist_jax.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share, digits=2: f"{100 * share:.{digits}f} %"
    return environment.get_template(template).render(**values) + "\n"
