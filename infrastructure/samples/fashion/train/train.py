"""Train one Fashion-MNIST network.

Source: Fashion-MNIST (Zalando, MIT). 55,000 images train, 5,000 validate (a fixed permutation, seed 0); the official
10,000 test images are measured once at the end and select nothing.

    python3 train.py NAME --epochs E --lr L --weight-decay W --seed S [--augment] [--save-as OTHER] --raw RAW --out OUT

RAW holds train_x.npy [60000, 28, 28] and t10k_x.npy [10000, 28, 28] (bytes), train_y.npy and t10k_y.npy (classes 0-9).
OUT receives NAME.pt (weights), logits_NAME.npz (`val` [5000, 10] in the order of the permutation, `test` [10000, 10])
and meta_NAME.json.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from models import MODELS, multiply_adds

BATCH = 128
SHIFT_GROUP = 16  # images that share one random shift


def load(raw, split):
    """Images float32 [N, 1, 28, 28] in [0, 1] and classes int64 [N]."""
    images = torch.from_numpy(np.load(raw / f"{split}_x.npy")).float().div(255)[:, None]
    classes = torch.from_numpy(np.load(raw / f"{split}_y.npy").astype(np.int64))
    return images, classes


def make_optimizer(model, lr, weight_decay, convolutional):
    """Weight decay on matrices and kernels only; SGD with Nesterov momentum for convolutions, else AdamW."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [dict(params=decayed, weight_decay=weight_decay), dict(params=plain, weight_decay=0)]
    if convolutional:
        return torch.optim.SGD(groups, lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr)


def augmented(padded, chosen, rng):
    """Shift by up to two pixels (one shift a group), flip half of the images.

    padded: [N, 1, 32, 32], images with a border of 2; chosen: indices [BATCH]. Returns [BATCH, 1, 28, 28].
    Draws from rng: two integers a group, then BATCH uniforms.
    """
    images = torch.empty(BATCH, 1, 28, 28)
    source = padded[chosen]
    for j in range(0, BATCH, SHIFT_GROUP):
        top, left = rng.randint(0, 5, 2)
        images[j:j + SHIFT_GROUP] = source[j:j + SHIFT_GROUP, :, top:top + 28, left:left + 28]
    flip = torch.from_numpy(rng.rand(BATCH) < 0.5)
    images[flip] = images[flip].flip(3)
    return images


def predict(model, images, convolutional):
    """Logits float32 [N, 10], in evaluation mode."""
    model.eval()
    logits = []
    with torch.no_grad():
        for i in range(0, len(images), 250):
            x = images[i:i + 250]
            if convolutional:
                x = x.contiguous(memory_format=torch.channels_last)
            logits.append(model(x).float())
    return torch.cat(logits)


def accuracy(logits, classes):
    return (logits.argmax(1) == classes).float().mean().item()


def parse_arguments():
    parser = argparse.ArgumentParser(description="train one Fashion-MNIST network")
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--lr", type=float, required=True, help="peak of the one-cycle schedule")
    parser.add_argument("--weight-decay", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--augment", action="store_true", help="random shifts and flips")
    parser.add_argument("--save-as", help="another name for the outputs, e.g. medA2 for a second seed of medA")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--raw", type=Path, required=True, help="folder with the .npy arrays")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, logits and description")
    return parser.parse_args()


def main():
    args = parse_arguments()
    saved_name = args.save_as or args.name
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.RandomState(args.seed)

    images, classes = load(args.raw, "train")
    test_images, test_classes = load(args.raw, "t10k")
    order = np.random.RandomState(0).permutation(60000)
    validation, training = order[:5000], order[5000:]

    convolutional = args.name not in ("linear", "mlp")
    model = MODELS[args.name]()
    if convolutional:
        model = model.to(memory_format=torch.channels_last)
    batches = len(training) // BATCH
    optimizer = make_optimizer(model, args.lr, args.weight_decay, convolutional)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=args.epochs * batches, pct_start=0.2, div_factor=10, final_div_factor=1e3)
    padded = F.pad(images, (2, 2, 2, 2)) if args.augment else None

    started = time.time()
    for epoch in range(args.epochs):
        model.train()
        shuffled = rng.permutation(training)
        loss_sum = 0
        for i in range(batches):
            chosen = torch.from_numpy(shuffled[i * BATCH:(i + 1) * BATCH])
            x = augmented(padded, chosen, rng) if args.augment else images[chosen]
            if convolutional:
                x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=convolutional):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), classes[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum += loss.item()
        if epoch % 2 == 1 or epoch == args.epochs - 1:
            score = accuracy(predict(model, images[validation], convolutional), classes[validation])
            print(saved_name, epoch, f"loss {loss_sum / batches:.4f} val {score:.4f} {time.time() - started:.0f}s",
                  flush=True)

    validation_logits = predict(model, images[validation], convolutional)
    test_logits = predict(model, test_images, convolutional)
    validation_score = accuracy(validation_logits, classes[validation])
    test_score = accuracy(test_logits, test_classes)
    seconds = time.time() - started
    print(saved_name, f"TEST {test_score:.4f} val {validation_score:.4f} train_s {seconds:.0f}", flush=True)

    torch.save(model.state_dict(), args.out / f"{saved_name}.pt")
    np.savez(args.out / f"logits_{saved_name}.npz", val=validation_logits.numpy(), test=test_logits.numpy())
    description = dict(
        model=args.name, epochs=args.epochs, lr=args.lr, wd=args.weight_decay, seed=args.seed, aug=int(args.augment),
        params=sum(p.numel() for p in model.parameters()), mflop=2 * multiply_adds(model) / 1e6,
        test=test_score, val=validation_score, train_s=seconds)
    (args.out / f"meta_{saved_name}.json").write_text(json.dumps(description))


if __name__ == "__main__":
    main()
