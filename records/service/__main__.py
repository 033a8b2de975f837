"""Input on other machines: a `tf.data.service` dispatcher, and workers that make our chunks.

    python -m records.service dispatcher --port 5050 --expose
    python -m records.service worker --dispatcher HOST:5050 --index 0 --of 2 --data-dir DIR --expose
    python -m records.service local --workers 2 --data-dir DIR --expose

A trainer uses them with `--data-service HOST:5050`. docs/howto/data_service.md says what is
promised.

TensorFlow's servers listen on every network interface; which, cannot be set. Nothing is started
before the user has agreed to that with `--expose`.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from records.decoding.input_config import HOST_LEVELS
from records.stores.address import is_address
from records.stores.flags import add_cache_flags
from records.system.command import run_as_command, with_home
from records.system.places import check_local

# Workers are often started at the same moment as their dispatcher.
_DISPATCHER_SECONDS = 60
# A trainer that went away: its work on the workers ends after a minute, not five.
_FORGET_MS, _LOOK_MS = 60_000, 10_000
_EVERYWHERE = "listening on every network interface"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line; prints usage and exits with 2 where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m records.service",
        description="Makes training input for other machines. Nothing here is authenticated: run "
        "it in a network that you trust.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    dispatcher = commands.add_parser("dispatcher", help="tells trainers which workers there are")
    worker = commands.add_parser("worker", help="reads, decodes and sends its share of the chunks")
    local = commands.add_parser("local", help="a dispatcher and some workers on this machine")
    for command in (dispatcher, worker, local):
        command.add_argument(
            "--expose",
            action="store_true",
            help="agree that TensorFlow listens on every network interface, unauthenticated, and "
            "runs what it is sent; needed",
        )
    for command in (dispatcher, local):
        command.add_argument("--port", type=int, default=5050, help="its port (default: 5050)")
    worker.add_argument("--dispatcher", required=True, metavar="HOST:PORT")
    worker.add_argument(
        "--index", type=int, required=True, metavar="I", help="which worker, from 0"
    )
    worker.add_argument("--of", type=int, required=True, metavar="N", help="how many workers")
    worker.add_argument("--port", type=int, default=0, help="its port (default: a free one)")
    worker.add_argument(
        "--host", default="localhost", help="the name by which trainers reach it (this machine's)"
    )
    local.add_argument("--workers", type=int, default=2, metavar="N", help="(default: 2)")
    for command in (worker, local):
        command.add_argument("--data-dir", help="where its copy of the prepared sets lies")
        add_cache_flags(command)
        command.add_argument(
            "--cache",
            choices=HOST_LEVELS,
            default="memory",
            help="where it keeps decoded examples (default: memory)",
        )
    found = parser.parse_args(with_home(arguments))
    if found.command == "worker" and not 0 <= found.index < found.of:
        parser.error(f"--index expected 0 to {found.of - 1}, received {found.index}")
    if not 0 <= getattr(found, "port", 0) < 2**16:
        parser.error(f"--port expected 0 to 65535, received {found.port}")
    if found.command == "local" and found.workers < 1:
        parser.error(f"--workers expected at least 1, received {found.workers}")
    return found


def run_dispatcher(asked: argparse.Namespace, ended: threading.Event) -> int:
    """Serves until `ended`."""
    import tensorflow as tf

    service = tf.data.experimental.service

    def make(port: int) -> Any:
        config = service.DispatcherConfig(
            port=port,
            protocol="grpc",
            job_gc_timeout_ms=_FORGET_MS,
            job_gc_check_interval_ms=_LOOK_MS,
        )
        return service.DispatchServer(config)

    server = _start(make, asked.port)
    print(f"dispatcher ready at {server.target.partition('://')[2]}, {_EVERYWHERE}", flush=True)
    _serve(server, ended)


def run_worker(asked: argparse.Namespace, ended: threading.Event) -> int:
    """Serves until `ended`.

    Raises:
      ValueError: no dispatcher answers, or the port is taken.
    """
    import tensorflow as tf

    from records.service.trainer import can_connect
    from records.service.worker import Worker

    # Asked first, so that a missing dispatcher gives an error with the command that starts it.
    until = time.monotonic() + _DISPATCHER_SECONDS
    while not can_connect(asked.dispatcher):
        if time.monotonic() > until:
            raise ValueError(
                f"data service: a dispatcher expected at {asked.dispatcher}, received no "
                f"answer for {_DISPATCHER_SECONDS} s. Start it: python -m records.service "
                f"dispatcher --port {asked.dispatcher.rpartition(':')[2]} --expose"
            )
        if ended.wait(0.5):
            return 0
    tf.config.set_visible_devices([], "GPU")  # a trainer on this machine wants them whole
    worker = Worker(asked.index, asked.of, asked.data_dir, asked.cache)
    # Before any dataset is opened: opening one may make functions of its own, see
    # `Worker.register`.
    worker.register()
    service = tf.data.experimental.service

    def make(port: int) -> Any:
        # Before the server starts: trainers may ask for it from then on.
        worker.address = f"{asked.host}:{port}"
        config = service.WorkerConfig(
            dispatcher_address=asked.dispatcher,
            worker_address=worker.address,
            port=port,
            protocol="grpc",
        )
        return service.WorkerServer(config)

    server = _start(make, asked.port)
    print(
        f"worker {asked.index} of {asked.of} ready at {worker.address}, {_EVERYWHERE}", flush=True
    )
    _serve(server, ended)


def run_local(asked: argparse.Namespace, ended: threading.Event) -> int:
    """Runs a dispatcher and workers as processes of their own; all end when one does."""
    safe = ["-P"] * bool(sys.flags.safe_path)  # as this process was started
    program = [sys.executable, *safe, "-m", "records.service"]
    data = ["--data-dir", asked.data_dir] if asked.data_dir else []
    commands = [["dispatcher", "--port", str(asked.port), "--expose"]]
    for index in range(asked.workers):
        which = ["--dispatcher", f"localhost:{asked.port}", "--index", str(index)]
        which += ["--of", str(asked.workers), "--cache", asked.cache, "--expose"]
        commands.append(["worker", *which, *data])
    # Processes of their own: each worker must be the first to register functions in its process.
    children = [subprocess.Popen([*program, *command]) for command in commands]
    try:
        while not ended.wait(0.2):
            for child, command in zip(children, commands, strict=True):
                if child.poll() is not None:
                    print(
                        f"error: {' '.join(command)} ended with code {child.returncode}",
                        file=sys.stderr,
                    )
                    return 1
        return 0
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()


def _start(make: Callable[[int], Any], port: int) -> Any:
    """Starts the server that `make` gives for a port of its own; `port` 0 is any free one."""
    import tensorflow as tf

    try:
        # gRPC would share a port with another server, and every other call would go there. So the
        # port is bound first, on every interface, as TensorFlow will; nothing can connect to it.
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("", port))
            return make(taken.getsockname()[1])
    except (OSError, tf.errors.OpError) as error:
        raise ValueError(
            f"data service: port {port} expected to be free, received: {error}. End the other "
            "server, or name another --port"
        ) from None


_REFUSAL = (
    "data service: --expose expected, received none. TensorFlow's data service listens on every "
    "network interface (0.0.0.0; it cannot be bound to one). It knows no passwords, and runs the "
    "graphs that it is sent. Add --expose where you trust every machine that can reach these ports "
    "or where a firewall shuts them"
)


def _serve(server: Any, ended: threading.Event) -> NoReturn:
    """Holds the server and ends the process when `ended`. Nothing here needs to be saved.

    It does not stop the server first. A worker's server would wait for its dispatcher, for ever
    where that has ended already. It would hold Python's lock meanwhile, and the worker's chunks
    under way may need that.
    """
    ended.wait()
    sys.stdout.flush()
    os._exit(0)


def main(arguments: list[str] | None = None) -> int:
    """Runs one server until SIGTERM or SIGINT; returns the exit code."""
    asked = parse_arguments(arguments)
    if not asked.expose:
        print(f"error: {_REFUSAL}", file=sys.stderr)
        return 1
    # A signal handler may only set a flag: TensorFlow's servers take locks of their own.
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    run = {"dispatcher": run_dispatcher, "worker": run_worker, "local": run_local}[asked.command]

    def work() -> int:
        if not is_address(place := getattr(asked, "data_dir", None)):
            check_local(place, "--data-dir")
        return run(asked, ended)

    # `local` only starts other processes.
    return run_as_command(work, tensorflow=asked.command != "local")


if __name__ == "__main__":
    sys.exit(main())
