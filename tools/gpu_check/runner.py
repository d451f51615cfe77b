"""Runs the parts of a stage within a time box, some beside one another, and remembers in a file what is done.

A part is a command with a name. What passed is not run again; what failed, was cut or never ran is, in the order never, cut, failed.
The memory belongs to the sources: when one of them changes, all starts over. Called by tools/gpu_check/stages.py.
"""
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import threading
import time
import typing

SOURCES = ("*.cu", "*.cpp", "*.h", "CMakeLists.txt", "*.cmake", "*.in", "*.toml")
PASSED, FAILED, CUT, ABSENT = "passed", "failed", "cut", "not available"


def fingerprint(root):
    """Of every source of the project, its tests included."""
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(root):
        here = pathlib.Path(folder)
        if here == root:
            folders[:] = [f for f in folders if f not in ("build", "runs", "data", "docs") and not f.startswith(".")]
        folders.sort()
        for path in sorted(p for pattern in SOURCES for p in here.glob(pattern) if p.name in names):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@dataclasses.dataclass
class Part:
    name: str
    command: list
    limit: float = 300  # seconds
    environment: dict = dataclasses.field(default_factory=dict)
    # (exit code, output) -> what the table says, and whether that is a pass
    judge: typing.Callable = lambda code, output: ("" if code == 0 else f"exit code {code}", code == 0)


class Memory:
    """What became of each part, in a file that is rewritten after each."""

    def __init__(self, path, key, fresh):
        self.path, self.lock = path, threading.Lock()
        self.data = {"key": key, "parts": {}}
        if path.exists() and not fresh:
            before = json.loads(path.read_text())
            if before.get("key") == key:
                self.data = before

    def get(self, stage, part):
        return self.data["parts"].get(f"{stage}/{part}")

    def put(self, stage, part, **entry):
        with self.lock:
            self.data["parts"][f"{stage}/{part}"] = entry
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps(self.data, indent=1))
            new.replace(self.path)

    def forget(self, stage):
        self.data["parts"] = {name: entry for name, entry in self.data["parts"].items() if not name.startswith(f"{stage}/")}


class TimeBox:
    def __init__(self, minutes):
        self.end = time.monotonic() + 60 * minutes

    def left(self):
        return self.end - time.monotonic()


def end_group(group, how):
    try:
        os.killpg(group, how)
    except ProcessLookupError:
        pass


def run_limited(part, seconds, log, running):
    """Exit code and output; the code is None where the time was up, and the part's children are ended too. `running`: process groups."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        file.write("$ " + " ".join(map(str, part.command)) + "\n")
        file.flush()
        process = subprocess.Popen([str(c) for c in part.command], stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   env=dict(os.environ, **part.environment), start_new_session=True)
        running.add(process.pid)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
            end_group(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                end_group(process.pid, signal.SIGKILL)
                process.wait()
        running.discard(process.pid)
    return code, log.read_text(errors="replace")


class Runner:
    def __init__(self, memory, box, logs, stream=print):
        self.memory, self.box, self.logs, self.stream = memory, box, logs, stream
        self.running, self.stopped = set(), False

    def run(self, stage, parts, workers=1):
        """True if every part of the stage has passed. Those that don't fit into the time are left."""
        order = {None: 0, CUT: 1, FAILED: 2}
        waiting = [p for p in parts if (self.memory.get(stage, p.name) or {}).get("status") not in (PASSED, ABSENT)]
        waiting.sort(key=lambda p: order[(self.memory.get(stage, p.name) or {}).get("status")])
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            try:
                list(pool.map(lambda part: self.one(stage, part), waiting))
            except KeyboardInterrupt:  # end the parts with us
                self.box.end, self.stopped = 0, True
                for group in list(self.running):
                    end_group(group, signal.SIGKILL)
                raise
        return all((self.memory.get(stage, p.name) or {}).get("status") in (PASSED, ABSENT) for p in parts)

    def one(self, stage, part):
        seconds = min(part.limit, self.box.left())
        if seconds < 1:
            return
        start = time.monotonic()
        code, output = run_limited(part, seconds, self.log(stage, part.name), self.running)
        took = round(time.monotonic() - start, 1)
        if code is None or self.stopped:
            status, note = CUT, f"ended after {took:.0f} s"
        else:
            note, passed = part.judge(code, output)
            status = PASSED if passed else FAILED
        self.memory.put(stage, part.name, status=status, seconds=took, note=note)
        self.stream(f"{stage:<11} {part.name:<40} {status:<13} {took:>7.1f} s  {note}")

    def log(self, stage, part):
        return self.logs / f"{stage}-{part}.log".replace(" ", "_")

    def table(self, stage, names):
        lines = []
        for name in names:
            entry = self.memory.get(stage, name) or dict(status="not yet run", seconds=0, note="")
            lines.append(f"{name:<40} {entry['status']:<13} {entry['seconds']:>7.1f} s  {entry['note']}".rstrip())
        return lines
