"""PyTorch with its fused Adam, data in memory and no loader between; compiled where COMPILE is set."""

import os

import protocol
import torch
from torch import nn

x, y, x_test, y_test, widths, batch_size = protocol.load()
x, x_test = (torch.from_numpy(a).reshape(-1, 784).float() / 255 for a in (x, x_test))
y, y_test = (torch.from_numpy(a).long() for a in (y, y_test))
torch.manual_seed(0)
layers: list[nn.Module] = []
for fan_in, fan_out in zip(widths, widths[1:]):
    layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
model = nn.Sequential(*layers[:-1])
for layer in model:
    if isinstance(layer, nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
network = torch.compile(model) if os.environ.get("COMPILE") else model
adam = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)
loss_of = nn.CrossEntropyLoss()


def epoch() -> None:
    model.train()
    for rows in torch.randperm(len(x)).split(batch_size):
        adam.zero_grad()
        loss_of(network(x[rows]), y[rows]).backward()
        adam.step()


def score() -> float:
    model.eval()
    with torch.no_grad():
        return float((model(x_test).argmax(-1) == y_test).float().mean())


protocol.serve({"torch": torch.__version__}, epoch, score)
