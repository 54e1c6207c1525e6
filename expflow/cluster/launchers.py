"""Which launcher a command means."""

from __future__ import annotations

from pydantic import ValidationError

from expflow.cluster.launcher import Launcher
from expflow.cluster.ray_launcher import RayLauncher
from expflow.cluster.specs import RayLauncherSpec
from expflow.config.site import Site
from expflow.config.spec import Spec
from expflow.errors import UnknownName, UserError
from expflow.registry import LAUNCHERS, load_dotted


def choose_launcher(site: Site, *, on: str | None = None, address: str | None = None, storage: str = "") -> Launcher:
    """The launcher that was asked for.

    Args:
        site: This machine's settings.
        on: A name of its ``clusters``, or a launcher's own name; None: the site's ``cluster``, else a Ray head.
        address: Address of a Ray head; it goes before the site's.
        storage: The folder of all results; "" where it does not matter.

    Raises:
        UserError: Both a name and an address were given, or the launcher has to be described first.
        UnknownName: There is no such cluster.
    """
    if address is not None:
        if on is not None:
            raise UserError("--address is a Ray head, and --on a cluster of the site file: give one of them")
        return RayLauncher(RayLauncherSpec(address=address))
    name = on or site.cluster
    if name is None:
        return RayLauncher(RayLauncherSpec(), (), site.ray)
    spec = site.clusters.get(name)
    if spec is None:
        if name not in LAUNCHERS:
            raise UnknownName("cluster", name, [*site.clusters, *LAUNCHERS.names()])
        spec = _undescribed(name)
    choice = ("--on", name)
    if isinstance(spec, RayLauncherSpec):
        return RayLauncher(spec, choice, site.ray)
    launcher: Launcher = load_dotted(spec.build)(spec, choice, storage or site.storage)
    return launcher


def _undescribed(name: str) -> Spec:
    """A launcher as it comes, without a word in the site file."""
    try:
        spec: Spec = LAUNCHERS.spec(name)()
    except ValidationError as error:
        needed = [str(problem["loc"][0]) for problem in error.errors()]
        keys = ", ".join(f"{key}: …" for key in needed)
        raise UserError(
            f"the launcher {name} needs {' and '.join(needed)}: describe your cluster in expflow.site.yaml, as"
            f" `clusters: {{NAME: {{name: {name}, {keys}}}}}`, and give --on NAME"
        ) from error
    return spec
