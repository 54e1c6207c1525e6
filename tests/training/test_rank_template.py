"""The template that ranks are forked from: its forks are as good as new processes, and nothing depends on it."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from expflow.training.allocator import keep_freed_memory
from expflow.training.template import server, shim
from expflow.training.template.forked import differences
from expflow.training.template.process import MOST_STARTS, TEMPLATE_VARIABLE, RankTemplate, TemplateLost
from tests.training import template_calls

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every rank imports by itself"),
    pytest.mark.timeout(300),
]

CALLS = "tests.training.template_calls:"
ROOT = str(Path(__file__).parents[2])
PATIENCE = 200.0

WORKER = """
import json, os, resource, signal, sys, time

def limits():
    return {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")}

umask = os.umask(0)
facts = {
    "arguments": sys.argv,
    "folder": os.getcwd(),
    "environment": dict(os.environ),
    "path": sys.path,
    "name": __name__,
    "umask": umask,
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "limits": limits(),
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "ignored": sorted(n for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN),
    "oom": open("/proc/self/oom_score_adj").read(),
    "streams": [os.readlink(f"/proc/self/fd/{n}") for n in range(3)],
    "torch": "torch" in sys.modules,
    "pid": os.getpid(),
    "group": os.getpgid(0) == os.getpid(),
}
with open(sys.argv[1], "a") as file:
    file.write(json.dumps(facts) + "\\n")
if len(sys.argv) > 2:
    time.sleep(float(sys.argv[2]))
"""


INTRUSIVE = """
import ctypes, threading, time
import torch

threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
torch.cuda.is_available()
device = open("/dev/zero", "rb")  # as CUDA opens one
ctypes.CDLL(None).mallopt(-1, 0)  # M_TRIM_THRESHOLD: all that is freed goes back to the system
torch.set_num_threads(2)
"""
"""A user's module that does all that a template must not have done."""


def until(condition: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return value


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Worker:
    """A script in place of Ray's worker, run by the shim as Ray runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.script, self.answers = folder, folder / shim.WORKER_SCRIPT, folder / "answers"
        self.script.write_text(WORKER)

    def start(self, executable: str, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        command = f"exec {executable} {self.script} {self.answers} {' '.join(words)}"
        options.setdefault("env", {**os.environ, "A_FACT": "1"})
        return subprocess.Popen(["bash", "-c", command], cwd=self.folder, start_new_session=True, **options)

    def facts(self, count: int = 1) -> list[dict[str, Any]]:
        """What the workers were, once there are so many."""

        def lines() -> list[str] | None:
            written = self.answers.read_text().splitlines() if self.answers.exists() else []
            return written if len(written) >= count else None

        return [json.loads(line) for line in until(lines)]

    def run(self, executable: str, *words: str, **options: Any) -> dict[str, Any]:
        with self.start(executable, *words, **options) as process:
            assert process.wait(PATIENCE) == 0
        return self.facts()[-1]


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankTemplate]:
    """A template that has imported everything."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "intrusive.py").write_text(INTRUSIVE)
    with RankTemplate([ROOT, str(folder)]) as started:
        start_whole(started)
        yield started


@pytest.fixture
def own_template() -> Iterator[RankTemplate]:
    """One that a test may kill."""
    with RankTemplate([ROOT]) as started:
        start_whole(started)
        yield started


def start_whole(template: RankTemplate) -> None:
    """Start a template, and wait until it has imported everything: a shim would not wait for so long."""
    assert template.start()
    until(lambda: template_calls.is_idle(pid_of(template)))


def pid_of(template: RankTemplate) -> int:
    assert template.pid is not None
    return template.pid


def inherited() -> None:
    """What a process inherits besides its environment, unlike this one's."""
    os.umask(0o027)
    os.nice(3)
    resource.setrlimit(resource.RLIMIT_NOFILE, (700, 800))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def test_a_fork_is_what_an_executed_python_would_have_been(template: RankTemplate, worker: Worker) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:lib", "A_SECRET": "token"}
    with (worker.folder / "out").open("wb") as out:
        options = {"env": environment, "stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
        forked = worker.run(template.executable, preexec_fn=inherited, **options)
        executed = worker.run(sys.executable, preexec_fn=inherited, **options)
    assert (forked.pop("torch"), executed.pop("torch")) == (True, False)
    assert forked.pop("pid") != executed.pop("pid")
    assert forked.pop("group")  # a signal to it reaches no other
    del executed["group"]
    assert forked == executed
    assert executed["umask"] == 0o027


def test_the_template_has_one_thread_no_device_no_ray_and_no_code_of_the_users(template: RankTemplate) -> None:
    pid = pid_of(template)
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
    assert not [file for file in template_calls.open_files(pid) if file.startswith(server.DEVICES)]
    imported = template.call(f"{CALLS}modules")
    assert {"torch", "torchvision", "pytorch_lightning", "expflow.training.lightning_runner"} <= set(imported)
    assert not [name for name in imported if name.partition(".")[0] in ("ray", "mlflow")]


def test_only_its_user_reaches_it(template: RankTemplate, monkeypatch: pytest.MonkeyPatch) -> None:
    address = Path(template.executable.split()[-1])
    assert address.stat().st_mode & 0o777 == 0o600
    assert address.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("os.getuid", lambda: 12345)  # it is a template of somebody else
    assert not shim.hand_over(str(address), [shim.WORKER_SCRIPT])


def test_what_a_users_module_does_as_it_is_imported_stays_in_the_fork(
    template: RankTemplate, digits: tuple[Any, Path]
) -> None:
    threads, files, weights = template.call(f"{CALLS}train_after_import", "intrusive", *digits)
    assert threads > 1
    assert "/dev/zero" in files
    assert len(list(Path(f"/proc/{pid_of(template)}/task").iterdir())) == 1
    assert "/dev/zero" not in template_calls.open_files(pid_of(template))
    assert "intrusive" not in template.call(f"{CALLS}modules")
    assert weights == template.call(f"{CALLS}weights_of", *digits, 1)  # of a fork without it


@pytest.mark.skipif(not keep_freed_memory(), reason="this system's C library is not glibc")
def test_the_threads_of_a_fork_share_a_few_heaps(template: RankTemplate, tmp_path: Path) -> None:
    assert template.call(f"{CALLS}heaps_of_threads", str(tmp_path / "a")) <= 4
    assert template_calls.heaps_of_threads(str(tmp_path / "b")) > 4  # else there is nothing to show


@pytest.mark.parametrize("function", ["fail", "die", "no_such_function"])
def test_a_call_that_fails_is_its_callers_to_repeat(template: RankTemplate, function: str) -> None:
    with pytest.raises(TemplateLost):
        template.call(f"{CALLS}{function}")
    assert template.call("os:getpid") != pid_of(template)


def test_a_daemon_of_a_fork_that_dies_does_not_outlive_it_and_other_forks_live_on(
    template: RankTemplate, worker: Worker
) -> None:
    with worker.start(template.executable, "60") as process:
        assert process.wait(PATIENCE) == 0
    (alive,) = worker.facts()
    file = worker.folder / "daemon"
    with pytest.raises(TemplateLost):
        template.call(f"{CALLS}die_with_a_daemon", str(file))
    daemon = int(file.read_text())
    until(lambda: not is_there(daemon))
    assert is_there(alive["pid"])
    os.kill(alive["pid"], signal.SIGKILL)


@pytest.mark.parametrize("threads", [1, 2])
def test_equal_seeds_give_equal_weights_in_a_fork(
    template: RankTemplate, digits: tuple[Any, Path], threads: int
) -> None:
    recipe, root = digits
    here = template_calls.weights_of(recipe, root, threads)
    assert here == template.call(f"{CALLS}weights_of", recipe, root, threads)


@pytest.fixture
def digits(tmp_path: Path) -> tuple[Any, Path]:
    """A recipe with dropout and a shuffled order, and its data."""
    from expflow.sweep.plan import make_plan
    from expflow.sweep.trial_expansion import planned_trials

    (tmp_path / "one.yaml").write_text(
        "data: {name: digits, limit: 192, batch_size: 32}\nmodel: {name: resnet, layout: cifar, depth: 8, width: 8}\n"
        "task: classification\noptimizer: {name: sgd, lr: 0.1}\ntrainer: {epochs: 2}\n"
    )
    (trial,) = planned_trials(make_plan(tmp_path / "one.yaml", storage=tmp_path / "runs"))
    assert trial.data is not None
    return trial.recipe, trial.data.root


def test_a_process_that_differs_in_what_is_read_at_its_start_is_executed(
    template: RankTemplate, worker: Worker
) -> None:
    assert not worker.run(template.executable, env={**os.environ, "PYTHONHASHSEED": "7"})["torch"]


def test_which_variables_may_differ() -> None:
    same = {"LD_PRELOAD": "a.so", "PYTHONPATH": "x", "OMP_NUM_THREADS": "1", "HOME": "/a"}
    assert differences(same, {**same, "PYTHONPATH": "y", "OMP_NUM_THREADS": "4", "HOME": "/b"}) == []
    # What Ray sets in a process that connects, and scikit-learn in one that imports it.
    connected = {**same, "PYTHONBREAKPOINT": "ray.util.rpdb.set_trace", "KMP_INIT_AT_FORK": "FALSE"}
    assert differences(connected, same) == differences(same, connected) == []
    assert differences(same, {"MALLOC_ARENA_MAX": "2", "OMP_PLACES": "cores"}) == [
        "LD_PRELOAD",
        "MALLOC_ARENA_MAX",
        "OMP_PLACES",
    ]


def test_what_is_no_worker_is_executed(template: RankTemplate, worker: Worker) -> None:
    other = worker.script.rename(worker.folder / "other.py")
    worker.script = other
    assert not worker.run(template.executable)["torch"]


def test_when_the_template_is_killed_its_forks_live_on_and_a_new_one_takes_its_place(
    own_template: RankTemplate, worker: Worker
) -> None:
    executable, killed = own_template.executable, pid_of(own_template)
    with worker.start(executable, "60") as process:
        assert process.wait(PATIENCE) == 0
    (alive,) = worker.facts()
    os.kill(killed, signal.SIGKILL)
    until(lambda: not is_there(killed))
    assert not worker.run(executable)["torch"]  # as long as there is none
    start_whole(own_template)
    assert (own_template.executable, pid_of(own_template) != killed) == (executable, True)
    assert worker.run(executable)["torch"]
    assert own_template.call("os:getpid") != pid_of(own_template)
    assert is_there(alive["pid"])
    os.kill(alive["pid"], signal.SIGKILL)
    until(lambda: not is_there(alive["pid"]))  # nobody is left with a zombie


def test_one_that_is_killed_again_and_again_is_given_up() -> None:
    with RankTemplate() as template:
        for _ in range(MOST_STARTS):
            assert template.start()
            os.kill(pid_of(template), signal.SIGKILL)
            until(lambda: not is_there(pid_of(template)))
        assert not template.start()


def test_one_that_ends_by_itself_is_not_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('no torch today')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    with RankTemplate() as template:
        assert template.start()
        first = pid_of(template)
        until(lambda: not template.start())
        assert pid_of(template) == first


def test_a_stopped_template_holds_nobody_up_and_makes_no_second_worker_later(
    own_template: RankTemplate, worker: Worker
) -> None:
    os.kill(pid_of(own_template), signal.SIGSTOP)
    until(lambda: not shim.runs(pid_of(own_template)))
    assert not worker.run(own_template.executable)["torch"]
    os.kill(pid_of(own_template), signal.SIGCONT)
    assert own_template.call("os:getpid")  # it has worked off what was waiting
    own = f"/proc/{pid_of(own_template)}/task/{pid_of(own_template)}/children"
    until(lambda: not Path(own).read_text().split())
    assert len(worker.facts()) == 1


@pytest.mark.parametrize("answer", [b"", b'{"refused": "fork: Resource temporarily unavailable"}'])
def test_a_template_that_dies_while_it_forks_or_cannot_fork_is_done_without(tmp_path: Path, answer: bytes) -> None:
    address = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()

        def take_one() -> None:
            connection, _ = listener.accept()
            with connection:
                _, streams, _, _ = socket.recv_fds(connection, 1, 3)
                for stream in streams:
                    os.close(stream)
                shim.receive_frame(connection)
                if answer:
                    shim.send_frame(connection, answer)

        thread = threading.Thread(target=take_one)
        thread.start()
        assert not shim.hand_over(str(address), [shim.WORKER_SCRIPT])
        thread.join()


def test_a_fork_that_the_system_refuses_is_said_to_the_shim(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fork() -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("os.fork", no_fork)
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(socket.AF_UNIX) as listener:
        template = server.Template(listener, 0)
        request = {**shim.own_surroundings([shim.WORKER_SCRIPT]), "environment": dict(os.environ)}
        assert template._fork_for(server._Request(theirs, request)) is None
        assert json.loads(shim.receive_frame(ours)) == {"refused": "fork: Resource temporarily unavailable"}


DRIVER = """
import sys, time
from expflow.training.template.process import RankTemplate
template = RankTemplate()
assert template.start()
print(template.pid, template.executable.split()[-1], flush=True)
time.sleep(300)
"""


def test_it_ends_with_its_driver_even_a_killed_one_and_leaves_no_folder() -> None:
    environment = {**os.environ, "PYTHONPATH": ROOT}
    with subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, env=environment) as driver:
        assert driver.stdout is not None
        pid, address = driver.stdout.readline().split()
        driver.kill()
    until(lambda: not is_there(int(pid)))
    until(lambda: not Path(address.decode()).parent.exists())


def test_there_is_none_where_it_is_not_wanted_turned_off_or_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not RankTemplate(wanted=False).start()
    with monkeypatch.context() as patch:
        patch.setenv(TEMPLATE_VARIABLE, "off")
        assert not RankTemplate().start()
    with monkeypatch.context() as patch, RankTemplate() as refused:

        def no_process(*words: object, **options: object) -> None:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

        patch.setattr("subprocess.Popen", no_process)
        assert not refused.start()
        assert refused.pid is None


def test_threads_and_devices_of_a_library_end_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "DEVICES", ("/dev/null",))
    with Path("/dev/null").open(), pytest.raises(SystemExit, match=r"threads|/dev/null"):
        server._check_forkable()
