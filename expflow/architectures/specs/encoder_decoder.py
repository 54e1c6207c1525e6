"""Arguments of encoder-decoders. Torch-free: the network is in ``expflow.architectures.encoder_decoder``."""

from __future__ import annotations

import json
from typing import ClassVar, Self

from pydantic import ValidationError, model_validator

from expflow.architectures.specs.blocks import Activation, Norm
from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.config.component_specs import ModelOutput, ModelSpec
from expflow.config.spec import FieldError, PassthroughSpec, identity
from expflow.config.validation import unknown_key
from expflow.errors import nearest
from expflow.registry import MODELS


class EncoderDecoderSpec(ModelSpec, PassthroughSpec):
    """A classification network of ours as encoder, and a decoder that doubles its maps up to the image's size.

    Every key that is none of these is one of the backbone's. The decoder is the head: what was learned as a
    classification network is taken over with init.
    """

    build: ClassVar[str] = "expflow.architectures.encoder_decoder:build"
    gives: ClassVar[ModelOutput] = "maps"

    backbone: str = identity(
        "resnet18",
        description="A family or well-known name of ours that gives scores (resnet, vgg16, densenet …); its keys stand"
        " beside this one.",
    )
    decoder_width: int = identity(64, description="Channels of the decoder's maps.", ge=1, le=MAX_CHANNELS)
    decoder_skips: bool = identity(
        True, description="Whether the decoder sees the encoder's maps of its size beside what it has doubled."
    )
    decoder_norm: Norm = identity("batch", description="Normalisation of the decoder's maps.")
    decoder_activation: Activation = identity("relu", description="Non-linearity of the decoder.")

    def backbone_spec(self) -> ModelSpec:
        """The encoder as a network of its own, with the keys that are not the decoder's.

        Raises:
            FieldError: There is no such network of ours, or it does not take a key.
        """
        preset = MODELS.preset(self.backbone)
        name = preset.component if preset is not None else self.backbone
        if name not in MODELS.names():
            close = nearest(self.backbone, [*MODELS.names(), *MODELS.presets])
            hint = f"nearest: {close}" if close else "expected a family such as resnet, or a well-known name"
            raise FieldError("backbone", f"no network of ours is named {self.backbone!r}; {hint}")
        given = {**(preset.arguments if preset is not None else {}), **self.arguments}
        try:
            spec = MODELS.spec(name).model_validate_json(json.dumps({"name": name, **given}), strict=True)
        except ValidationError as error:
            raise self._refusal(name, error) from error
        if not isinstance(spec, ModelSpec) or spec.gives != "scores":
            raise FieldError("backbone", f"{name} gives maps itself; choose a network that classifies images")
        self.note_defaults(key for key in self.arguments if given[key] == MODELS.spec(name).model_fields[key].default)
        return spec

    def _refusal(self, name: str, error: ValidationError) -> FieldError:
        """What the backbone says of its keys, as an error of this component."""
        details = error.errors(include_url=False)[0]
        key = str(details["loc"][0]) if details["loc"] else ""
        if details["type"] == "extra_forbidden":
            own = [field for field in type(self).model_fields if field != "name"]
            theirs = [field for field in MODELS.spec(name).model_fields if field != "name"]
            return FieldError(key, unknown_key(key, [*own, *theirs]))
        cause = details.get("ctx", {}).get("error")
        return FieldError(getattr(cause, "field", "") or key or "backbone", str(cause or details["msg"]))

    @model_validator(mode="after")
    def _has_a_backbone(self) -> Self:
        self.backbone_spec()
        return self
