"""Deformation: interpolation equals SciPy's, and displacements have the published distribution."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from mnist_jax.augmentation.deform import bilinear_sample, deform, sampling_grid
from mnist_jax.config.deformation import Deformation
from mnist_jax.config.networks import CNN, MLP
from mnist_jax.config.serialization import from_json, to_json
from mnist_jax.config.training import Config, HyperParams, default_hyperparams
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.examples import Examples
from mnist_jax.errors import MnistJaxError, SpecError
from mnist_jax.evaluation.metrics import cross_entropy
from mnist_jax.nn.model import apply, init
from mnist_jax.training import step as training
from mnist_jax.training.loop import fit
from mnist_jax.training.start import init_state
from mnist_jax.training.step import train_epoch, train_step

IMAGE = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
ALL = Deformation(rotate=15, shear=15, scale=0.15, shift=1.5, elastic_alpha=34, elastic_sigma=4)
KEYS = jax.random.split(jax.random.key(0), 300)


def displacements(deformation: Deformation) -> np.ndarray:
    """The displacement of each pixel, `[keys, 2, 28, 28]`."""
    coordinates = jnp.stack(jax.vmap(functools.partial(sampling_grid, deformation))(KEYS), axis=1)
    return np.asarray(coordinates) - np.mgrid[:28, :28]


@pytest.mark.parametrize(
    "deformation", [ALL, Deformation(shift=9), Deformation(elastic_alpha=36, elastic_sigma=2)], ids=str
)
def test_interpolation_equals_scipys(deformation: Deformation) -> None:
    for key in KEYS[:20]:
        coordinates = sampling_grid(deformation, key)
        expected = map_coordinates(
            np.pad(IMAGE / 255, 40), np.stack(coordinates) + 40, order=1, mode="constant"
        )
        np.testing.assert_allclose(deform(deformation, key, IMAGE), expected, atol=2e-5)


def test_coordinates_far_outside_are_black() -> None:
    far = jnp.full((28, 28), 1e6)
    for rows, columns in ((far, far), (-far, far), (far, -far)):
        assert not bilinear_sample(jnp.ones((28, 28)), rows, columns).any()


def test_a_deformation_of_zero_changes_nothing() -> None:
    scaled = IMAGE.astype(np.float32) * np.float32(1 / 255)
    for image in (IMAGE, scaled):
        np.testing.assert_array_equal(deform(Deformation(), KEYS[0], image), scaled)
    little = deform(Deformation(1e-5, 1e-5, 1e-7, 1e-6, 1e-5), KEYS[0], IMAGE)
    np.testing.assert_allclose(little, IMAGE / 255, atol=1e-4)


@pytest.mark.parametrize(("alpha", "sigma"), [(34, 4), (36, 5.5), (20, 2.5), (60, 9)])
def test_the_elastic_displacement_is_gaussian_filtered_noise(alpha: float, sigma: float) -> None:
    ours = displacements(Deformation(elastic_alpha=alpha, elastic_sigma=sigma))
    noise = np.random.default_rng(0).uniform(-1, 1, (300, 28 + 120, 28 + 120))
    theirs = alpha * gaussian_filter(noise, (0, sigma, sigma), truncate=6)[:, 60:-60, 60:-60]
    assert ours.std() == pytest.approx(alpha / (sigma * np.sqrt(12 * np.pi)), rel=0.04)
    assert ours.std() == pytest.approx(theirs.std(), rel=0.06)
    for distance in (1, 3, 6):  # the same correlation as SciPy's at several distances
        ours_near = (ours[..., distance:, :] * ours[..., :-distance, :]).mean() / ours.var()
        theirs_near = (theirs[:, distance:] * theirs[:, :-distance]).mean() / theirs.var()
        assert ours_near == pytest.approx(theirs_near, abs=0.08)
    spread = ours.std(axis=(0, 1))
    assert spread.min() > 0.85 * spread.max()  # the same everywhere in the image


@pytest.mark.parametrize(
    ("deformation", "largest"),
    [
        (Deformation(rotate=15), 2 * 13.5 * np.sqrt(2) * np.sin(np.deg2rad(7.5))),
        (Deformation(scale=0.2), 13.5 * 0.2),
        (Deformation(shift=2), 2.0),
        (Deformation(shear=10), 13.5 * np.tan(np.deg2rad(10))),
    ],
    ids=str,
)
def test_amounts_reach_their_limits_and_stay_within_them(deformation: Deformation, largest: float) -> None:
    rows, columns = np.moveaxis(displacements(deformation), 1, 0)
    distance = np.sqrt(rows**2 + columns**2) if deformation.rotate else np.maximum(abs(rows), abs(columns))
    assert 0.97 * largest < distance.max() <= largest * (1 + 1e-5)
    assert distance.mean(axis=(1, 2)).min() < 0.1 * largest  # and some images hardly change


def test_rotation_is_in_both_directions_about_the_center() -> None:
    rows, columns = np.moveaxis(displacements(Deformation(rotate=30)), 1, 0)
    np.testing.assert_allclose(rows.mean(axis=(1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(columns.mean(axis=(1, 2)), 0, atol=1e-4)
    assert 100 < (rows[:, 0, 0] > 0).sum() < 200


def test_vmap_equals_single_images() -> None:
    images = np.stack([IMAGE, IMAGE.T, 255 - IMAGE])
    batch = jax.vmap(functools.partial(deform, ALL))(KEYS[:3], images)
    for one, key, image in zip(batch, KEYS, images, strict=False):
        np.testing.assert_allclose(one, deform(ALL, key, image), atol=1e-6)
    assert not np.allclose(deform(ALL, KEYS[0], IMAGE), deform(ALL, KEYS[1], IMAGE))


@pytest.mark.slow
def test_training_deforms_each_image_differently_at_every_step(digits: Dataset) -> None:
    config = Config(MLP((16,), ("relu",)), batch_size=50, deformation=ALL)
    start = init_state(config, jax.random.key(0))
    batch = Examples(np.repeat(digits.train.images[:1], 50, axis=0), np.repeat(digits.train.labels[:1], 50))
    seen = []
    for step in (0, 1, 7):
        state = start._replace(step=jnp.int32(step))
        key, _ = jax.random.split(training._step_key(state))
        images = jax.vmap(functools.partial(deform, ALL))(jax.random.split(key, 50), batch.images)
        loss = cross_entropy("softmax", apply(config.model, start.params, images), batch.labels).mean()
        _, metrics = train_step(config, HyperParams(), state, batch)
        assert float(metrics.loss) == pytest.approx(float(loss), rel=1e-5)
        seen.append(images)
    different = np.unique(np.concatenate(seen).reshape(150, -1), axis=0)
    assert len(different) == 150


def test_an_epoch_with_deformation_equals_its_steps(digits: Dataset) -> None:
    config = Config(MLP((16,), ("relu",)), batch_size=50, deformation=ALL, dropout=0.3)
    hyperparams, state = default_hyperparams(config.optimizer), init_state(config, jax.random.key(0))
    examples = Examples(digits.train.images[:200], digits.train.labels[:200])
    whole, _ = train_epoch(config, hyperparams, state, examples)
    order = jax.random.permutation(jax.random.fold_in(state.key, 0), 200).reshape(4, 50)
    for rows in np.asarray(order):
        state, _ = train_step(
            config, hyperparams, state, Examples(examples.images[rows], examples.labels[rows])
        )
    for ours, theirs in zip(jax.tree.leaves(whole.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_a_resumed_run_with_deformation_and_dropout_is_bit_identical(digits: Dataset) -> None:
    config = Config(MLP((16,), ("relu",)), epochs=4, batch_size=100, deformation=ALL, dropout=0.2)
    whole = fit(config, digits.train, key=jax.random.key(3))
    half = fit(config, digits.train, key=jax.random.key(3), callback=lambda record, _: record.epoch == 2)
    rest = fit(config, digits.train, state=half.state)
    for ours, theirs in zip(jax.tree.leaves(whole.params), jax.tree.leaves(rest.params), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_deformation_helps_on_shifted_digits(digits: Dataset) -> None:
    from mnist_jax.evaluation.evaluate import evaluate

    assert digits.validation is not None
    shifted = Examples(np.roll(digits.validation.images, 3, axis=2), digits.validation.labels)
    accuracies = []
    for deformation in (None, Deformation(shift=4)):
        config = Config(MLP((64,), ("relu",)), epochs=15, deformation=deformation)
        run = fit(config, digits.train, key=jax.random.key(0))
        accuracies.append(float(evaluate(config.model, run.params, shifted).accuracy))
    assert accuracies[1] > accuracies[0] + 0.05


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rotate", 45),
        ("rotate", -1),
        ("scale", 0.5),
        ("shift", float("nan")),
        ("elastic_alpha", "much"),
        ("elastic_sigma", 1),
    ],
)
def test_limits_out_of_range_are_rejected(name: str, value: float) -> None:
    with pytest.raises(SpecError, match=rf"{name} must be a number.*; got "):
        Deformation(**{name: value})


def test_a_config_with_a_deformation_round_trips_through_json() -> None:
    import json

    config = Config(MLP((16,), ("relu",)), deformation=ALL, dropout=0.25)
    assert from_json(json.loads(json.dumps(to_json(config)))) == config
    assert from_json(to_json(Config(MLP((16,), ("relu",))))).deformation is None
    with pytest.raises(SpecError, match=r"deformation must have the fields rotate, .*; got"):
        from_json({**to_json(config), "deformation": {"rotate": 3}})


def test_height_and_width_are_scaled_independently() -> None:
    keys = jax.random.split(jax.random.key(0), 50)
    rows, columns = jax.vmap(functools.partial(sampling_grid, Deformation(scale=0.2)))(keys)
    scale_y, scale_x = rows[:, 1, 0] - rows[:, 0, 0], columns[:, 0, 1] - columns[:, 0, 0]
    assert abs(np.corrcoef(scale_y, scale_x)[0, 1]) < 0.4
    for scale in (scale_y, scale_x):
        assert 0.8 <= scale.min() < 0.85
        assert 1.15 < scale.max() <= 1.2


def test_both_axes_are_shifted_independently() -> None:
    rows, columns = np.moveaxis(displacements(Deformation(shift=2)), 1, 0)
    shift_y, shift_x = rows[:, 0, 0], columns[:, 0, 0]
    assert abs(np.corrcoef(shift_y, shift_x)[0, 1]) < 0.2  # of 300 pairs


def test_shear_is_the_tangent_of_its_angle() -> None:
    keys = jax.random.split(jax.random.key(0), 300)
    _, columns = jax.vmap(functools.partial(sampling_grid, Deformation(shear=44)))(keys)
    steepest = float(abs(columns[:, 1, 0] - columns[:, 0, 0]).max())
    assert math.tan(math.radians(43)) < steepest <= math.tan(math.radians(44)) + 1e-5


@pytest.mark.slow
def test_dropout_applies_to_the_output_of_convolutions(digits: Dataset) -> None:
    spec = CNN((4,))  # without a dense layer
    params, images = init(spec, jax.random.key(0)), digits.test.images[:5]
    dropped = [apply(spec, params, images, dropout=0.5, key=jax.random.key(seed)) for seed in (1, 2)]
    assert not np.allclose(dropped[0], dropped[1])
    for dropout in (1.0, -0.1):
        with pytest.raises(SpecError, match=r"dropout must be a number.*; got"):
            apply(spec, params, images, dropout=dropout, key=jax.random.key(0))


@pytest.mark.usefixtures("unchecked")
def test_deform_rejects_invalid_arguments() -> None:
    deformation, image = Deformation(rotate=5), np.zeros((28, 28), np.uint8)
    for key, wrong, message in (
        (
            jax.random.key(0),
            np.zeros((2, 28, 28), np.uint8),
            r"image must be an array of shape \[28, 28\]; got .*; map over several: jax.vmap",
        ),
        (jax.random.key(0), image.astype(np.int32), "image must be uint8"),
        (jax.random.PRNGKey(0), image, "key must be one typed key"),
    ):
        with pytest.raises(MnistJaxError, match=message):
            deform(deformation, key, wrong)
    with pytest.raises(SpecError, match="deformation must be a Deformation; got None"):
        deform(None, jax.random.key(0), image)  # type: ignore[arg-type]


def test_scaled_multiplies_all_limits() -> None:
    half = Deformation(rotate=10, scale=0.2, elastic_alpha=30, elastic_sigma=5).scaled(0.5)
    assert half == Deformation(rotate=5, scale=0.1, elastic_alpha=15, elastic_sigma=5)
    with pytest.raises(SpecError, match="rotate must be a number below 45, at least 0; got 50"):
        Deformation(rotate=10).scaled(5)
    with pytest.raises(SpecError, match="strength must be a number, at least 0; got 'a'"):
        Deformation().scaled("a")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"below 3 pixels; got 16\.2 from 199 with elastic_sigma 2; use a"):
        Deformation(elastic_alpha=199, elastic_sigma=2)


def test_str_of_a_deformation_can_be_parsed_by_the_command_line() -> None:
    from mnist_jax.cli.options import deformation

    for value in (Deformation(), ALL, Deformation(elastic_alpha=34.123456789)):
        assert deformation(str(value)) == value
    assert str(ALL) == "rotate=15,shear=15,scale=0.15,shift=1.5,elastic_alpha=34"
    for text in ("", "rotate", "rotat=3", "rotate=3,rotate=4", "34"):
        with pytest.raises(SpecError, match=r"must be .*; got"):
            deformation(text)
