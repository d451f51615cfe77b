"""What the rows of advice share: a folder with text, vocabulary, shards and checkpoints, and the table of rows."""
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import few_words  # noqa: E402

BINARY = os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert")
ROWS = {}  # part of a message as the sources have it: function of a World that carries the advice out


def row(fragment):
    """Marks a function that provokes the message with `fragment` in it, and does what it advises."""
    def mark(function):
        assert fragment not in ROWS, fragment
        ROWS[fragment] = function
        return function
    return mark


def pattern_of(fragment):
    """A fragment of a format string as a regular expression."""
    parts = re.split(r"(\{\{|\}\}|\{[^{}]*\})", fragment)
    return "".join({"{{": r"\{", "}}": r"\}"}.get(p, r"[\s\S]*?" if p.startswith("{") else re.escape(p)) for p in parts)


class World:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.fragment = ""   # of the row under way
        self.refusals = 0    # seen by it
        self.done = []       # what was run after the refusal
        self.said = ""
        few_words.build(BINARY, self.folder, "--hold-out-every", "5")
        self.data, self.vocab, self.text = self.folder / "data", self.folder / "vocab.txt", self.folder / "text"
        self.need("data", "build", "--vocab", self.vocab, "--output", self.folder / "singles", "--sequence-length", 24, "--no-nsp", self.text)
        self.need(*self.train("run", "--save-every", 2, "--keep-last", 9))
        self.checkpoint = self.folder / "run/checkpoint-4"
        (self.folder / "texts.csv").write_text("text,label\n" + "".join(f"w{i % 30} w{i % 7},kind-{i % 2}\n" for i in range(40)))

    # ---- Commands ----

    def run(self, *arguments, cwd=None, **environment):
        got = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=120, cwd=cwd,
                             env=dict(os.environ, **environment))
        return got.returncode, got.stdout, got.stderr

    def need(self, *arguments, **environment):
        """A command of the preparation, which must succeed."""
        code, out, err = self.run(*arguments, **environment)
        assert code == 0, f"{shlex.join(map(str, arguments))}: {err}"
        return out

    def refused(self, *arguments, code=2, **environment):
        """The command ends with `code` and the row's message, which is returned."""
        found, _, err = self.run(*arguments, **environment)
        assert found == code, f"{shlex.join(map(str, arguments))}: exit code {found}, expected {code}: {err}"
        assert re.search(pattern_of(self.fragment), err), f"{shlex.join(map(str, arguments))} said {err}, expected {self.fragment}"
        self.refusals += 1
        self.said = err
        return err

    def works(self, *arguments, code=0, **environment):
        """What the message advises, and it succeeds."""
        assert self.refusals, "nothing was refused before"
        found, out, err = self.run(*arguments, **environment)
        assert found == code, f"as advised, {shlex.join(map(str, arguments))}: exit code {found}: {err}"
        self.done.append(" ".join(w.replace(str(self.folder) + "/", "") for w in map(str, arguments))[:110])
        return out

    def in_message(self, expression):
        """The first group of `expression` in the message."""
        found = re.search(expression, self.said)
        assert found, f"no {expression} in {self.said}"
        return found[1]

    def advised(self, start="Use "):
        """The flags that the message writes out behind `start`."""
        return self.in_message(rf"{start}((?:--[\w-]+ [\w./=-]+ ?)+)").rstrip(". ").split()

    def shell(self, command):
        """A command that the message prints, carried out by a shell that finds the program."""
        path = f"{pathlib.Path(BINARY).resolve().parent}{os.pathsep}{os.environ['PATH']}"
        got = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120, env=dict(os.environ, PATH=path))
        assert got.returncode == 0, f"as advised, {command}: {got.stderr}"
        self.done.append(command.replace(str(self.folder) + "/", "")[:110])

    # ---- Arguments ----

    def train(self, name, *more, **replaced):
        """A run of six steps; micro_batch_size=3 replaces a flag, None leaves it out."""
        flags = {"data": self.data, "output_dir": self.folder / name, "num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2,
                 "micro_batch_size": 4, "global_batch_size": 8, "max_steps": 6, "threads": 1}
        flags.update(replaced)
        words = ["train"]
        for flag, value in flags.items():
            if value is not None:
                words += ["--" + flag.replace("_", "-"), value]
        return [*words, *more]

    def plan(self, *more, **replaced):
        """The same as a dry run into a new folder."""
        return self.train("new", *more, "--dry-run", **replaced)

    def toml(self, text, name="settings.toml"):
        (self.folder / name).write_text(text)
        return self.folder / name

    def build(self, *more, output="shards", text=None, vocab=None):
        return ["data", "build", "--vocab", vocab or self.vocab, "--output", self.folder / output, *more, text or self.text]

    def copy(self, source, name):
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        return target

    def model(self, name="model"):
        """A copy of a checkpoint as a plain model folder, without our list of checksums."""
        folder = self.copy(self.checkpoint, name)
        for file in ("MANIFEST.json", "optimizer.safetensors", "trainer_state.json"):
            (folder / file).unlink()
        return folder

    def file(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def classify(self, name, *more, data=None):
        return ["finetune", "classify", "--init-from", self.checkpoint, "--data", data or self.folder / "texts.csv", "--output-dir",
                self.folder / name, "--max-steps", 2, "--max-sequence-length", 16, "--threads", 1, *more]
