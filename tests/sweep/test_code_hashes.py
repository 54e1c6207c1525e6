"""Which of the user's files an experiment depends on."""

from expflow.sweep.code_hashes import user_modules
from tests.config.conftest import modules_as_before  # noqa: F401 - used by all tests here
from tests.config.files import BASE, loaded


def own(model):
    return BASE.replace("{name: resnet, depth: 20}", model)


def test_the_users_modules_are_hashed_and_no_others(tmp_path):
    files = {
        "own_pkg/__init__.py": "",
        "own_pkg/net.py": "import math\nfrom . import parts\nfrom .deep.inner import x\ndef net(): ...\n",
        "own_pkg/parts.py": "def later():\n    import own_late\n",
        "own_pkg/deep/__init__.py": "",
        "own_pkg/deep/inner.py": "from .. import parts\nx = 1\n",
        "own_pkg/unused.py": "",
        "own_late.py": "import expflow\n",
        "own_other.py": "def net(): ...\n",
        "own_not.py": "",
        ".venv/own_installed.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    text = own("'own_pkg.net:net'") + "sweep: {space: {model: ['own_pkg.net:net', {name: 'own_other:net'}]}}\n"
    before = user_modules(loaded(tmp_path, text))
    assert sorted(before) == [
        "own_late.py",
        "own_other.py",
        "own_pkg/__init__.py",
        "own_pkg/deep/__init__.py",
        "own_pkg/deep/inner.py",
        "own_pkg/net.py",
        "own_pkg/parts.py",
    ]
    assert all(len(value) == 64 for value in before.values())
    (tmp_path / "own_late.py").write_text("import expflow.errors\n")
    after = user_modules(loaded(tmp_path, text))
    assert [name for name in after if after[name] != before[name]] == ["own_late.py"]


def test_an_installed_component_is_not_the_users(tmp_path):
    assert user_modules(loaded(tmp_path, own("{name: 'collections:Counter'}"))) == {}
    assert user_modules(loaded(tmp_path, BASE)) == {}
