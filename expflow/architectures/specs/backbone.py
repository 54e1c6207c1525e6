"""A classification network of ours inside of another network: its name under ``backbone``, its keys beside that."""

from __future__ import annotations

import json
from typing import Self

from pydantic import ValidationError, model_validator

from expflow.config.component_specs import ModelSpec
from expflow.config.spec import FieldError, PassthroughSpec, identity
from expflow.config.validation import unknown_key
from expflow.errors import nearest
from expflow.registry import MODELS


class WithBackboneSpec(ModelSpec, PassthroughSpec):
    """Base: a network that begins as a classification network of ours; no network by itself.

    Every key that is none of its own is one of the backbone's.
    """

    backbone: str = identity(
        "resnet18",
        description="A family or well-known name of ours that gives scores (resnet, vgg16, densenet …); its keys stand"
        " beside this one.",
    )

    def backbone_spec(self) -> ModelSpec:
        """The backbone as a network of its own, with the keys that are not this network's.

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
            raise FieldError("backbone", f"{name} is no network that classifies images; choose one that is")
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
