"""The project as it is sent to a cluster: one zip of what git would consider part of it, and nothing large.

Ray's own packing takes ``.git``, has no say on size before the upload fails, and its ignore rules follow ``.gitignore``
only roughly. Here git itself says what belongs to the project, whether or not that is a repository.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import expflow
from expflow.errors import PackageMissing, UserError

LIMIT_BYTES = 100 * 1000 * 1000
"""Largest project that is sent. Ray refuses packages of more than 100 MiB."""

EXCLUDES = (
    "runs/",
    "mlruns/",
    ".git",
    ".env",
    ".venv/",
    "venv/",
    "node_modules/",
    "__pycache__/",
    "*.pyc",
    "*.egg-info/",
    ".*_cache/",
    ".hypothesis/",
    ".ipynb_checkpoints/",
    "*.ckpt",
    "*.pt",
    "*.pth",
    "*.safetensors",
    "*.tar",
    "*.tar.gz",
    "*.tgz",
    "*.zip",
    "*.log",
    "expflow.site.yaml",  # what differs between machines must not travel to another one
)
"""Never sent, as gitignore patterns; a project adds its own in ``.gitignore`` or ``.rayignore``."""

DATA_FOLDER = "data/"
"""Of this folder of the project only code and YAML are sent."""

_SAME_TIME = (1980, 1, 1, 0, 0, 0)  # the oldest that zip knows: equal projects make equal packages


@dataclass(frozen=True)
class Package:
    """A packed project. ``digest``: sha256 of the names and contents; ``bytes``: before compression."""

    path: Path
    project: Path
    files: int
    bytes: int
    digest: str


def project_folder(file: Path) -> Path:
    """The folder that an experiment needs to run: its repository, or its own folder outside of one."""
    folder = file.resolve().parent
    for candidate in (folder, *folder.parents):
        if (candidate / ".git").exists():
            return candidate
    return folder


def pack(project: Path, target: Path, limit: int = LIMIT_BYTES) -> Package:
    """Write the zip of ``project`` to ``target``. The same contents give the same bytes.

    expflow's own source goes along where it is a checkout, because no index would have that version.

    Raises :class:`UserError` over ``limit`` bytes, naming what is large, and :class:`PackageMissing` without git.
    """
    members = {name: project / name for name in project_files(project) if not _is_data(name)}
    members.update(_own_source(project))
    sizes = {name: path.stat().st_size for name, path in members.items()}
    total = sum(sizes.values())
    if total > limit:
        raise UserError(_too_large(project, sizes, limit))
    digest = hashlib.sha256()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members):
            content = members[name].read_bytes()
            entry = zipfile.ZipInfo(name, _SAME_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if os.access(members[name], os.X_OK) else 0o644) << 16
            archive.writestr(entry, content)
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return Package(target, project, len(members), total, digest.hexdigest())


def project_files(project: Path) -> list[str]:
    """Names of the files that belong to ``project``, relative to it, with ``/``; nested repositories included."""
    found: list[str] = []
    for name in _listed_by_git(project):
        path = project / name
        if name.endswith("/"):  # git names a nested repository and does not look into it
            found += [f"{name}{inner}" for inner in project_files(path)]
        elif path.is_file():  # what a symbolic link leads to goes along, unless it is a folder
            found.append(name)
    return found


def _is_data(name: str) -> bool:
    return name.startswith(DATA_FOLDER) and not name.endswith((".py", ".yaml", ".yml"))


def _listed_by_git(project: Path) -> Iterable[str]:
    # An empty repository of our own beside the folder: git's ignore rules then hold outside of repositories too, for
    # files that are tracked in spite of them, and for folders of another owner, which git would refuse to look at.
    with tempfile.TemporaryDirectory() as scratch:
        _git("init", "--quiet", "--bare", scratch, cwd=project)
        arguments = [
            "--git-dir",
            scratch,
            "--work-tree",
            str(project),
            "ls-files",
            "--others",
            "-z",
            "--exclude-standard",
        ]
        arguments += [f"--exclude={pattern}" for pattern in EXCLUDES]
        if (project / ".rayignore").is_file():
            arguments.append(f"--exclude-from={project / '.rayignore'}")
        listed = _git(*arguments, cwd=project)
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _git(*arguments: str, cwd: Path) -> bytes:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(["git", *arguments], cwd=cwd, env=clean, capture_output=True, check=True)  # noqa: S603, S607
    except FileNotFoundError as error:
        raise PackageMissing(
            "git is not installed; submit needs it to tell which files belong to the project"
        ) from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise UserError(f"cannot list the files of {cwd}: git says: {said}") from error
    return done.stdout


def _own_source(project: Path) -> dict[str, Path]:
    package = Path(expflow.__file__).resolve().parent
    checkout = package.parent
    if not (checkout / "pyproject.toml").is_file() or package.is_relative_to(project):
        return {}
    return {f"{package.name}/{name}": package / name for name in project_files(package)}


def _too_large(project: Path, sizes: dict[str, int], limit: int) -> str:
    folders: Counter[str] = Counter()
    for name, size in sizes.items():
        folders[f"{name.rsplit('/', 1)[0]}/" if "/" in name else name] += size
    worst = "\n".join(f"  {size / 1e6:8.1f} MB  {name}" for name, size in folders.most_common(5))
    return (
        f"{project} holds {sum(sizes.values()) / 1e6:.1f} MB in {len(sizes)} files; at most {limit / 1e6:.0f} MB are "
        f"sent to a cluster. The largest folders:\n{worst}\n"
        "List what the experiment does not need in .gitignore or .rayignore; data belong on storage that the cluster "
        "can reach (expflow.site.yaml there says where)"
    )
