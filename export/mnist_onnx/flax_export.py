"""Export of Flax modules, by jax2onnx, with a parity check on the result."""

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import safetensors.numpy

from mnist_jax._utils import param_dicts
from mnist_jax.config.input_checks import check_params
from mnist_jax.config.networks import IMAGE_SHAPE, FlaxModel
from mnist_jax.config.validation import shorten
from mnist_jax.errors import ModelError, SpecError
from mnist_jax.nn.model import apply
from mnist_onnx.export import class_names
from mnist_onnx.parity import Parity, check_function_parity
from mnist_onnx.runtime_envs import PROGRAMS, Runtime, environment, error_line

JAX2ONNX = "jax2onnx==0.17.1"
IR_VERSION = 8  # jax2onnx writes 10 for any opset; nothing of opset 17 needs more than 8
TIMEOUT_S = 1800


class FlaxExport(NamedTuple):
    """An exported Flax module.

    Attributes:
        model: the ONNX model: `images` `[batch, 28, 28]`, float32 0..1, to `logits` `[batch, classes]`.
        parity: its comparison with JAX.

    Examples:
        >>> import onnx
        >>> from mnist_onnx import FlaxExport, Parity
        >>> parity = Parity(True, 1e-7, 1e-7, disagreements=0, n=297, noise=1280)
        >>> FlaxExport(onnx.ModelProto(), parity).parity.passed
        True
    """

    model: onnx.ModelProto
    parity: Parity


def export_flax(
    spec: FlaxModel,
    params: Mapping[str, Any],
    images: Any,
    *,
    module: str | None = None,
    packages: Sequence[str] = (),
    classes: Sequence[str] | None = None,
) -> FlaxExport:
    """Exports a Flax module with jax2onnx, and compares the result with JAX.

    jax2onnx pins packages that others need in other versions. So it runs in an environment of its own, made
    on the first call, which gets the module by its name and the parameters as safetensors. Without `module`,
    it must be installed beside this package. The file is read by `Classifier(path, input_range="0..1")`.

    Args:
        spec: the network.
        params: its variables.
        images: uint8 `[n, 28, 28]`, for the parity check, such as the whole test set.
        module: where the module is, as `package.module:name`: an instance, or a class or function that makes
            it when called without arguments.
        packages: what else the module imports, as for pip.
        classes: the class names to store in the file; by default the numbers of the classes.

    Raises:
        SpecError: the parameters do not match the module, or `module` or `classes` is invalid.
        ModelError: jax2onnx cannot convert the module; says why.
        RuntimeUnavailableError: the environment cannot be made.
        InputError: as `check_function_parity`.

    Examples:
        The first call makes an environment, which takes minutes.

        >>> from my_package.nets import ConvNet  # doctest: +SKIP
        >>> spec = mnist_jax.FlaxModel(ConvNet())  # doctest: +SKIP
        >>> module = "my_package.nets:ConvNet"
        >>> exported = export_flax(spec, params, images, module=module)  # doctest: +SKIP
        >>> exported.parity.passed  # doctest: +SKIP
        True
    """
    if not isinstance(spec, FlaxModel):
        raise SpecError(f"export_flax takes a FlaxModel; got {type(spec).__name__}; to_onnx exports others")
    check_params(spec, params)
    names = class_names(spec, classes)
    exported = _here(spec, params) if module is None else _apart(spec, params, module, packages)
    exported.ir_version = IR_VERSION
    onnx.helper.set_model_props(exported, {"labels": json.dumps(list(names)), "module": spec.name})
    return FlaxExport(
        exported, check_function_parity(functools.partial(apply, spec, params), exported, images)
    )


def _here(model: FlaxModel, params: Mapping[str, Any]) -> onnx.ModelProto:
    """Converts a module in this environment."""
    try:
        from jax2onnx import to_onnx
    except ModuleNotFoundError:
        raise SpecError(
            "export_flax needs jax2onnx, which is not installed here; give the module as "
            "module='package.module:name', for an environment of its own, or: pip install jax2onnx"
        ) from None
    keywords = model.mode(training=False)
    try:
        converted: onnx.ModelProto = to_onnx(
            lambda images: model.require_module().apply(params, images, **keywords),
            inputs=[("batch", *IMAGE_SHAPE)],
            opset=17,
            input_names=["images"],
            output_names=["logits"],
        )
    except Exception as error:  # jax2onnx raises anything
        raise ModelError(_failure(model, f"{type(error).__name__}: {error}")) from None
    return converted


def _apart(
    model: FlaxModel, params: Mapping[str, Any], module: str, packages: Sequence[str]
) -> onnx.ModelProto:
    """Converts a module in an environment of its own."""
    top, folder = module.partition(":")[0].partition(".")[0], None
    if isinstance(module, str) and module.count(":") == 1 and top.isidentifier():
        places = [Path(entry or ".") for entry in sys.path]
        folder = next(
            (place for place in places if (place / top).is_dir() or (place / f"{top}.py").exists()), None
        )
    if folder is None:
        raise SpecError(
            f"module must be package.module:name, importable from here; got {shorten(module)}; a notebook's "
            "modules belong in a file"
        )
    pip = (JAX2ONNX, f"jax=={version('jax')}", f"flax=={version('flax')}", "safetensors", *packages)
    python = environment("jax2onnx", Runtime("from_flax.py", pip)) / "bin" / "python"
    with tempfile.TemporaryDirectory() as temporary:
        variables, out = Path(temporary) / "variables.safetensors", Path(temporary) / "model.onnx"
        variables.write_bytes(safetensors.numpy.save(param_dicts.flatten(params)))
        mode = json.dumps(model.mode(training=False))
        program = [str(python), str(PROGRAMS / "from_flax.py")]
        arguments = [module, str(variables), str(out), mode, str(folder.resolve())]
        try:
            done = subprocess.run(
                [*program, *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            raise ModelError(_failure(model, f"it did not finish within {TIMEOUT_S} s")) from None
        if done.returncode or not out.exists():
            raise ModelError(_failure(model, error_line(done.stderr, done.returncode)))
        return onnx.load_from_string(out.read_bytes())


def _failure(model: FlaxModel, reason: str) -> str:
    return (
        f"{model.name} cannot be converted by jax2onnx: {' '.join(reason.split())[:300]}; it takes options "
        "of Flax's functions by keyword only, and reshapes by x.reshape((x.shape[0], -1))"
    )
