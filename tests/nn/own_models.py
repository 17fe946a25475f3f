"""Custom models as people write them, for tests."""

from __future__ import annotations

import torch
from torch import nn

from triscale.families import get
from triscale.nn.build import build as build_network
from triscale.scaling.apply import scale_to


def ours(depth, width, classes, name="efficientnet_b0"):
    network = scale_to(get(name), depth=depth, width=width, resolution=224)
    return build_network(network.replace(classes=classes))


def v1(depth, width, classes):
    return ours(depth, width, classes, "mobilenet_v1")


def plain(depth, width, classes):
    channels = max(1, round(8 * width))
    layers = [nn.Conv2d(3, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    for _ in range(max(1, round(2 * depth))):
        layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def no_module(depth, width, classes):
    return 3


def no_depth(width, classes):
    return nn.Identity()


def maps(depth, width, classes):
    return nn.Conv2d(3, classes, 1)


def pair(depth, width, classes):
    class Two(nn.Module):
        def forward(self, images):
            return images, images

    return Two()


def too_deep(depth, width, classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=64), nn.Conv2d(4, 4, 9), nn.Flatten(), nn.Linear(4, classes))


number = 3


class Classified(nn.Module):
    def __init__(self, body, channels, classes):
        super().__init__()
        self.body, self.classifier = body, nn.Linear(channels, classes)

    def forward(self, images):
        return self.classifier(self.body(images).mean((2, 3)))


class Standardized(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))

    def forward(self, maps):
        return nn.functional.conv2d(maps, self.weight / self.weight.std(), padding=1)


def functional(depth, width, classes):
    return Classified(nn.Sequential(Standardized(3, 8), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, stride=2)), 4, classes)


def item(depth, width, classes):
    rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
    return Classified(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(rates[1])), 8, classes)


def values(depth, width, classes):
    class Scaled(nn.Module):
        def forward(self, images):
            return images / float(images.abs().max().numpy())

    return Classified(nn.Sequential(Scaled(), nn.Conv2d(3, 8, 3)), 8, classes)


class Attention(nn.Module):
    def __init__(self, fused):
        super().__init__()
        self.fused, self.qkv = fused, nn.Linear(16, 48)

    def forward(self, maps):
        q, k, v = self.qkv(maps.flatten(2).mT).chunk(3, -1)
        out = nn.functional.scaled_dot_product_attention(q, k, v) if self.fused else (q @ k.mT / 4).softmax(-1) @ v
        return out.mT.unflatten(2, maps.shape[2:])


def fused(depth, width, classes, fused=True):
    return Classified(nn.Sequential(nn.Conv2d(3, 16, 8, 8), Attention(fused)), 16, classes)


def explicit(depth, width, classes):
    return fused(depth, width, classes, False)


class Layers(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, maps):
        out = self.layer(maps.flatten(2).mT)
        return (out[0] if isinstance(out, tuple) else out).mT.unflatten(2, maps.shape[2:])


def recurrent(depth, width, classes):
    return Classified(nn.Sequential(nn.Conv2d(3, 16, 8, 8), Layers(nn.LSTM(16, 12, 2, batch_first=True))), 12, classes)


def transformer(depth, width, classes):
    layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True)
    return Classified(nn.Sequential(nn.Conv2d(3, 16, 8, 8), Layers(layer)), 16, classes)


class ChannelsLast(nn.Module):
    def forward(self, maps):
        return maps.permute(0, 2, 3, 1).contiguous()


class Pooled(nn.Module):
    def forward(self, maps):
        return maps.mean((1, 2))


def channels_last(depth, width, classes):
    first = nn.Sequential(nn.Conv2d(3, 16, 8, 8), ChannelsLast())
    return nn.Sequential(first, nn.Linear(16, 24), Pooled(), nn.Linear(24, classes))


def fixed_size(depth, width, classes):
    class Fixed(nn.Module):
        def forward(self, images):
            assert images.shape[2] == 64, f"input height {images.shape[2]} is not that of the model (64)"
            return images

    channels = max(1, round(32 * width))
    layers = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(max(1, round(4 * depth)))]
    return Classified(nn.Sequential(Fixed(), nn.Conv2d(3, channels, 1), *layers), channels, classes)


def large_images(depth, width, classes):
    return Classified(
        nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.Conv2d(8, max(1, round(32 * width)), 7)),
        max(1, round(32 * width)),
        classes,
    )


def broken(depth, width, classes):
    raise ValueError("the embedding must be divisible by the heads.")


def misspelled(depth, width, classes):
    class Misspelled(nn.Module):
        def forward(self, images):
            return self.bodi(images)

    return Misspelled()
