"""Train the Fashion-MNIST network with three exits and export a file for each part.

    python3 exits.py --epochs E --lr L --weight-decay W --seed S --raw RAW --out OUT

RAW as for train.py; the same 55,000 images train and the same 5,000 validate. All exits are trained together: the loss is
the sum of their cross-entropies, each by its weight. OUT receives fm_exit1.onnx (`image` [N, 1, 28, 28] to `logits` [N, 10]
and `hidden1` [N, 32, 14, 14]), fm_exit2.onnx (`hidden1` to `logits` and `hidden2` [N, 64, 7, 7]) and fm_exit3.onnx (`hidden2`
to `logits`). Run one behind the other they compute what the whole network computes.
"""
import argparse
import hashlib
import time
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn as nn
import torch.nn.functional as F

from models import Residual, conv_bn_relu, global_average, multiply_adds
from train import BATCH, accuracy, augmented, load, make_optimizer

WEIGHTS = (0.4, 0.7, 1.0)  # of the exits' losses: the last one must not pay for the first


class Exit(nn.Module):
    """A part of the body, and an exit from it. Gives logits, and what the next part goes on from."""

    def __init__(self, body, head, is_last):
        super().__init__()
        self.body = body
        self.head = head
        self.is_last = is_last

    def forward(self, x):
        hidden = self.body(x)
        logits = self.head(hidden)
        return logits if self.is_last else (logits, hidden)


class MultiExit(nn.Module):
    """Three exits at about 1.5, 9 and 29 MFLOP."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([
            Exit(nn.Sequential(conv_bn_relu(1, 32), nn.MaxPool2d(2)),
                 nn.Sequential(conv_bn_relu(32, 32, 2), nn.Flatten(), nn.Linear(32 * 49, 10)), False),
            Exit(nn.Sequential(conv_bn_relu(32, 64), nn.MaxPool2d(2)),
                 nn.Sequential(nn.Flatten(), nn.Linear(64 * 49, 32), nn.ReLU(), nn.Linear(32, 10)), False),
            Exit(nn.Sequential(conv_bn_relu(64, 96), Residual(96)),
                 nn.Sequential(global_average(), nn.Linear(96, 10)), True)])

    def forward(self, x):
        """Logits of the exits, in order."""
        first, x = self.parts[0](x)
        second, x = self.parts[1](x)
        return first, second, self.parts[2](x)


def predict(model, images):
    """Logits float32 [exits, N, 10], in evaluation mode."""
    model.eval()
    with torch.no_grad():
        parts = [torch.stack(model(images[i:i + 250].contiguous(memory_format=torch.channels_last)))
                 for i in range(0, len(images), 250)]
    return torch.cat(parts, 1)


def scores(model, images, classes):
    return " ".join(f"{accuracy(logits, classes):.4f}" for logits in predict(model, images))


def mark(paths):
    """Write into the parts of one network what says that they belong together: Skiff continues from no other."""
    network = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]
    for path in paths:
        part = onnx.load(str(path))
        onnx.helper.set_model_props(part, {"skiff.network": network})
        onnx.checker.check_model(part)
        onnx.save(part, str(path))
        print(path.name, path.stat().st_size, "B, of network", network)


def export(model, out):
    """Opset 13, axis 0 free, weights folded."""
    model.eval()
    paths = []
    x = torch.rand(3, 1, 28, 28)
    for i, part in enumerate(model.parts):
        source = "image" if i == 0 else f"hidden{i}"
        names = ["logits"] if part.is_last else ["logits", f"hidden{i + 1}"]
        path = out / f"fm_exit{i + 1}.onnx"
        torch.onnx.export(part, x, str(path), opset_version=13, input_names=[source], output_names=names,
                          dynamic_axes={name: {0: "N"} for name in [source, *names]}, do_constant_folding=True)
        paths.append(path)
        if not part.is_last:
            with torch.no_grad():
                x = part(x)[1]
    mark(paths)


def main():
    parser = argparse.ArgumentParser(description="train the Fashion-MNIST network with three exits")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--lr", type=float, required=True, help="peak of the one-cycle schedule")
    parser.add_argument("--weight-decay", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--raw", type=Path, required=True, help="folder with the .npy arrays")
    parser.add_argument("--out", type=Path, required=True, help="folder for the ONNX files")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.RandomState(args.seed)

    images, classes = load(args.raw, "train")
    order = np.random.RandomState(0).permutation(60000)
    validation, training = order[:5000], order[5000:]
    padded = F.pad(images, (2, 2, 2, 2))

    model = MultiExit().to(memory_format=torch.channels_last)
    batches = len(training) // BATCH
    optimizer = make_optimizer(model, args.lr, args.weight_decay, convolutional=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=args.epochs * batches, pct_start=0.2, div_factor=10, final_div_factor=1e3)
    print(f"{2 * multiply_adds(model) / 1e6:.1f} MFLOP, {sum(p.numel() for p in model.parameters())} parameters", flush=True)

    started = time.time()
    for epoch in range(args.epochs):
        model.train()
        shuffled = rng.permutation(training)
        loss_sum = 0
        for i in range(batches):
            chosen = torch.from_numpy(shuffled[i * BATCH:(i + 1) * BATCH])
            x = augmented(padded, chosen, rng).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                exits = model(x)
            loss = sum(weight * F.cross_entropy(logits.float(), classes[chosen]) for weight, logits in zip(WEIGHTS, exits))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum += loss.item()
            if epoch == 0 and i in (50, 200):
                print(f"{i} of {batches} batches {time.time() - started:.0f}s", flush=True)
        print(epoch, f"loss {loss_sum / batches:.4f} val {scores(model, images[validation], classes[validation])} "
              f"{time.time() - started:.0f}s", flush=True)

    # Measured once, at the end; it chooses nothing.
    test_images, test_classes = load(args.raw, "t10k")
    print("TEST", scores(model, test_images, test_classes), f"val {scores(model, images[validation], classes[validation])}")
    export(model, args.out)


if __name__ == "__main__":
    main()
