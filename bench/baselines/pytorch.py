"""PyTorch with fused Adam, data in memory and no data loader; compiled if COMPILE is set."""

import os

import numpy as np
import protocol
import torch
from torch import nn

x, y, x_test, y_test, network, batch_size = protocol.load()
x, y = torch.from_numpy(x).unsqueeze(1).float() / 255, torch.from_numpy(y).long()
torch.manual_seed(0)
layers: list[nn.Module] = []
pool = nn.AvgPool2d(2) if network.pool == "average" else nn.MaxPool2d(2)
for into, out, padding in zip((1, *network.channels), network.channels, network.padding):
    layers += [nn.Conv2d(into, out, network.kernel, padding=padding), nn.ReLU(), pool]
layers.append(nn.Flatten())
flat = nn.Sequential(*layers)(x[:1]).shape[1]
for fan_in, fan_out in zip((flat, *network.dense), (*network.dense, 10)):
    layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
model = nn.Sequential(*layers[:-1])
if network.channels:  # recommended for convolutions on the CPU
    model = model.to(memory_format=torch.channels_last)
for layer in model:
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
forward = torch.compile(model) if os.environ.get("COMPILE") else model
adam = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)
loss_of = nn.CrossEntropyLoss()


def epoch() -> None:
    model.train()
    for rows in torch.randperm(len(x)).split(batch_size):
        adam.zero_grad()
        loss_of(forward(x[rows]), y[rows]).backward()
        adam.step()


def predict(images: np.ndarray) -> np.ndarray:
    model.eval()
    with torch.inference_mode():
        return forward(torch.from_numpy(images).unsqueeze(1).float() / 255).softmax(-1).numpy()


build = f"of CUDA {torch.version.cuda}, run on the CPU" if torch.version.cuda else "for the CPU"
protocol.serve({"torch": torch.__version__, "build": build}, epoch, predict, x_test, y_test)
