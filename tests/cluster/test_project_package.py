"""The project as it is sent: what goes along, what never does, and what is too large."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from expflow.cluster import project_package
from expflow.errors import UserError


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    write(folder, "experiments/mine.yaml", "my_net.py", "data/loader.py")
    return folder


def write(folder, *names, text="x"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def sent(project, tmp_path):
    project_package.pack_project(project, tmp_path / "p.zip")
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        return {name for name in archive.namelist() if not name.startswith("expflow/")}


def test_code_and_experiments_go_along(project, tmp_path):
    assert sent(project, tmp_path) == {"experiments/mine.yaml", "my_net.py", "data/loader.py"}


@pytest.mark.parametrize(
    "name",
    [
        ".git/config",
        ".venv/bin/python",
        "runs/mine/ledger/1.jsonl",
        "data/cat/1.png",
        "pkg/__pycache__/a.pyc",
        ".ruff_cache/x",
        "best.ckpt",
        "weights.pth",
        "shards/train-0.tar",
        "expflow.site.yaml",
        ".env",
        ".env.local",
        ".netrc",
        "deploy/id_rsa",
        "deploy/id_ed25519.pub",
        ".aws/credentials",
        ".ssh/config",
        ".kube/config",
        "certs/server.pem",
        "server.key",
        "client_secret_12.json",
        "conf/secrets.yaml",
        ".ray/auth_token",
        ".my.cnf",
        ".bash_history",
        ".config/gcloud/application_default_credentials.json",
        "deploy/kubeconfig-prod",
        "infra/terraform.tfvars",
        "home/.vault-token",
        "laptop.ovpn",
    ],
)
def test_what_never_goes_along(project, tmp_path, name):
    before = sent(project, tmp_path)
    write(project, name)
    assert sent(project, tmp_path) == before


def test_ignore_files_hold_without_a_repository_and_in_folders(project, tmp_path):
    write(project, "notes/draft.md", "notes/keep.md", "big.bin", "local.txt")
    write(project, ".gitignore", text="*.bin\n")
    write(project, "notes/.gitignore", text="draft.md\n")
    write(project, ".rayignore", text="local.txt\n")
    assert sent(project, tmp_path) == {
        "experiments/mine.yaml",
        "my_net.py",
        "data/loader.py",
        "notes/keep.md",
        ".gitignore",
        ".rayignore",
        "notes/.gitignore",
    }


def test_a_repository_inside_goes_along_without_its_history(project, tmp_path):
    write(project, "vendored/net.py")
    subprocess.run(["git", "init", "--quiet", project / "vendored"], check=True)
    assert "vendored/net.py" in sent(project, tmp_path)
    assert not any(".git/" in name for name in sent(project, tmp_path))


def test_equal_projects_make_equal_packages(project, tmp_path):
    first = project_package.pack_project(project, tmp_path / "1.zip")
    (project / "my_net.py").touch()
    again = project_package.pack_project(project, tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    assert first.digest == again.digest
    write(project, "my_net.py", text="y")
    assert project_package.pack_project(project, tmp_path / "3.zip").digest != first.digest


def test_expflow_itself_goes_along_from_a_checkout(project, tmp_path):
    project_package.pack_project(project, tmp_path / "p.zip")
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        names = set(archive.namelist())
    assert {"expflow/__init__.py", "expflow/data/__init__.py", "expflow/cluster/project_package.py"} <= names


def test_too_large_names_what_is_large(project, tmp_path, monkeypatch):
    monkeypatch.setattr(project_package, "_own_source", lambda project: {})
    write(project, "scans/a.bin", "scans/b.bin", text="x" * 700_000)
    with pytest.raises(UserError, match=r"1\.4 MB in 5 files; at most 1 MB(.|\n)*1\.4 MB  scans/(.|\n)*\.rayignore"):
        project_package.pack_project(project, tmp_path / "p.zip", limit=1_000_000)
    assert not (tmp_path / "p.zip").exists()


def test_expflows_own_checkout_can_be_sent(tmp_path):
    assert "experiments/resnet_depth.yaml" in sent(Path(__file__).parents[2], tmp_path)


def test_the_project_is_the_repository_or_the_files_folder(project):
    file = project / "experiments" / "mine.yaml"
    assert project_package.project_folder(file) == project / "experiments"
    (project / ".git").mkdir()
    assert project_package.project_folder(file) == project


def test_links_that_lead_out_of_the_project_are_not_followed(project, tmp_path):
    write(tmp_path, "home/notes.txt", "home/.netrc")
    write(project, ".env", "real.txt")
    (project / "out.txt").symlink_to(tmp_path / "home" / "notes.txt")
    (project / "folder").symlink_to(tmp_path / "home")
    (project / "harmless.txt").symlink_to(project / ".env")
    (project / "inside.txt").symlink_to("real.txt")
    package = project_package.pack_project(project, tmp_path / "p.zip")
    assert package.left_out == ("harmless.txt", "out.txt")
    assert sent(project, tmp_path) == {
        "experiments/mine.yaml",
        "my_net.py",
        "data/loader.py",
        "real.txt",
        "inside.txt",
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("experiments/mine.yaml", "seed: 1\ndata: {path: 'https://h/x?sig=abcdef'}\n"),
        ("experiments/other.yml", "a: 1\nmodel: {api_key: hunter2}\n"),
        ("deploy.py", "import x\nKEY = 'env-s3cret'\n"),
        ("notes.md", "my key:\n-----BEGIN OPENSSH " + "PRIVATE KEY-----\n"),
    ],
)
def test_a_file_that_holds_a_secret_is_named_and_nothing_is_packed(project, tmp_path, monkeypatch, name, text):
    monkeypatch.setenv("MY_SECRET", "env-s3cret")
    write(project, name, text=text)
    with pytest.raises(UserError, match=rf"a secret stands in {name}:2, and everybody") as caught:
        project_package.pack_project(project, tmp_path / "p.zip")
    assert not (tmp_path / "p.zip").exists()
    assert not [secret for secret in ("abcdef", "hunter2", "env-s3cret") if secret in str(caught.value)]
    write(project, ".rayignore", text=name)
    assert name not in sent(project, tmp_path)
