"""Architectures: what is known of the catalogue's own and of torchvision's without building any."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArchitectureFacts:
    """An architecture. `parameters` is counted for 3 input channels and `classes` classes; None where only building it tells."""

    name: str
    family: str
    parameters: int | None
    per_channel: int  # weights that each input channel adds
    per_class: int  # that each class adds
    features: int  # channels of the last feature map; 0 where that is not known
    step: int = 4  # by how much that map is smaller than the image
    classes: int = 100

    def parameters_for(self, channels: int, classes: int) -> int | None:
        """As many as it has for other data: only the first convolution and the last layer change."""
        if self.parameters is None:
            return None
        return self.parameters + self.per_channel * (channels - 3) + self.per_class * (classes - self.classes)


def _small(
    name: str, family: str, parameters: int, stem: int, features: int, step: int = 4, kernel: int = 3
) -> ArchitectureFacts:
    """A network of a convolution with `stem` channels, a body, global pooling and one linear layer; for 100 classes."""
    return ArchitectureFacts(name, family, parameters, kernel**2 * stem, features + 1, features, step)


ARCHITECTURES = {
    fact.name: fact
    for fact in (
        _small("vgg8", "vgg", 3_965_028, 64, 512, 8),
        _small("vgg11", "vgg", 9_277_284, 64, 512, 8),
        _small("vgg13", "vgg", 9_462_180, 64, 512, 8),
        _small("vgg16", "vgg", 14_774_436, 64, 512, 8),
        _small("vgg19", "vgg", 20_086_692, 64, 512, 8),
        _small("resnet8", "resnet", 83_892, 16, 64),
        _small("resnet14", "resnet", 181_108, 16, 64),
        _small("resnet20", "resnet", 278_324, 16, 64),
        _small("resnet32", "resnet", 472_756, 16, 64),
        _small("resnet44", "resnet", 667_188, 16, 64),
        _small("resnet56", "resnet", 861_620, 16, 64),
        _small("resnet110", "resnet", 1_736_564, 16, 64),
        _small("resnet8x4", "resnet", 1_233_540, 32, 256),
        _small("resnet20x4", "resnet", 4_333_700, 32, 256),
        _small("resnet32x4", "resnet", 7_433_860, 32, 256),
        _small("resnet18_cifar", "resnet-deep", 11_220_132, 64, 512, 8),
        _small("resnet34_cifar", "resnet-deep", 21_328_292, 64, 512, 8),
        _small("resnet50_cifar", "resnet-deep", 23_705_252, 64, 2048, 8),
        _small("wrn_16_1", "wrn", 180_916, 16, 64),
        _small("wrn_16_2", "wrn", 703_284, 16, 128),
        _small("wrn_40_1", "wrn", 569_780, 16, 64),
        _small("wrn_40_2", "wrn", 2_255_156, 16, 128),
        _small("mobilenetv2", "mobilenet", 812_836, 16, 1280, 16),
        _small("shufflenetv1", "shufflenet", 949_258, 24, 960, 8, 1),
        _small("shufflenetv2", "shufflenet", 1_355_528, 24, 1024, 8, 1),
        _small("shufflenetv2_0_5", "shufflenet", 443_716, 24, 1024, 8, 1),
        _small("resnet18x2", "resnet-wide", 44_695_716, 64, 1024, 32, 7),
        _small("resnet34x2", "resnet-wide", 85_113_508, 64, 1024, 32, 7),
        _small("resnet34x4", "resnet-wide", 339_988_388, 64, 2048, 32, 7),
    )
}

# torchvision's classifiers: parameters for 1000 classes, and how many each channel and each class adds. The Inceptions are
# counted without their auxiliary heads, which are not built; ViTs and MaxViT for images of 224 pixels.
_TORCHVISION = """
alexnet 61100840 7744 4097
convnext_base 88591464 2048 1025
convnext_large 197767336 3072 1537
convnext_small 50223688 1536 769
convnext_tiny 28589128 1536 769
densenet121 7978856 3136 1025
densenet161 28681000 4704 2209
densenet169 14149480 3136 1665
densenet201 20013928 3136 1921
efficientnet_b0 5288548 288 1281
efficientnet_b1 7794184 288 1281
efficientnet_b2 9109994 288 1409
efficientnet_b3 12233232 360 1537
efficientnet_b4 19341616 432 1793
efficientnet_b5 30389784 432 2049
efficientnet_b6 43040704 504 2305
efficientnet_b7 66347960 576 2561
efficientnet_v2_l 118515272 288 1281
efficientnet_v2_m 54139356 216 1281
efficientnet_v2_s 21458488 216 1281
googlenet 6624904 3136 1025
inception_v3 23834568 288 2049
maxvit_t 30919624 576 512
mnasnet0_5 2218512 144 1281
mnasnet0_75 3170208 216 1281
mnasnet1_0 4383312 288 1281
mnasnet1_3 6282256 360 1281
mobilenet_v2 3504872 288 1281
mobilenet_v3_large 5483032 144 1281
mobilenet_v3_small 2542856 144 1025
regnet_x_16gf 54278536 288 2049
regnet_x_1_6gf 9190136 288 913
regnet_x_32gf 107811560 288 2521
regnet_x_3_2gf 15296552 288 1009
regnet_x_400mf 5495976 288 401
regnet_x_800mf 7259656 288 673
regnet_x_8gf 39572648 288 1921
regnet_y_128gf 644812894 288 7393
regnet_y_16gf 83590140 288 3025
regnet_y_1_6gf 11202430 288 889
regnet_y_32gf 145046770 288 3713
regnet_y_3_2gf 19436338 288 1513
regnet_y_400mf 4344144 288 441
regnet_y_800mf 6432512 288 785
regnet_y_8gf 39381472 288 2017
resnet101 44549160 3136 2049
resnet152 60192808 3136 2049
resnet18 11689512 3136 513
resnet34 21797672 3136 513
resnet50 25557032 3136 2049
resnext101_32x8d 88791336 3136 2049
resnext101_64x4d 83455272 3136 2049
resnext50_32x4d 25028904 3136 2049
shufflenet_v2_x0_5 1366792 216 1025
shufflenet_v2_x1_0 2278604 216 1025
shufflenet_v2_x1_5 3503624 216 1025
shufflenet_v2_x2_0 7393996 216 2049
squeezenet1_0 1248424 4704 513
squeezenet1_1 1235496 576 513
swin_b 87768224 2048 1025
swin_s 49606258 1536 769
swin_t 28288354 1536 769
swin_v2_b 87930848 2048 1025
swin_v2_s 49737442 1536 769
swin_v2_t 28351570 1536 769
vgg11 132863336 576 4097
vgg11_bn 132868840 576 4097
vgg13 133047848 576 4097
vgg13_bn 133053736 576 4097
vgg16 138357544 576 4097
vgg16_bn 138365992 576 4097
vgg19 143667240 576 4097
vgg19_bn 143678248 576 4097
vit_b_16 86567656 196608 769
vit_b_32 88224232 786432 769
vit_h_14 632045800 250880 1281
vit_l_16 304326632 262144 1025
vit_l_32 306535400 1048576 1025
wide_resnet101_2 126886696 3136 2049
wide_resnet50_2 68883240 3136 2049
"""
TORCHVISION = {
    name: ArchitectureFacts(
        f"torchvision:{name}", name.partition("_")[0].rstrip("0123456789"), int(count), int(channel), int(label), 0, 32, 1000
    )
    for name, count, channel, label in (line.split() for line in _TORCHVISION.split("\n") if line)
}
# Pixels along a side below which torchvision's networks cannot work; smaller images are enlarged to them.
LEAST_SIZE = {
    **dict.fromkeys(("alexnet",), 63),
    **dict.fromkeys(("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"), 32),
    **dict.fromkeys(("densenet121", "densenet161", "densenet169", "densenet201"), 29),
    **dict.fromkeys(("efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l"), 33),
    **dict.fromkeys(("swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_s", "swin_v2_b"), 32),
    **dict.fromkeys((f"vgg{depth}{bn}" for depth in (11, 13, 16, 19) for bn in ("", "_bn")), 32),
    "googlenet": 15,
    "inception_v3": 75,
    "maxvit_t": 224,
    "squeezenet1_0": 21,
    "squeezenet1_1": 17,
}
