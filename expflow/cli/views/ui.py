"""What ``ui`` prints while it serves MLflow's pages."""

from __future__ import annotations

import os
import signal

from expflow.config import load_site
from expflow.live.console import LiteralConsole
from expflow.sweep.result_location import (
    ResultLocation,
    find_results,
    has_live_driver,
    result_folders,
    storage_root,
)
from expflow.tracking import public_uri, resolve_uri


def show_ui(name: str | None, port: int, storage: str | None) -> None:
    """Serve the MLflow UI on loopback until Ctrl-C.

    Args:
        name: Address of an experiment; the link that compares its configs is printed.
        port: Port on this machine.
        storage: The folder of all results; None: the site's.
    """
    from expflow.tracking.follower import catch_up
    from expflow.tracking.store import is_server
    from expflow.tracking.ui import start_ui, stop_ui

    console = LiteralConsole()
    location = find_results(name, storage) if name else None
    root = location.folder.parent if location else storage_root(storage)
    uri = resolve_uri(root, environ=os.environ, site=load_site().mlflow)
    for folder in [location.folder] if location else result_folders(root):
        if not has_live_driver(folder) and not catch_up(folder, uri):
            console.print(f"{public_uri(uri)} is behind {folder.name}'s ledger")
    if is_server(uri):  # it has its own UI
        _print_links(console, uri, uri, location)
        return
    base = f"http://127.0.0.1:{port}"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that whatever ends this command ends the server too

    def waiting(seconds: float) -> None:
        console.print(f"MLflow's server is still starting after {seconds:.0f} s (Ctrl-C ends it)")

    server = start_ui(uri, port=port, waiting=waiting)
    try:
        _print_links(console, base, uri, location)
        console.print("Ctrl-C ends it")
        server.wait()
    except KeyboardInterrupt:
        console.print()
    finally:
        stop_ui(server)


def _print_links(console: LiteralConsole, base: str, uri: str, location: ResultLocation | None) -> None:
    from expflow.tracking.ui import compare_link

    console.print(f"MLflow   {base}", soft_wrap=True)
    if location:
        console.print(f"compare  {compare_link(base, uri, location.name)}", soft_wrap=True)
