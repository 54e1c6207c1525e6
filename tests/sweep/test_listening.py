"""What listens while a sweep runs on this machine alone: what docs/processes.md lists, and on loopback."""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from expflow.events import TrialReported
from expflow.training.ranks import host_rendezvous, interface_of
from tests.sweep.runs import Workplace

PAGE = Path(__file__).parents[2] / "docs" / "processes.md"

TWO_RANKS = """
task:
  name: scripted
  script: [{report: {val/top1: 0.5}}, {sleep: 600}, {report: {val/top1: 0.6}}]
trainer: {epochs: 1}
resources: {ranks: 2, max_concurrent: 1}
sweep: {space: {task.value: [0.1, 0.2]}, metric: val/top1}
"""


@dataclass(frozen=True)
class Listener:
    """A socket that takes connections or datagrams from elsewhere."""

    pid: int
    command: str
    address: str
    port: int


def sockets() -> Iterator[tuple[str, str, int]]:
    """Inode, address and port of every socket of this machine that listens (TCP) or takes datagrams (UDP)."""
    for table, listening in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == listening:
                address, port = fields[1].split(":")
                yield fields[9], _address(address), int(port, 16)


def _address(text: str) -> str:
    words = [struct.pack("<I", int(text[start : start + 8], 16)) for start in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    return str(getattr(address, "ipv4_mapped", None) or address)


def listeners(pid: int) -> set[Listener]:
    """Those of a process and all below it."""
    by_inode = {inode: (address, port) for inode, address, port in sockets()}
    listening = set()
    for process in Workplace.descendants(pid, ""):
        with suppress(OSError):
            command = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            for descriptor in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    inode = re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))
                    if inode and inode[1] in by_inode:
                        listening.add(Listener(process, command, *by_inode[inode[1]]))
    return listening


def documented() -> dict[str, str]:
    """The page's table: what a process is called -> a part of its command line."""
    rows = re.findall(r"^\| ([^|]+) \| `([^`|]+)` \| [^|]* \| loopback \|$", PAGE.read_text(), re.MULTILINE)
    assert rows
    return {name.strip(): part for name, part in rows}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sweep_of_two_ranks_listens_on_loopback_alone_where_the_page_says(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")  # which the tests set for themselves
    workplace.write(TWO_RANKS)
    process = workplace.start("sweep", "exp.yaml")
    workplace.wait_for(TrialReported, 1, process)
    there = listeners(process.pid)
    print(
        *sorted(f"{listener.command.split(' ')[0][-60:]} {listener.address}:{listener.port}" for listener in there),
        sep="\n",
    )
    assert {listener for listener in there if not ipaddress.ip_address(listener.address).is_loopback} == set()
    table = documented()
    unknown = {listener for listener in there if not any(part in listener.command for part in table.values())}
    assert unknown == set(), "docs/processes.md does not list them"
    absent = {name for name, part in table.items() if not any(part in listener.command for listener in there)}
    assert absent == set(), "docs/processes.md lists what does not listen"


def test_the_store_of_a_gang_listens_where_it_is_told() -> None:
    from expflow.training import ranks

    try:
        port = host_rendezvous("127.0.0.1", 1)
        assert {address for _, address, bound in sockets() if bound == port} == {"127.0.0.1"}
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
    finally:
        ranks.leave_group()


def test_an_interface_is_found_by_its_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.77") == ""  # an address of documentation, which no machine has
    assert interface_of("::1") == ""
