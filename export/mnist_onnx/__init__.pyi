from .classifier import Classifier as Classifier
from .export import to_onnx as to_onnx
from .io import load as load
from .io import save as save
from .parity import Parity as Parity
from .parity import check_function_parity as check_function_parity
from .parity import check_parity as check_parity
