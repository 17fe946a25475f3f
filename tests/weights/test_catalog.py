"""The catalog agrees with the packages of the other projects."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torchvision

from triscale.errors import WeightsError
from triscale.families import get
from triscale.weights import catalog
from triscale.weights.contract import WeightsContract, check_fits
from triscale.weights.sources import SOURCES


@pytest.mark.parametrize("name", catalog.names("torchvision"))
def test_torchvision_weights_match_its_metadata(name):
    weights = catalog.published(name)
    architecture, _, entry = weights.name.partition(".")
    theirs = torchvision.models.get_model_weights(architecture)[entry]
    transforms = theirs.transforms()
    assert weights.url == theirs.url
    assert weights.sha256 is not None
    assert weights.sha256 in theirs.url
    assert weights.classes == tuple(theirs.meta["categories"])
    assert weights.accuracy is not None
    assert {"acc@1": weights.accuracy.top1, "acc@5": weights.accuracy.top5} == theirs.meta["_metrics"]["ImageNet-1K"]
    assert weights.preprocessing is not None
    assert [weights.preprocessing.resolution] == transforms.crop_size
    assert weights.preprocessing.crop == pytest.approx(transforms.crop_size[0] / transforms.resize_size[0], abs=1e-5)
    assert weights.preprocessing.interpolation == transforms.interpolation.value
    assert (list(weights.preprocessing.mean), list(weights.preprocessing.std)) == (transforms.mean, transforms.std)


def test_timm_weights_match_its_metadata():
    timm = pytest.importorskip("timm")
    for name in catalog.names("timm"):
        weights = catalog.published(name)
        theirs = timm.models.get_pretrained_cfg(weights.name)
        assert weights.hub == theirs.hf_hub_id == f"timm/{weights.name}"
        assert (weights.url or "") == theirs.url
        assert weights.license == theirs.license
        assert weights.network.classes == theirs.num_classes
        result = weights.preprocessing
        assert result is not None
        assert result.resolution == (theirs.test_input_size or theirs.input_size)[1]
        assert result.crop == (theirs.test_crop_pct or theirs.crop_pct)
        assert (result.interpolation, result.mean, result.std) == (theirs.interpolation, theirs.mean, theirs.std)


def test_all_timm_weights_of_our_networks_are_listed():
    timm = pytest.importorskip("timm")
    listed = {name.removeprefix("timm/") for name in catalog.names("timm")}
    theirs = {
        name
        for architecture in SOURCES["timm"].architectures
        for name in timm.list_models(f"{architecture}.*", pretrained=True)
    }
    # Some squeeze the image, which our preprocessing cannot state; two have no classifier.
    assert theirs - listed == {
        "efficientnet_b5.sw_in12k_ft_in1k",
        "resnet50.bamboo",
        "regnety_320.seer",
        "tf_efficientnetv2_b3.in21k_ft_in1k",
        "tf_efficientnetv2_xl.in21k",
        "tf_efficientnetv2_xl.in21k_ft_in1k",
        *(f"tf_efficientnetv2_{size}.{tag}" for size in "ml" for tag in ("in1k", "in21k", "in21k_ft_in1k")),
    }
    assert listed <= theirs


def test_lukemelas_urls_match_its_package():
    package = pytest.importorskip("efficientnet_pytorch.utils")
    ours = {name.removeprefix("lukemelas/"): catalog.published(name).url for name in catalog.names("lukemelas")}
    ours = {name: url for name, url in ours.items() if "lite" not in name}  # those are in packages of their own
    plain = {f"{name}.autoaugment": url for name, url in package.url_map.items()}
    assert ours == plain | {f"{name}.advprop": url for name, url in package.url_map_advprop.items()}


def test_google_autoaugment_accuracies_match_the_paper():
    for size, top1 in enumerate((77.1, 79.1, 80.1, 81.6, 82.9, 83.6, 84.0, 84.3)):
        weights = catalog.published(f"google/efficientnet-b{size}")
        assert weights.accuracy is not None
        assert weights.accuracy.top1 == top1 == pytest.approx(catalog.published(weights.title).accuracy.top1)
        crop = weights.preprocessing.crop
        assert crop == pytest.approx(weights.network.resolution / (weights.network.resolution + 32), abs=1e-5)


@pytest.mark.parametrize("name", catalog.names())
def test_every_contract_round_trips_through_json(name):
    weights = catalog.published(name)
    assert weights.title == name
    assert WeightsContract.from_json(weights.to_json()) == weights
    assert weights.preprocessing.resolution == weights.network.resolution


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("timm/tf_efficientnet_b0.ns_jtf_in1k", "did you mean timm/tf_efficientnet_b0.ns_jft_in1k"),
        ("timm/efficientnet_bo", "did you mean"),
        ("tf_eficientnet_b3.ap_in1k", "did you mean .*timm/tf_efficientnet_b3.ap_in1k"),
        ("alexnet", "triscale weights list shows the names"),
    ],
)
def test_misspelled_name_gets_suggestion(name, hint):
    with pytest.raises(WeightsError, match=f'no published weights "{name}".*{hint}'):
        catalog.published(name)


def test_ambiguous_name_is_rejected():
    with pytest.raises(
        WeightsError, match=r"is ambiguous; give one of torchvision/resnet50\.IMAGENET1K_V2, timm/resnet50"
    ):
        catalog.published("resnet50")
    assert catalog.published("torchvision/resnet50").name == "resnet50.IMAGENET1K_V2"
    assert catalog.published("hf-hub:timm/tf_efficientnet_b0.ns_jft_in1k").source == "timm"


def test_timm_tensorflow_networks_need_same_padding():
    network = catalog.published("timm/tf_efficientnet_b0.ns_jft_in1k").network
    assert (network.padding, network.norm.eps) == ("same", 1e-3)
    network = catalog.published("timm/efficientnet_b0.ra_in1k").network
    assert (network.padding, network.norm.eps) == ("symmetric", 1e-5)


def test_different_network_is_rejected_with_each_field():
    weights = catalog.published("torchvision/mobilenet_v2.IMAGENET1K_V2")
    check_fits(weights, weights.network.replace(name="mine", resolution=96, dropout=0.5, drop_path=0.1))
    with pytest.raises(WeightsError) as caught:
        check_fits(weights, weights.network.replace(padding="same", classes=10, norm={"eps": 0.001, "momentum": 0.1}))
    message = str(caught.value)
    assert message.startswith("torchvision/mobilenet_v2.IMAGENET1K_V2 does not fit mobilenet_v2: ")
    for field in ("padding is same, expected symmetric", "classes is 10, expected 1000", "norm.eps is 0.001"):
        assert field in message
    with pytest.raises(WeightsError, match=r"stages are \d, expected 7|block is .*, expected mbconv"):
        check_fits(weights, get("resnet18"))
    with pytest.raises(WeightsError, match=r"stem\.activation is silu, expected relu6"):
        check_fits(weights, get("efficientnet_b0"))
    check_fits(weights, weights.network.replace(classes=10), drop_head=True)


@pytest.mark.process
def test_catalog_does_not_import_torch():
    code = "import sys; from triscale.weights import catalog; catalog.published('timm/resnet18')\n"
    code += "print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
