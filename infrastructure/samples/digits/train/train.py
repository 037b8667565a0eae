"""Leave one speaker out: train a body on the other five, and the prior from which that speaker's head starts.

    python3 train.py --raw WORK --out .. [--speakers george jackson lucas nicolas]

Reads WORK/features.npz (features.py wrote it). For each held-out speaker X it writes
    digits-body-without-X.onnx   `logmel` float32 [N, 1, 24, 32] = (byte - 128) / 42 to `features` float32 [N, 64]
    X-prior.json                 ridge head on the other speakers: prior_mean [65, 10], prior_gram [65, 65]
    X-logmel-idx3-ubyte.gz       X's 500 clips uint8 [500, 24, 32], shuffled: the first 300 adapt, the last 200 are
    X-labels-idx1-ubyte.gz       held out; and their digits [500]
and prints the accuracy on the held-out clips after 0 to 300 labels, with the prior and without one.
"""
import argparse
import gzip
import json
import struct
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from features import SPEAKERS

CLASSES = 10
WIDTH = 65             # 64 features and a bias
ADAPT = 300            # clips that the head learns from; the rest of the speaker's are held out
PRIOR_STRENGTH = 0.02  # share of the other speakers' Gram matrix that a new speaker starts with
MARKS = [0, 1, 2, 5, 10, 20, 40, 80, 150, 300]  # numbers of labels at which accuracy is measured
EPOCHS = 12
BATCH = 32


class Net(nn.Module):
    """`body` gives 64 features, `head` ten logits. Attribute names are part of the weight names in the ONNX file."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(32 * 6 * 8, 64), nn.ReLU())
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x):
        return self.head(self.body(x))


class Body(nn.Module):
    """The body alone, for export."""

    def __init__(self, model):
        super().__init__()
        self.m = model

    def forward(self, x):
        return self.m.body(x)


def train_body(clips, classes, training, rng):
    """Cross-entropy on the clips whose indices are in `training`, noise on the values and on the level of each clip."""
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-3)
    for _ in range(EPOCHS):
        model.train()
        shuffled = rng.permutation(training)
        for i in range(0, len(shuffled) - BATCH + 1, BATCH):
            chosen = shuffled[i:i + BATCH]
            x = clips[chosen] + 0.15 * torch.randn(BATCH, 1, 24, 32) + 0.3 * torch.randn(BATCH, 1, 1, 1)
            loss = F.cross_entropy(model(x), classes[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    return model


def fit_prior(features, targets):
    """Ridge on one-hot targets with a unit ridge: mean [65, 10] and Gram matrix [65, 65], the unit included.

    features: [N, 65], bias last; targets: [N, 10].
    """
    gram = features.T @ features + 1.0 * np.eye(WIDTH)
    return np.linalg.solve(gram, features.T @ targets), gram


def accuracy(features, head, digits):
    return ((features @ head).argmax(1) == digits).mean()


def learn_online(covariance, head, features, targets, measure):
    """Online ridge by Sherman-Morrison, predict then update.

    covariance: [65, 65], head: [65, 10], features: [T, 65], targets: [T, 10] one-hot.
    Returns {labels seen: measure(head)} at MARKS and the share that was right before each update.
    """
    measured, right = {}, 0
    for t in range(len(features) + 1):
        if t in MARKS:
            measured[t] = measure(head)
        if t == len(features):
            break
        z, target = features[t], targets[t]
        right += (z @ head).argmax() == target.argmax()
        gain = covariance @ z / (1 + z @ covariance @ z)
        head = head + np.outer(gain, target - z @ head)
        covariance = covariance - np.outer(gain, z @ covariance)
    return measured, right / len(features)


def write_prior(path, speaker, mean, gram):
    """Values are float32, the mean to six decimals, the Gram matrix to four."""
    path.write_text(json.dumps(dict(
        speaker=speaker,
        features=f"digits-body-without-{speaker}.onnx",
        prior_mean=np.round(mean.astype(np.float32), 6).tolist(),
        prior_gram=np.round(gram.astype(np.float32), 4).tolist(),
        prior_strength=PRIOR_STRENGTH,
        adapt_first=ADAPT,
        hold_out_last=200)))


def write_idx(path, array):
    """A uint8 array as a gzipped idx file (big-endian header), no time in the gzip header."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    with gzip.GzipFile(str(path), "wb", 9, mtime=0) as packed:
        packed.write(header + array.tobytes())


def hold_out(speaker, data, out):
    """All files of one held-out speaker. Seeds are the speaker's index. Returns what was measured, a flat list."""
    index = SPEAKERS.index(speaker)
    torch.manual_seed(index)
    rng = np.random.RandomState(index)
    clips = torch.from_numpy((data["X"].astype(np.float32) - 128) / 42)[:, None]
    digits = data["Y"].astype(int)
    others = np.where(data["S"] != index)[0]
    own = np.where(data["S"] == index)[0]

    model = train_body(clips, torch.from_numpy(digits), others, rng)
    with torch.no_grad():
        body_features = model.body(clips).numpy()
        logits = model.head(torch.from_numpy(body_features)).numpy()
    features = np.c_[body_features, np.ones(len(body_features))].astype(np.float64)
    targets = np.eye(CLASSES)[digits]
    prior_mean, gram = fit_prior(features[others], targets[others])

    order = rng.permutation(own)
    adapt, held = order[:ADAPT], order[ADAPT:]

    def measure(head):
        return accuracy(features[held], head, digits[held])

    softmax = (logits[held].argmax(1) == digits[held]).mean()
    static_before = ((features[adapt] @ prior_mean).argmax(1) == digits[adapt]).mean()
    online, online_before = learn_online(
        np.linalg.inv(gram * PRIOR_STRENGTH), prior_mean, features[adapt], targets[adapt], measure)
    without, without_before = learn_online(
        np.eye(WIDTH), np.zeros((WIDTH, CLASSES)), features[adapt], targets[adapt], measure)
    print(f"speaker {speaker} softmax {softmax:.3f} ridge0 {measure(prior_mean):.3f}",
          "online", {t: round(a, 3) for t, a in online.items()},
          "noprior", {t: round(a, 3) for t, a in without.items()}, flush=True)

    torch.onnx.export(
        Body(model), torch.rand(3, 1, 24, 32), str(out / f"digits-body-without-{speaker}.onnx"), opset_version=13,
        input_names=["logmel"], output_names=["features"], dynamic_axes={"logmel": {0: "N"}, "features": {0: "N"}})
    write_prior(out / f"{speaker}-prior.json", speaker, prior_mean, gram)
    write_idx(out / f"{speaker}-logmel-idx3-ubyte.gz", data["X"][order])
    write_idx(out / f"{speaker}-labels-idx1-ubyte.gz", data["Y"][order])
    return [softmax, measure(prior_mean), *online.values(), *without.values(),
            static_before, online_before, without_before]


def main():
    parser = argparse.ArgumentParser(description="bodies and priors of the digits app, one per held-out speaker")
    parser.add_argument("--raw", type=Path, required=True, help="folder with features.npz")
    parser.add_argument("--out", type=Path, required=True, help="folder for bodies, priors and clips")
    parser.add_argument("--speakers", nargs="+", choices=SPEAKERS, default=SPEAKERS, help="whom to hold out in turn")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)

    with np.load(args.raw / "features.npz") as file:
        data = {name: file[name] for name in file.files}
    mean = np.array([hold_out(speaker, data, args.out) for speaker in args.speakers]).mean(0)
    k = len(MARKS)
    print(f"MEAN softmax {mean[0]:.4f} static {mean[1]:.4f}")
    print("online", dict(zip(MARKS, mean[2:2 + k].round(4))))
    print("noprior", dict(zip(MARKS, mean[2 + k:2 + 2 * k].round(4))))
    print("prequential static/online/noprior", mean[-3:].round(4))


if __name__ == "__main__":
    main()
