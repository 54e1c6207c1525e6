"""The project as it is sent to a cluster: one zip of what git would consider part of it, and nothing large.

Ray's own packing takes ``.git``, checks the size only when the upload fails, and its ignore rules follow ``.gitignore``
only roughly. Here git itself decides what belongs to the project, whether or not that is a repository.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import expflow
from expflow.errors import PackageMissing, UserError
from expflow.redaction import lines_with_secrets

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
    # Passwords, tokens and keys, by the names that programs keep them under.
    ".env.*",
    ".envrc",
    ".netrc",
    "_netrc",
    ".git-credentials",
    ".pgpass",
    ".pypirc",
    ".npmrc",
    ".htpasswd",
    ".databrickscfg",
    ".my.cnf",
    ".boto",
    ".s3cfg",
    ".authinfo*",
    ".vault-token",
    ".*_history",  # commands that were typed, with what was typed after them
    "rclone.conf",
    "kubeconfig*",
    "*.tfvars",
    "*.tfstate*",
    ".aws/",
    ".azure/",
    ".docker/",
    ".gcloud/",
    ".gnupg/",
    ".huggingface/",
    ".kube/",
    ".config/",
    ".mc/",
    ".password-store/",
    ".ray/",
    ".ssh/",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "*.pem",
    "*.key",
    "*.p12",
    "*.ppk",
    "*.ovpn",
    "*.pfx",
    "*.jks",
    "*.kdbx",
    "*.keystore",
    "credentials",
    "credentials.json",
    "credentials.toml",
    "credentials.y*ml",
    "auth_token",
    "client_secret*.json",
    "*service[-_]account*.json",
    ".secrets*",
    "secrets.json",
    "secrets.toml",
    "secrets.y*ml",
)
"""Never sent, as gitignore patterns; a project adds its own in ``.gitignore`` or ``.rayignore``."""

SEARCHED_BYTES = 4 * 2**20
"""Largest file that is searched for secrets; nobody writes longer ones by hand."""

DATA_FOLDER = "data/"
"""Of this folder of the project only code and YAML are sent."""

_SAME_TIME = (1980, 1, 1, 0, 0, 0)  # the oldest that zip knows: equal projects make equal packages


@dataclass(frozen=True)
class ProjectPackage:
    """A packed project.

    Attributes:
        path: The zip.
        project: The folder that was packed.
        files: Number of files.
        bytes: Their size before compression.
        digest: sha256 of the names and contents.
        left_out: Links that lead to what does not belong to the project; they are not followed.
    """

    path: Path
    project: Path
    files: int
    bytes: int
    digest: str
    left_out: tuple[str, ...] = ()


def project_folder(file: Path) -> Path:
    """The folder that an experiment needs to run: its repository, or its own folder outside of one.

    Args:
        file: The experiment's file.
    """
    folder = file.resolve().parent
    for candidate in (folder, *folder.parents):
        if (candidate / ".git").exists():
            return candidate
    return folder


def pack_project(project: Path, target: Path, limit: int = LIMIT_BYTES) -> ProjectPackage:
    """Write the zip of a project. The same contents give the same bytes.

    expflow's own source goes along where it is a checkout, because no index would have that version.

    Args:
        project: The project's folder.
        target: The zip that is written.
        limit: The most that the files may take before compression, in bytes.

    Raises:
        UserError: The project is larger than the limit, or a file of it holds a secret; the message names what is large
            or where the secret stands.
        PackageMissing: git is not installed.
    """
    names = [name for name in project_files(project) if not _is_data(name)]
    left_out = _foreign_links(project, names)
    members = {name: project / name for name in names if name not in left_out}
    _check_secrets(members)
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
    return ProjectPackage(target, project, len(members), total, digest.hexdigest(), tuple(sorted(left_out)))


def project_files(project: Path) -> list[str]:
    """Names of the files that belong to a project, relative to it, with ``/``; nested repositories included.

    Args:
        project: The project's folder.
    """
    names: list[str] = []
    for name in _listed_by_git(project):
        path = project / name
        if name.endswith("/"):  # git names a nested repository and does not look into it
            names += [f"{name}{inner}" for inner in project_files(path)]
        elif path.is_file():
            names.append(name)
    return names


def _foreign_links(project: Path, names: Sequence[str]) -> set[str]:
    """The links among a project's files that lead to anything but another of its files."""
    whole = project.resolve()
    links = [name for name in names if (project / name).is_symlink()]
    own = {whole / name for name in names} - {whole / name for name in links}
    return {name for name in links if (project / name).resolve() not in own}


def _check_secrets(members: Mapping[str, Path]) -> None:
    """Refuse to send a file in which a secret stands: whoever may list jobs can fetch their packages."""
    places = [f"{name}:{line}" for name, path in sorted(members.items()) for line in _secret_lines(path)]
    if places:
        raise UserError(
            f"a secret stands in {', '.join(places[:5])}{', …' * (len(places) > 5)}, and everybody who may use the"
            " cluster can read what is sent there. Take it out: the job finds passwords in ~/.netrc and in the"
            " environment variables of the cluster; or list the file in .rayignore, so that it is not sent"
        )


def _secret_lines(path: Path) -> list[int]:
    if path.stat().st_size > SEARCHED_BYTES:
        return []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:  # no text
        return []
    return lines_with_secrets(text, code=path.suffix not in (".yaml", ".yml"))


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
        message = error.stderr.decode(errors="replace").strip()
        raise UserError(f"cannot list the files of {cwd}: git says: {message}") from error
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
