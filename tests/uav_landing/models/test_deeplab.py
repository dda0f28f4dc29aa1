import pytest
import torch
from torchvision.models import segmentation

from uav_landing.config import ModelConfig
from uav_landing.models.build import build_model
from uav_landing.models.deeplab import DeepLabV3Plus

OPTIONS = {"weights": None, "weights_backbone": None, "num_classes": 4}


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
def test_logits_are_those_of_torchvision(name: str) -> None:
    torch.manual_seed(0)
    theirs = getattr(segmentation, name)(**OPTIONS).eval()
    ours = build_model(ModelConfig(model_type=name), 4, aux=False).eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(image).logits, theirs(image)["out"], rtol=1e-4, atol=1e-5)


def test_auxiliary_logits_are_those_of_torchvision() -> None:
    torch.manual_seed(0)
    theirs = segmentation.deeplabv3_mobilenet_v3_large(**OPTIONS, aux_loss=True).train()
    ours = build_model(ModelConfig(model_type="deeplabv3_mobilenet_v3_large"), 4, aux=True).train()
    ours.load_state_dict(theirs.state_dict())
    for model in (ours, theirs):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, output = theirs(image), ours(image)
    torch.testing.assert_close(output.aux[0], expected["aux"], rtol=1e-3, atol=1e-4)


def test_deeplabv3plus_decodes_stride_sixteen_at_stride_four() -> None:
    with torch.device("meta"):
        model = DeepLabV3Plus(num_classes=4)
        image = torch.zeros(2, 3, 128, 192)
    features = model.backbone(image)
    assert features["low"].shape == (2, 256, 32, 48)
    assert features["out"].shape == (2, 2048, 8, 12)
    rates = [conv[0].dilation[0] for conv in list(model.aspp.convs)[1:4]]
    assert rates == [6, 12, 18]
    logits, auxiliary = model.coarse_logits(image)
    assert logits.shape == (2, 4, 32, 48)
    assert auxiliary == []
