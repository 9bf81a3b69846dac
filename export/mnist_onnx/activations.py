"""The nodes of each activation, in the operators of opset 17 that most runtimes have."""

import numpy as np

from mnist_onnx.graph import Graph

# Activations that are one operator, with the attributes that make it equal to JAX's.
OPERATORS: dict[str, tuple[str, dict[str, float]]] = {
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "elu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "softplus": ("Softplus", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
}


def activate(graph: Graph, activation: str, value: str) -> str:
    """Adds the nodes of an activation.

    Args:
        graph: the graph to add them to.
        activation: name of the activation.
        value: name of its input.

    Returns:
        The name of its result.
    """
    if activation in OPERATORS:
        operator, attributes = OPERATORS[activation]
        return graph.node(operator, [value], f"{value}.{activation}", **attributes)
    if activation == "gelu":
        gate = _gelu_gate(graph, value)
    elif activation == "gelu_exact":
        gate = _exact_gelu_gate(graph, value)
    elif activation == "mish":
        gate = graph.node("Tanh", [activate(graph, "softplus", value)], f"{value}.gate")
    else:
        gate = activate(graph, "hard_sigmoid" if activation == "hard_swish" else "sigmoid", value)
    return graph.node("Mul", [value, gate], f"{value}.{activation}")


def _gelu_gate(graph: Graph, value: str) -> str:
    """JAX's tanh form, since opset 17 has no Gelu: (1 + tanh(x (c + 0.044715 c x^2))) / 2, c = sqrt(2 / pi).

    With x factored out, because OpenCV recognizes the usual c (x + 0.044715 x^3), and crashes.
    """
    slope = np.sqrt(2 / np.pi)
    square = graph.node("Mul", [value, value], f"{value}.square")
    steeper = graph.node(
        "Mul", [square, graph.constant(f"{value}.cubic", 0.044715 * slope)], f"{value}.steeper"
    )
    total = graph.node("Add", [steeper, graph.constant(f"{value}.slope", slope)], f"{value}.sum")
    inner = graph.node("Mul", [value, total], f"{value}.inner")
    squashed = graph.node("Tanh", [inner], f"{value}.tanh")
    raised = graph.node("Add", [squashed, graph.constant(f"{value}.one", 1)], f"{value}.raised")
    return graph.node("Mul", [raised, graph.constant(f"{value}.half", 0.5)], f"{value}.share")


def _exact_gelu_gate(graph: Graph, value: str) -> str:
    """(1 + erf(x / sqrt(2))) / 2; Hendrycks and Gimpel 2016."""
    inner = graph.node("Mul", [value, graph.constant(f"{value}.slope", np.sqrt(0.5))], f"{value}.inner")
    erf = graph.node("Erf", [inner], f"{value}.erf")
    raised = graph.node("Add", [erf, graph.constant(f"{value}.one", 1)], f"{value}.raised")
    return graph.node("Mul", [raised, graph.constant(f"{value}.half", 0.5)], f"{value}.share")
