"""Python and the packages: their versions against our ranges and the security floors, and whether torch's pair fits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from expflow.doctor.check_result import CheckResult

OLDEST_PYTHON = (3, 11)

UNSAFE = {
    "ray": ("<2.56", "CVE-2026-57516"),
    "pytorch-lightning": ("<2.6.6", "CVE-2026-58659; 2.6.2 and 2.6.3 were malicious uploads"),
    "mlflow": ("<3.16.1", "its server had a default administrator's password"),
    "torch": ("<=2.10.0", "known vulnerabilities in loading"),
}
"""Package -> versions that must not be used, and why."""

NO_GPU = "none that torch sees; trials run on the CPU"

_PROBE = """
import json, torch, torchvision
torch.ops.torchvision.nms
count = torch.cuda.device_count()
print(json.dumps({"cuda": torch.version.cuda, "names": [torch.cuda.get_device_name(n) for n in range(count)]}))
"""


def check_python() -> CheckResult:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return CheckResult("python", "fail", version, "expflow needs Python 3.11 or newer: make PYTHON=python3.12 test")
    return CheckResult("python", "ok", f"{version} ({sys.executable})")


def check_packages() -> Iterator[CheckResult]:
    """One check for each package that expflow asks for."""
    for requirement in _requirements():
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield CheckResult(requirement.name, "fail", "not installed", f"pip install '{requirement}'")
            continue
        yield judge_package(requirement, version)


def judge_package(requirement: Requirement, version: str) -> CheckResult:
    """The version of a package against what we ask for and against what is unsafe.

    Args:
        requirement: What we ask for.
        version: The version that is installed.
    """
    name = requirement.name
    unsafe, reason = UNSAFE.get(name, ("", ""))
    if unsafe and SpecifierSet(unsafe).contains(version, prereleases=True):
        return CheckResult(name, "fail", f"{version} is unsafe: {reason}", f"pip install -U '{requirement}'")
    if not requirement.specifier.contains(version, prereleases=True):
        wanted = str(requirement.specifier)
        return CheckResult(name, "fail", f"{version}, wanted {wanted}", f"pip install -U '{requirement}'")
    return CheckResult(name, "ok", version)


def check_torch_pair() -> CheckResult:
    """Whether torchvision was built for this torch, as its metadata say."""
    name = "torch and torchvision"
    try:
        torch, vision = metadata.version("torch"), metadata.version("torchvision")
        wanted = [Requirement(line) for line in metadata.requires("torchvision") or []]
    except metadata.PackageNotFoundError as error:
        return CheckResult(name, "fail", f"{error.name} is not installed", _REINSTALL)
    pinned = next(
        (requirement.specifier for requirement in wanted if requirement.name == "torch" and requirement.specifier),
        SpecifierSet(),
    )
    if not pinned.contains(torch, prereleases=True):
        return CheckResult(name, "fail", f"torchvision {vision} wants torch{pinned}, found {torch}", _REINSTALL)
    return CheckResult(name, "ok", f"{torch} with {vision}")


def check_lightning_pair() -> Iterator[CheckResult]:
    """Whether ``lightning``, where it is installed beside ``pytorch-lightning``, is the same version."""
    try:
        other, ours = metadata.version("lightning"), metadata.version("pytorch-lightning")
    except metadata.PackageNotFoundError:
        return
    name, mend = "lightning", f"pip install lightning=={ours}"
    if other != ours:
        finding = f"{other} beside pytorch-lightning {ours}: a process takes the two for one package"
        yield CheckResult(name, "fail", finding, mend)
    else:
        yield CheckResult(name, "ok", f"{other}, as pytorch-lightning")


_REINSTALL = "install both in one call: pip install -c constraints.txt torch torchvision"


def probe_torch() -> tuple[CheckResult, CheckResult | None]:
    """Whether torchvision's compiled operators load, and the GPUs that torch sees. Takes the seconds of an import."""
    name = "torchvision operators"
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        message = done.stderr.strip().splitlines() or ["no message"]
        return CheckResult(name, "fail", message[-1], _REINSTALL), None
    facts = json.loads(done.stdout.strip().splitlines()[-1])
    kinds = ", ".join(sorted(set(facts["names"])))
    shown = f"{len(facts['names'])}: {kinds} (CUDA {facts['cuda']})" if kinds else NO_GPU
    return CheckResult(name, "ok", "load"), CheckResult("GPUs", "ok", shown)


def _requirements() -> Iterator[Requirement]:
    """What expflow asks for, without its extras."""
    for line in metadata.requires("expflow") or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement
