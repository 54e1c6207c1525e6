"""Names of tasks, and where the arguments of each are declared. Imports no spec.

A new component is declared here and in its spec, and nowhere else.
"""

from __future__ import annotations

from expflow.registry import Component

TASKS = (
    Component("classification", "expflow.tasks.specs:ClassificationSpec"),
    Component("one_shot", "expflow.tasks.specs:OneShotSpec"),
    Component("segmentation", "expflow.tasks.specs:SegmentationSpec"),
    Component("detection", "expflow.tasks.specs:DetectionSpec"),
    Component("multilabel", "expflow.tasks.specs:MultilabelSpec"),
    Component("regression", "expflow.tasks.specs:RegressionSpec"),
    Component("multitask", "expflow.tasks.specs:MultitaskSpec"),
    Component("autoencoder", "expflow.tasks.generative_specs:AutoencoderTaskSpec"),
    Component("diffusion", "expflow.tasks.generative_specs:DiffusionSpec"),
    Component("mae", "expflow.tasks.generative_specs:MAETaskSpec"),
    Component("igpt", "expflow.tasks.generative_specs:IGPTTaskSpec"),
    Component("seq2seq", "expflow.tasks.seq2seq_spec:Seq2SeqSpec"),
    Component("clip", "expflow.tasks.clip_spec:CLIPTaskSpec"),
    Component("gan", "expflow.tasks.adversarial_specs:GANSpec"),
    Component("pix2pix", "expflow.tasks.adversarial_specs:Pix2PixSpec"),
    Component("cyclegan", "expflow.tasks.adversarial_specs:CycleGANSpec"),
    Component("context_encoder", "expflow.tasks.adversarial_specs:ContextEncoderTaskSpec"),
    Component("super_resolution", "expflow.tasks.generative_specs:SuperResolutionSpec"),
    Component("anomaly", "expflow.tasks.generative_specs:AnomalySpec"),
    Component("style_transfer", "expflow.tasks.style_specs:StyleTransferSpec"),
    Component("fast_style_transfer", "expflow.tasks.style_specs:FastStyleTransferSpec"),
    Component("deep_dream", "expflow.tasks.style_specs:DeepDreamSpec"),
    Component("bovw", "expflow.tasks.bovw_spec:BovwSpec"),
    Component("knn", "expflow.tasks.knn_spec:KnnSpec"),
    Component("scripted", "expflow.tasks.specs:ScriptedSpec"),
    Component("replayed", "expflow.tasks.specs:ReplayedSpec"),
)
