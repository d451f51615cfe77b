#!/usr/bin/env python3
"""The layering check passes on the tree and fails on planted wrong includes. Run by ctest as check_layers."""
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHECK = ROOT / "tools" / "check_layers"


def check(root):
    done = subprocess.run([sys.executable, CHECK, root], capture_output=True, text=True)
    return done.returncode, done.stdout


def main():
    code, output = check(ROOT)
    assert code == 0, f"the tree itself fails:\n{output}"
    planted = [  # file, wrong line, what the message must name
        ("core/tensor.h", '#include "autograd/variable.h"', "core includes"),
        ("optim/optimizer.h", '#include "nn/module.h"', "optim includes"),
        ("dist/elements.h", '#include "autograd/variable.h"', "dist includes"),
        ("autograd/ops.h", '#include "dist/elements.h"', "autograd includes"),
        ("models/text/packed_batch.h", '#include "models/bert/bert.h"', "models/text includes"),
        ("autograd/ops.h", '#include "tensor.h"', "names no floor"),
    ]
    for name, line, expected in planted:
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder) / "tree"
            shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("build", ".venv", "runs", ".git", "data"))
            with open(copy / name, "a", encoding="utf-8") as file:
                file.write(line + "\n")
            code, output = check(copy)
            assert code == 1 and expected in output and name in output, f"{line} in {name} was not caught:\n{output}"
    print(f"layers: {len(planted)} planted includes, all caught")


if __name__ == "__main__":
    main()
