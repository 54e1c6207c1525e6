"""Names of data sources, and where the arguments of each are declared. Imports no spec.

A new component is declared here and in its spec, and nowhere else.
"""

from __future__ import annotations

from expflow.registry import Component

SOURCES = (
    Component("digits", "expflow.data.specs:DigitsSpec"),
    Component("digit_scenes", "expflow.data.specs:DigitScenesSpec"),
    Component("written_dates", "expflow.data.specs:WrittenDatesSpec"),
    Component("noisy_curve", "expflow.data.specs:NoisyCurveSpec"),
    Component("fashion_mnist", "expflow.data.specs:FashionMNISTSpec"),
    Component("mnist", "expflow.data.specs:MNISTSpec"),
    Component("cifar10", "expflow.data.specs:CIFAR10Spec"),
    Component("cifar100", "expflow.data.specs:CIFAR100Spec"),
    Component("imagenet", "expflow.data.specs:ImageNetSpec"),
    Component("imagenet22k", "expflow.data.specs:ImageNet22kSpec"),
    Component("voc2012", "expflow.data.labelled_specs:VOC2012Spec"),
    Component("voc2012_labels", "expflow.data.labelled_specs:VOC2012LabelsSpec"),
    Component("pets", "expflow.data.labelled_specs:PetsSpec"),
    Component("stamps", "expflow.data.labelled_specs:StampsSpec"),
    Component("stamp_captions", "expflow.data.caption_specs:StampCaptionsSpec"),
    Component("caption_pairs", "expflow.data.caption_specs:CaptionPairsSpec"),
    Component("emoji", "expflow.data.caption_specs:EmojiSpec"),
    Component("table", "expflow.data.labelled_specs:TableSpec"),
    Component("folder", "expflow.data.specs:FolderSpec"),
    Component("coco", "expflow.data.box_specs:CocoSpec"),
    Component("tree_crowns", "expflow.data.box_specs:TreeCrownsSpec"),
    Component("nuclei", "expflow.data.box_specs:NucleiSpec"),
    Component("shards", "expflow.data.specs:ShardsSpec"),
)
