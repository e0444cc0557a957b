"""Scripts in a real bash that calls this process, which has imported TensorFlow already, for its slow commands."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.commands import BIN

Program = Callable[[list[str], Path], tuple[int, str, str]]
"""Takes arguments and the working directory; returns the exit code, and what it prints on stdout and stderr."""
FORWARDER = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as caller:
    caller.connect({address!r})
    caller.sendall(json.dumps([os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd()]).encode() + b"\\n")
    code, printed, errors = json.loads(caller.makefile().read())
sys.stdout.write(printed)
sys.stderr.write(errors)
sys.exit(code)
"""


def bash(script: str, cwd: Path, folder: Path, programs: Mapping[str, Program],
         **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `script` as a person would paste it, stopping at the first command that fails; ends what it leaves running.

    folder: a new folder for the programs that bash finds, and its output.
    programs: what is run here, by name.
    """
    folder.mkdir()
    address = str(folder / "socket")
    for name in programs:
        (folder / name).write_text(FORWARDER.format(python=sys.executable, address=address))
        (folder / name).chmod(0o755)
    files = [folder / "stdout", folder / "stderr"]
    with socket.socket(socket.AF_UNIX) as listener, files[0].open("w") as printed, files[1].open("w") as errors:
        listener.bind(address)
        listener.listen()
        listener.settimeout(0.05)
        process = subprocess.Popen(
            ["bash", "-xeuo", "pipefail", "-c", f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"], cwd=cwd,
            stdout=printed, stderr=errors, env={**os.environ, "COLUMNS": "80", **environment,
            "PATH": os.pathsep.join((str(folder), str(BIN), os.environ["PATH"]))})
        while process.poll() is None:
            try:
                caller, _ = listener.accept()
            except TimeoutError:
                continue
            with caller, caller.makefile("rw") as stream:
                name, arguments, place = json.loads(stream.readline())
                stream.write(json.dumps(programs[name](arguments, Path(place))))
    return subprocess.CompletedProcess(script, process.returncode, *(file.read_text() for file in files))
