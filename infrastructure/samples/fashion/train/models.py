"""The Fashion-MNIST networks: image float32 [N, 1, 28, 28] in [0, 1] to logits [N, 10].

The order in which layers are made decides which random numbers they start from, and the attribute names (`body`,
`head`, `a`, `b`, `r`) become node and weight names in the ONNX files: changing either makes another file.
"""
import torch
import torch.nn as nn


def conv_bn_relu(inputs, outputs, stride=1, kernel=3):
    """Same-padded convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True))


class Residual(nn.Module):
    """x + (conv, BN, ReLU, conv, BN)(x), then ReLU; the number of channels stays."""

    def __init__(self, channels):
        super().__init__()
        self.a = conv_bn_relu(channels, channels)
        self.b = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))
        self.r = nn.ReLU()

    def forward(self, x):
        return self.r(x + self.b(self.a(x)))


class Net(nn.Module):
    """`body` gives features [N, width], `head` is linear to ten logits."""

    def __init__(self, body, width):
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.body(x))


def global_average():
    """[N, C, H, W] to [N, C]."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def linear():
    return Net(nn.Flatten(), 784)


def mlp():
    return Net(nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU()), 64)


def small():
    return Net(nn.Sequential(
        conv_bn_relu(1, 16, 2),
        conv_bn_relu(16, 32, 2),
        conv_bn_relu(32, 32),
        nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU()), 64)


def med_a():
    """Plain, in the manner of VGG."""
    return Net(nn.Sequential(
        conv_bn_relu(1, 24), nn.MaxPool2d(2),
        conv_bn_relu(24, 48), nn.MaxPool2d(2),
        conv_bn_relu(48, 96), conv_bn_relu(96, 96), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(96 * 9, 128), nn.ReLU()), 128)


def med_b():
    """Residual, 5x5 stem, early stride 2."""
    return Net(nn.Sequential(
        conv_bn_relu(1, 32, 2, 5), Residual(32),
        conv_bn_relu(32, 64, 2), Residual(64),
        conv_bn_relu(64, 96),
        global_average()), 96)


def med_c():
    """Wide first layers with another receptive field."""
    return Net(nn.Sequential(
        conv_bn_relu(1, 32, 1, 5), nn.MaxPool2d(2),
        conv_bn_relu(32, 64, 2, 5),
        conv_bn_relu(64, 128, 2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(128 * 16, 96), nn.ReLU()), 96)


def big():
    return Net(nn.Sequential(
        conv_bn_relu(1, 32),
        conv_bn_relu(32, 64, 2), Residual(64),
        conv_bn_relu(64, 128, 2), Residual(128),
        global_average(), nn.Linear(128, 64), nn.ReLU()), 64)


MODELS = dict(linear=linear, mlp=mlp, small=small, medA=med_a, medB=med_b, medC=med_c, big=big)


def multiply_adds(model):
    """Multiply-adds of the convolutions and linear layers for one image; a FLOP count is twice that."""
    total = [0]

    def count(layer, inputs, output):
        if isinstance(layer, nn.Conv2d):
            total[0] += output[0].numel() * layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
        if isinstance(layer, nn.Linear):
            total[0] += layer.in_features * layer.out_features

    hooks = [layer.register_forward_hook(count) for layer in model.modules()
             if isinstance(layer, (nn.Conv2d, nn.Linear))]
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 1, 28, 28))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    return total[0]
