"""Converts a Flax module to ONNX with jax2onnx, in an environment that has it.

Arguments: the module as `package.module:name`, an instance or what makes one when called without arguments;
its variables, as safetensors with paths for names; the file to write; the arguments of its `__call__` in
evaluation, as JSON; and the folder to import the module from.
"""

import importlib
import json
import sys
from pathlib import Path

import safetensors.numpy
from jax2onnx import to_onnx

path, variables_file, onnx_file, mode, folder = sys.argv[1:]
sys.path.append(folder)  # last, so that what is installed here comes first
module_name, _, name = path.partition(":")
module = importlib.import_module(module_name)
for part in name.split("."):
    module = getattr(module, part)
if isinstance(module, type) or not hasattr(module, "apply"):
    module = module()

variables = {}
for path, value in safetensors.numpy.load_file(variables_file).items():
    *outer, last = path.split("/")
    node = variables
    for key in outer:
        node = node.setdefault(key, {})
    node[last] = value

keywords = json.loads(mode)
model = to_onnx(
    lambda images: module.apply(variables, images, **keywords),
    inputs=[("batch", 28, 28)],
    opset=17,
    input_names=["images"],
    output_names=["logits"],
)
Path(onnx_file).write_bytes(model.SerializeToString())
