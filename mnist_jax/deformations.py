"""How training images are deformed, as a frozen value: no JAX, nothing to run."""

import math
from dataclasses import dataclass, fields

from mnist_jax.errors import SpecError
from mnist_jax.settings import FLOAT32_MAX, check_real, number

FARTHEST = 3  # pixels; strokes are about as wide


@dataclass(frozen=True)
class Deformation:
    """How far an image may be moved out of shape, anew whenever it is trained on.

    Each amount is drawn evenly from minus to plus what is given, for each image by itself. The bounds refuse
    what no label survives: past 45 degrees a 6 is on its way to a 9. A 1 becomes a 7 sooner, and several
    amounts add up: look at what training sees, in the report, before you go far beyond the presets.

    Attributes:
        rotate: degrees, below 45.
        shear: degrees by which what is upright leans, below 45.
        scale: of width and of height, each by itself, as a share, below 0.5.
        shift: pixels, across and down, below 10.
        elastic: how far the paper is crumpled: `alpha` of Simard et al. 2003, below 200; theirs was 34. The
            standard deviation of what a pixel moves is alpha / (sigma * sqrt(12 * pi)) pixels each way, which
            must be below 3.
        smoothness: how finely: their `sigma`, in pixels, from 2 to below 15; theirs was 4.

    Raises:
        SpecError: a number is out of its range.
    """

    rotate: float = 0.0
    shear: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    smoothness: float = 4.0

    def __post_init__(self) -> None:
        highest = {"rotate": 45, "shear": 45, "scale": 0.5, "shift": 10, "elastic": 200, "smoothness": 15}
        for name, high in highest.items():
            low = 2 if name == "smoothness" else 0
            object.__setattr__(self, name, check_real(name, getattr(self, name), low, high))
        deviation = self.elastic / (self.smoothness * math.sqrt(12 * math.pi))
        if deviation >= FARTHEST:
            raise SpecError(
                f"elastic must move pixels by a standard deviation below {FARTHEST} pixels; "
                f"{self.elastic:g} with smoothness {self.smoothness:g} moves them by {deviation:.1f}; "
                "use less, or smoother"
            )

    def times(self, strength: float) -> "Deformation":
        """The same, every amount but the smoothness that many times as large.

        Raises:
            SpecError: a number leaves its range.
        """
        strength = check_real("strength", strength, 0, FLOAT32_MAX)
        amounts = {field.name: getattr(self, field.name) for field in fields(self)}
        smoothness = amounts.pop("smoothness")
        return Deformation(smoothness=smoothness, **{n: strength * amount for n, amount in amounts.items()})

    def __str__(self) -> str:
        changed = [field for field in fields(self) if getattr(self, field.name) != field.default]
        return ",".join(f"{field.name}={number(getattr(self, field.name))}" for field in changed) or "none"
