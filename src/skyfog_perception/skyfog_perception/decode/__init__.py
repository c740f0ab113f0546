"""From a network's tensors to what is in the image, one module a kind of head. Pure: no state, no clock."""

from __future__ import annotations

from skyfog_perception.decode.boxes import BoxDecoder
from skyfog_perception.decode.deeplab import DeepLab
from skyfog_perception.decode.efficientdet import EfficientDet
from skyfog_perception.decode.nanodet import NanoDet
from skyfog_perception.decode.rtdetr import RtDetr
from skyfog_perception.decode.yolo import Yolo
from skyfog_perception.heads import DeepLabSpec, EfficientDetSpec, NanoDetSpec, RtDetrSpec, YoloSpec
from skyfog_perception.manifest import Model


def make_decoder(model: Model) -> BoxDecoder | DeepLab:
    """The decoder that the manifest names."""
    size = (model.manifest.input.height, model.manifest.input.width)
    match model.manifest.decoder:
        case EfficientDetSpec() as spec:
            return EfficientDet(spec, size, len(model.labels), model.name)
        case YoloSpec() as spec:
            return Yolo(spec, len(model.labels), model.name)
        case NanoDetSpec() as spec:
            return NanoDet(spec, size, len(model.labels), model.name)
        case RtDetrSpec() as spec:
            return RtDetr(spec, len(model.labels), model.name)
        case DeepLabSpec() as spec:
            return DeepLab(spec, len(model.labels), model.name)
