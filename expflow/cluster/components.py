"""Names of launchers, and where the arguments of each are declared. Imports no spec."""

from __future__ import annotations

from expflow.registry import Component

LAUNCHERS = (
    Component("kuberay", "expflow.cluster.specs:KubeRayLauncherSpec"),
    Component("ray", "expflow.cluster.specs:RayLauncherSpec"),
    Component("slurm", "expflow.cluster.specs:SlurmLauncherSpec"),
    Component("ssh", "expflow.cluster.specs:SshLauncherSpec"),
)
