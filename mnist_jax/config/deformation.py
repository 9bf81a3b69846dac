"""Limits of the random deformations of training images: a frozen dataclass without JAX."""

import math
from dataclasses import dataclass, fields

from mnist_jax._utils.frozen import set_fields
from mnist_jax.config.validation import FLOAT32_MAX, check_float, number
from mnist_jax.errors import SpecError

MAX_DISPLACEMENT = 3  # pixels, standard deviation; strokes are about as wide


@dataclass(frozen=True)
class Deformation:
    """Limits of random affine and elastic deformations, sampled independently for each image and step.

    Each amount is sampled uniformly from -limit to +limit. The permitted ranges reject values that could
    change the label: rotated by more than 45 degrees, a 6 approaches a 9. A 1 resembles a 7 much sooner, and
    the effects add up, so check the training images in the report before you exceed the presets.

    Attributes:
        rotate: rotation in degrees, below 45.
        shear: horizontal shear in degrees, below 45.
        scale: relative change of width and of height, sampled separately, below 0.5.
        shift: translation in pixels, horizontally and vertically, below 10.
        elastic_alpha: strength of the elastic deformation, `alpha` of Simard et al. 2003 (they use 34), below
            200. The standard deviation of a pixel's displacement along each axis,
            alpha / (sigma * sqrt(12 * pi)) pixels, must be below 3.
        elastic_sigma: smoothness of the elastic deformation in pixels, `sigma` of Simard et al. (they use 4),
            at least 2 and below 15.

    Raises:
        SpecError: if a value is out of range or not a number.

    Examples:
        >>> from mnist_jax import Deformation
        >>> print(Deformation(rotate=10, shift=2))
        rotate=10,shift=2
    """

    rotate: float = 0.0
    shear: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    elastic_alpha: float = 0.0
    elastic_sigma: float = 4.0

    def __post_init__(self) -> None:
        highest = {
            "rotate": 45,
            "shear": 45,
            "scale": 0.5,
            "shift": 10,
            "elastic_alpha": 200,
            "elastic_sigma": 15,
        }
        for name, high in highest.items():
            low = 2 if name == "elastic_sigma" else 0
            set_fields(self, **{name: check_float(name, getattr(self, name), low, high)})
        deviation = self.elastic_alpha / (self.elastic_sigma * math.sqrt(12 * math.pi))
        if deviation >= MAX_DISPLACEMENT:
            raise SpecError(
                f"elastic_alpha must move pixels by a standard deviation below {MAX_DISPLACEMENT} pixels; "
                f"got {deviation:.1f} from {self.elastic_alpha:g} with elastic_sigma {self.elastic_sigma:g}; "
                "use a smaller elastic_alpha or a larger elastic_sigma"
            )

    def scaled(self, strength: float) -> "Deformation":
        """A copy with every limit multiplied by `strength`, except `elastic_sigma`.

        Args:
            strength: a factor of at least 0.

        Returns:
            The scaled deformation.

        Raises:
            SpecError: if `strength` is negative or a scaled limit is out of range.
        """
        strength = check_float("strength", strength, 0, FLOAT32_MAX)
        amounts = {field.name: getattr(self, field.name) for field in fields(self)}
        elastic_sigma = amounts.pop("elastic_sigma")
        return Deformation(
            elastic_sigma=elastic_sigma, **{n: strength * amount for n, amount in amounts.items()}
        )

    def __str__(self) -> str:
        changed = [field for field in fields(self) if getattr(self, field.name) != field.default]
        return ",".join(f"{field.name}={number(getattr(self, field.name))}" for field in changed) or "none"
