"""Names of networks, and where the arguments of each are declared. Imports no spec.

A new component is declared here and in its spec, and nowhere else.
"""

from __future__ import annotations

from expflow.registry import Component

MODELS = (
    Component("resnet", "expflow.architectures.specs.resnet:ResNetSpec"),
    Component("densenet", "expflow.architectures.specs.densenet:DenseNetSpec"),
    Component("mobilenet_v1", "expflow.architectures.specs.mobilenet_v1:MobileNetV1Spec"),
    Component("shufflenet_v1", "expflow.architectures.specs.shufflenet_v1:ShuffleNetV1Spec"),
    Component("mlp", "expflow.architectures.specs.mlp:MLPSpec"),
    Component("linear", "expflow.architectures.specs.linear:LinearSpec"),
    Component("perceptron", "expflow.architectures.specs.perceptron:PerceptronSpec"),
    Component("two_layer", "expflow.architectures.specs.perceptron:TwoLayerSpec"),
    Component("lenet5", "expflow.architectures.specs.lenet5:LeNet5Spec"),
    Component("lecture_net", "expflow.architectures.specs.lecture_net:LectureNetSpec"),
    Component("alexnet", "expflow.architectures.specs.alexnet:AlexNetSpec"),
    Component("zfnet", "expflow.architectures.specs.zfnet:ZFNetSpec"),
    Component("vgg", "expflow.architectures.specs.vgg:VGGSpec"),
    Component("unet", "expflow.architectures.specs.unet:UNetSpec"),
    Component("fcn", "expflow.architectures.specs.fcn:FCNSpec"),
    Component("googlenet", "expflow.architectures.specs.googlenet:GoogLeNetSpec"),
    Component("vit", "expflow.architectures.specs.vit:ViTSpec"),
    Component("mixer", "expflow.architectures.specs.mixer:MixerSpec"),
    Component("gmlp", "expflow.architectures.specs.gmlp:GMLPSpec"),
    Component("convmixer", "expflow.architectures.specs.convmixer:ConvMixerSpec"),
    Component("squeezenet", "expflow.architectures.specs.package_models:SqueezeNetSpec"),
    Component("inception_v3", "expflow.architectures.specs.package_models:InceptionV3Spec"),
    Component("inception_v4", "expflow.architectures.specs.package_models:InceptionV4Spec"),
    Component("inception_resnet_v2", "expflow.architectures.specs.package_models:InceptionResNetV2Spec"),
    Component("xception", "expflow.architectures.specs.package_models:XceptionSpec"),
    Component("mobilenet_v2", "expflow.architectures.specs.package_models:MobileNetV2Spec"),
    Component("mobilenet_v3", "expflow.architectures.specs.package_models:MobileNetV3Spec"),
    Component("shufflenet_v2", "expflow.architectures.specs.package_models:ShuffleNetV2Spec"),
    Component("mnasnet", "expflow.architectures.specs.package_models:MNASNetSpec"),
    Component("nasnet", "expflow.architectures.specs.package_models:NASNetSpec"),
    Component("pnasnet", "expflow.architectures.specs.package_models:PNASNetSpec"),
    Component("efficientnet", "expflow.architectures.specs.package_models:EfficientNetSpec"),
    Component("efficientnet_v2", "expflow.architectures.specs.package_models:EfficientNetV2Spec"),
    Component("seresnet", "expflow.architectures.specs.package_models:SEResNetSpec"),
    Component("senet", "expflow.architectures.specs.package_models:SENetSpec"),
    Component("resnetv2", "expflow.architectures.specs.package_models:ResNetV2Spec"),
    Component("bit", "expflow.architectures.specs.package_models:BigTransferSpec"),
    Component("convnext", "expflow.architectures.specs.package_models:ConvNeXtSpec"),
    Component("swin", "expflow.architectures.specs.package_models:SwinSpec"),
    Component("swin_v2", "expflow.architectures.specs.package_models:SwinV2Spec"),
    Component("mvit_v2", "expflow.architectures.specs.package_models:MViTV2Spec"),
    Component("deit3", "expflow.architectures.specs.package_models:DeiT3Spec"),
    Component("coatnet", "expflow.architectures.specs.package_models:CoAtNetSpec"),
    Component("resmlp", "expflow.architectures.specs.package_models:ResMLPSpec"),
    Component("timm/", "expflow.architectures.specs.package_models:TimmSpec", is_prefix=True),
    Component("torchvision/", "expflow.architectures.specs.package_models:TorchvisionSpec", is_prefix=True),
)
