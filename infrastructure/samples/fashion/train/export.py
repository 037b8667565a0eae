"""Export trained weights to ONNX: opset 13, `image` float32 [N, 1, 28, 28] in [0, 1] to `logits` [N, 10], N free.

    python3 export.py mlp small medA big --raw FOLDER_WITH_PT_FILES --out ..

Reads NAME.pt (train.py wrote it), writes fm_NAME.onnx. With --split, big and small are also written as
fm_NAME_features.onnx (`image` to `features` [N, 64]) and fm_NAME_head.onnx (`features` to `logits`).
"""
import argparse
import warnings
from pathlib import Path

import onnx
import torch

from models import MODELS


class Features(torch.nn.Module):
    """The body alone. The attribute's name is part of the weight names in the file."""

    def __init__(self, model):
        super().__init__()
        self.m = model

    def forward(self, x):
        return self.m.body(x)


def load(raw, name):
    """The trained network in evaluation mode; a trailing 2 (medA2) is a second seed of the same architecture."""
    model = MODELS[name.rstrip("2")]()
    model.load_state_dict(torch.load(raw / f"{name}.pt"))
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def export(model, example, path, input_name, output_name):
    """Write, check and describe one ONNX file; axis 0 of input and output is free."""
    torch.onnx.export(
        model, example, str(path), opset_version=13, input_names=[input_name], output_names=[output_name],
        dynamic_axes={input_name: {0: "N"}, output_name: {0: "N"}}, do_constant_folding=True)
    written = onnx.load(str(path))
    onnx.checker.check_model(written)
    print(path.name, path.stat().st_size, "B ops", sorted({node.op_type for node in written.graph.node}),
          "opset", written.opset_import[0].version, "ir", written.ir_version)


def main():
    parser = argparse.ArgumentParser(description="export trained Fashion-MNIST networks to ONNX")
    parser.add_argument("names", nargs="+", help="e.g. mlp small medA big")
    parser.add_argument("--split", action="store_true", help="write features and head of big and small as well")
    parser.add_argument("--raw", type=Path, required=True, help="folder with the NAME.pt files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the ONNX files")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    args.out.mkdir(parents=True, exist_ok=True)

    example = torch.rand(3, 1, 28, 28)
    for name in args.names:
        model = load(args.raw, name)
        export(model, example, args.out / f"fm_{name}.onnx", "image", "logits")
        if args.split and name in ("big", "small"):
            export(Features(model), example, args.out / f"fm_{name}_features.onnx", "image", "features")
            width = model.head.in_features
            export(model.head, torch.rand(3, width), args.out / f"fm_{name}_head.onnx", "features", "logits")


if __name__ == "__main__":
    main()
