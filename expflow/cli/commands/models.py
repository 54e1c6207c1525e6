"""Commands about architectures: models (the list, or a comparison), models show, models compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from expflow.cli.options import Storage

ModelSets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A key of the model (depth=50). May be given several times."),
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="CxHxW",
        help="Shape of the image; by default the architecture's usual one.",
        show_default=False,
    ),
]
Classes = Annotated[
    int | None,
    typer.Option(help="Number of classes; by default the architecture's usual one.", min=1, show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print it as CSV.")]
Names = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL",
        help="Architectures; each may carry keys of its own: resnet,layout=imagenet,depth=50",
        show_default=False,
    ),
]


class _ComparesNames(TyperGroup):
    """``models A B`` means ``models compare A B``: what is no command here is the name of an architecture."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # typer's click is its own, or click
        if args and args[0] not in self.commands:
            args = ["compare", *args]
        return super().resolve_command(ctx, args)


_group = typer.Typer(
    cls=_ComparesNames,
    help="List the architectures, or count and compare some: models A B is models compare A B.",
    invoke_without_command=True,
    no_args_is_help=False,
    subcommand_metavar="[MODEL... | COMMAND [ARGS]...]",
)


def register(app: typer.Typer) -> None:
    """Add this group's commands.

    Args:
        app: The command line's app.
    """
    app.add_typer(_group, name="models")


@_group.callback()
def models(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the architectures, or count and compare some: models A B is models compare A B."""
    if ctx.invoked_subcommand is None:
        from expflow.cli.views.models import show_list

        show_list(as_json=as_json)


@_group.command()
def show(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="An architecture.", show_default=False)],
    set_: ModelSets = None,
    input_: Input = None,
    classes: Classes = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    bars: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw memory, parameters and multiply-adds of each layer (.png or .svg)."),
    ] = None,
    receptive: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw how the receptive field grows from layer to layer (.png or .svg)."),
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw a child of an architecture search, its layers or its cells (.svg)."),
    ] = None,
) -> None:
    """Show the layers of one architecture: sizes, memory, parameters, multiply-adds, receptive field.

    Nothing is allocated and nothing trained, however large it is. Memory is that of the outputs in fp32, in units of
    1024 bytes; multiply-adds are those of convolutions and matrix products for one image.
    """
    from expflow.cli.views.models import show_model

    form: Literal["table", "json", "csv"] = "json" if as_json else "csv" if as_csv else "table"
    show_model(name, set_ or (), input_, classes, form=form, bars=bars, receptive=receptive, draw=draw)


@_group.command()
def compare(
    names: Names,
    set_: ModelSets = None,
    input_: Input = None,
    classes: Classes = None,
    storage: Storage = None,
    as_json: AsJson = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw accuracy against multiply-adds, parameters as size (.png or .svg)."),
    ] = None,
) -> None:
    """Compare architectures: parameters, multiply-adds, memory, and the accuracy that is known.

    It is that which torchvision publishes for its ImageNet weights, whoever built the network; where there is none,
    the best validation accuracy that the network reached in your own sweeps, as MLflow has it.
    """
    from expflow.cli.views.model_comparison import show_comparison

    show_comparison(names, set_ or (), input_, classes, storage=storage, as_json=as_json, out=out)
