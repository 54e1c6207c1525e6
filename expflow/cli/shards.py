"""How prepared data are shown."""

from __future__ import annotations

from rich.console import Console

from expflow.data.build import Prepared
from expflow.data.read import verify
from expflow.errors import ShardCorrupt, UserError
from expflow.sweep.plan import Plan


def _prepared(plan: Plan) -> Prepared:
    data = plan.data(plan.loaded.experiment.recipe)
    if data is None:
        raise UserError(
            f"{plan.loaded.experiment.file}: its data come from your own code; there are no shards to build"
        )
    return data


def show_build(plan: Plan) -> None:
    """Build (or find) the shards and print what they hold."""
    console = Console()
    with console.status("preparing the data"):
        data = _prepared(plan)
    sizes = ", ".join(f"{count:,} {split}" for split, count in data.spec.samples.items())
    console.print(f"{data.root}", highlight=False, soft_wrap=True)
    console.print(f"{sizes}; {data.spec.num_classes} classes; images {data.spec.image_shape}", highlight=False)


def show_verify(plan: Plan) -> None:
    """Check every shard; whatever differs is an error that names it."""
    console = Console()
    data = _prepared(plan)
    with console.status("reading every shard"):
        differences = verify(data.root)
    if differences:
        raise ShardCorrupt("\n".join(differences))
    console.print(f"{data.root}: every shard is as its manifest says", highlight=False, soft_wrap=True)
