"""Advice about settings, and about what a run resumes from."""
import itertools
import signal
import subprocess
import time

from advice.world import BINARY, row


def settings_row(fragment, wrong, *right, environment=None, where=None):
    """Flags that are refused, and each list of flags that the message names instead."""
    environment = environment or {}

    @row(fragment)
    def carry_out(w):
        command = where or w.plan
        w.refused(*command(*wrong), **environment)
        for flags in right:
            w.works(*command(*flags), **environment)


settings_row("precision is tf32, expected fp32, bf16 or fp16 on device cpu", ["--precision", "tf32"], ["--precision", "fp32"])
settings_row("precision is fp16, expected fp32 or bf16: this CPU", ["--precision", "fp16"], ["--precision", "bf16"],
             environment={"MINIBERT_SIMD": "v2"})
settings_row("{0}gemm is {1}, but {0}device is {2}, expected cuda", ["--gemm", "ours"], [])
settings_row("act on a trust ratio, but {} adapts no tensor here", ["--optimizer", "adamw", "--trust-ratio-max", 3],
             ["--optimizer", "adamw", "--trust-ratio-max", "auto"], ["--adapt", "all", "--trust-ratio-max", 3])
settings_row("optimizer: adapt is {}, but {} has no trust ratio", ["--optimizer", "sgd", "--adapt", "all"],
             ["--optimizer", "lars", "--adapt", "all"], ["--optimizer", "lars-mlperf", "--adapt", "all"])
settings_row("divides by nothing that could be 0", ["--optimizer", "sgd", "--epsilon", 1e-3], ["--optimizer", "sgd", "--epsilon", 0])
settings_row("has no moments of Adam's to correct", ["--optimizer", "sgd", "--bias-correction", "moments"],
             *(["--optimizer", "sgd", "--bias-correction", word] for word in ("none", "auto")))
settings_row("epsilon_inside_root is on, but {} takes no root", ["--optimizer", "sgd", "--epsilon-inside-root", "on"],
             *(["--optimizer", "sgd", "--epsilon-inside-root", word] for word in ("off", "auto")))
settings_row("nesterov is on, but {}", ["--nesterov", "on"], *(["--nesterov", "on", "--optimizer", name] for name in ("sgd", "lars-mlperf")))
settings_row("gradient_clipping is {} with max_grad_norm 0", ["--gradient-clipping", "global", "--max-grad-norm", 0],
             ["--gradient-clipping", "global", "--max-grad-norm", 1], ["--gradient-clipping", "none", "--max-grad-norm", 0])
settings_row("gives each tensor's gradient the norm 1, which undoes clipping", ["--optimizer", "lans", "--gradient-clipping", "global"],
             *(["--optimizer", "lans", "--gradient-clipping", word] for word in ("none", "auto")))
settings_row("train.graph is on, but train.device is {}", ["--graph", "--fixed-shapes"], ["--fixed-shapes"])
settings_row("scale.loss_scaling is on, but train.precision is {}", ["--loss-scaling", "on"], [],
             ["--loss-scaling", "on", "--precision", "fp16"])
settings_row("{} is set, but the loss is not scaled", ["--loss-scale", 1024], [], ["--loss-scale", 1024, "--precision", "fp16"])
settings_row("expected at least scale.loss_scale_floor", ["--precision", "fp16", "--loss-scale", 8, "--loss-scale-floor", 16],
             ["--precision", "fp16", "--loss-scale", 8, "--loss-scale-floor", 8])
settings_row("expected fp32 with train.deterministic", ["--deterministic", "--reduce-precision", "bf16"], ["--deterministic"],
             ["--reduce-precision", "bf16"])
settings_row("{}optim.warmup is {} steps, expected at most train.max_steps", ["--warmup", 7], ["--warmup", 6], ["--warmup", "0.1"])
settings_row("--{}: is given, but optim.batch_scaling is none. Add --batch-scaling sqrt",
             ["--reference-batch-size", 8, "--reference-learning-rate", 1e-3],
             ["--reference-batch-size", 8, "--reference-learning-rate", 1e-3, "--batch-scaling", "sqrt"])
settings_row("but there is no reference point", ["--batch-scaling", "sqrt"],
             ["--batch-scaling", "sqrt", "--reference-batch-size", 8, "--reference-learning-rate", 1e-3])


@row("data.evaluation_data: the name \"{}\" is given twice. Name the sets")
def names_of_sets(w):
    held_out = w.data / "held-out"
    w.refused(*w.plan("--evaluation-data", held_out, "--evaluation-data", held_out))
    w.works(*w.plan("--evaluation-data", f"a={held_out}", "--evaluation-data", f"b={held_out}"))


@row("gives the set no usable name (a text without quotes, backslashes and control characters). Name it")
def a_name_for_a_set(w):
    held_out = w.data / "held-out"
    w.refused(*w.plan("--evaluation-data", f"={held_out}"))
    w.works(*w.plan("--evaluation-data", f"NAME={held_out}"))
    odd = w.copy(held_out, "two\nlines\t\x1b[1m")
    w.refused(*w.plan("--evaluation-data", odd))
    w.works(*w.plan("--evaluation-data", f"NAME={odd}"))


@row("expected a multiple of train.micro_batch_size")
def batch_size(w):
    w.refused(*w.plan(micro_batch_size=3))
    w.works(*w.plan(*w.advised(), micro_batch_size=3, global_batch_size=None))
    w.works(*w.plan(micro_batch_size=2))


@row("model.hidden_size is {}, expected a multiple of model.num_attention_heads")
def hidden_size(w):
    w.refused(*w.plan(hidden_size=33))
    w.works(*w.plan(*w.advised(), hidden_size=None))
    w.works(*w.plan(hidden_size=33, num_attention_heads=3))


@row("model.num_attention_heads is {}, expected at least {} for model.hidden_size")
def heads(w):
    w.refused(*w.plan(hidden_size=1024))
    w.works(*w.plan(hidden_size=1024, num_attention_heads=w.in_message(r"expected at least (\d+)")))


@row("checkpoint.output_dir is empty")
def output_dir(w):
    w.refused(*w.plan(output_dir=None))
    w.works(*w.plan())


@row("{}data.data is empty, expected a folder of training shards")
def data_named(w):
    w.refused(*w.train("new", data=None))
    w.works(*w.build("--sequence-length", 24, output="made"))
    w.works(*w.plan(data=w.folder / "made"))


@row("expected at most {} (max_position_embeddings of the model). {} the data with --sequence-length {}.")
def positions(w):
    w.refused(*w.plan("--max-position-embeddings", 16))
    w.works(*w.plan(*w.advised()))
    w.works(*w.build("--sequence-length", 16, "--max-predictions", 3, output="shorter"))
    w.works(*w.plan("--max-position-embeddings", 16, data=w.folder / "shorter"))
    w.need(*w.build("--sequence-length", 4096, output="longer"))
    sizes = dict(num_hidden_layers=None, hidden_size=None, num_attention_heads=None)
    w.refused(*w.plan("--init-from", w.checkpoint, data=w.folder / "longer", **sizes))  # whose positions are what they are
    assert "--max-position-embeddings" not in w.said, w.said
    w.works(*w.build(*w.advised("with "), output="fitting"))
    w.works(*w.plan("--init-from", w.checkpoint, data=w.folder / "fitting", **sizes))


@row("{}data.sequence_length is {}, expected at most {} (max_position_embeddings of the model). Use --max-position-embeddings {}.")
def described_length(w):
    w.refused(*w.plan("--sequence-length", 1024))
    w.works(*w.plan("--sequence-length", 1024, *w.advised(), data=None, output_dir=None))


@row("was built for sequences of {} tokens, expected {} (data.sequence_length)")
def length_of_data(w):
    w.refused(*w.plan("--sequence-length", 128))
    w.works(*w.plan(*w.advised("or use ")))


@row("has no sentence pairs, expected them for next-sentence prediction")
def pairs(w):
    w.refused(*w.plan(data=w.folder / "singles"))
    w.works(*w.plan("--no-nsp", data=w.folder / "singles"))
    w.works(*w.plan())


# ---- Files of settings, the environment, phases --------------------------------------------------

def edit_row(fragment, wrong, right):
    """A line of a file that is refused, and as the message wants it."""
    @row(fragment)
    def carry_out(w):
        w.refused(*w.plan("--config", w.toml(wrong)))
        w.works(*w.plan("--config", w.toml(right)))


edit_row("{}: {} is {}, expected {} ({}). Change it there", "[train]\nseed = -1\n", "[train]\nseed = 1\n")
edit_row("{}: {} is {}, which is {} in fp32", "[optim]\nmax_grad_norm = 1e-50\n", "[optim]\nmax_grad_norm = 1.2e-38\n")
edit_row("is an integer beyond 2^53", "[optim]\nmax_grad_norm = 9007199254740993\n", "[optim]\nmax_grad_norm = 9007199254740993.0\n")
edit_row("{}:{}: {}. Mend that line", "[train]\nseed = \n", "[train]\nseed = 1\n")
edit_row("{}:{}: a key or the name of a table is malformed", "[!train]\nseed = 1\n", "[train]\nseed = 1\n")


def phases(w, text):
    return w.plan("--config", w.toml(text), max_steps=None)


def phase_row(fragment, wrong, right, flags=()):
    @row(fragment)
    def carry_out(w):
        w.refused(*phases(w, wrong))
        w.works(*phases(w, right))
        for more in flags:
            w.works(*phases(w, wrong), *more)


phase_row("phase is no list of tables", "[phase]\nmax_steps = 3\n", "[[phase]]\nmax_steps = 3\n")
phase_row("{}the name is given twice. Give each [[phase]] another", "[[phase]]\nname = 'a'\nmax_steps = 3\n" * 2,
          "[[phase]]\nname = 'a'\nmax_steps = 3\n[[phase]]\nname = 'b'\nmax_steps = 3\n")
phase_row("{}max_steps is missing, expected the phase's optimizer steps", "[[phase]]\nname = 'a'\n", "[[phase]]\nname = 'a'\nmax_steps = 3\n",
          [["--phase", "1.max_steps=3"]])
phase_row("{}first_step is {}, expected {} (where the phases before it end)", "[[phase]]\nmax_steps = 3\n[[phase]]\nmax_steps = 3\nfirst_step = 4\n",
          "[[phase]]\nmax_steps = 3\n[[phase]]\nmax_steps = 3\n", [["--phase", "2.first_step=3"]])


@row("{}: sets {}, but each phase has its own")
def flag_of_all_phases(w):
    config = w.toml("[[phase]]\nmax_steps = 3\n")
    w.refused(*w.plan("--config", config))
    w.works(*w.plan("--config", config, *(w.in_message(r"(--phase 1\.max_steps=)VALUE") + "6").split(), max_steps=None))


@row("{}: names phase {}, but the run has no [[phase]] tables")
def phase_without_phases(w):
    w.refused(*w.plan("--phase", "1.learning_rate=1e-3"))
    w.works(*w.plan("--learning-rate", "1e-3"))
    w.works(*w.plan("--phase", "1.learning_rate=1e-3", "--config", w.toml("[[phase]]\nmax_steps = 6\n"), max_steps=None))


@row("{}: key {} is unknown.{} `minibert train --print-config` prints all keys")
def unknown_key(w):
    w.refused(*w.plan("--config", w.toml("[train]\nmicro_batchsize = 4\n")))
    name = w.in_message(r"Did you mean train\.(\w+)\?")
    assert f"{name} = " in w.works("train", "--print-config")
    w.works(*w.plan("--config", w.toml(f"[train]\n{name} = 4\n")))


@row("{}: format_version is {}, expected 1 to {} (what this build reads). Use a newer minibert, or write the file anew")
def newer_settings(w):
    w.refused(*w.plan("--config", w.toml("format_version = 99\n")))
    w.works(*w.plan("--config", w.toml(w.works("train", "--print-config"))))


@row("environment: {} is unknown, expected a setting's name")
def unknown_variable(w):
    w.refused(*w.plan(), MINIBERT_SEDE="3")
    assert "MINIBERT_SEED" in w.works("train", "--help")
    w.works(*w.plan(), MINIBERT_SEED="3")
    w.works(*w.plan())


@row("{}optim.reference_warmup is {} steps, expected optim.reference_steps beside it")
def reference_warmup(w):
    scaled = ["--batch-scaling", "sqrt", "--reference-batch-size", 8, "--reference-learning-rate", 1e-3]
    w.refused(*w.plan(*scaled, "--reference-warmup", 3))
    w.works(*w.plan(*scaled, "--reference-warmup", 3, "--reference-steps", 6))
    w.works(*w.plan(*scaled, "--reference-warmup", 0.5))


@row("{}the warm-up of batch scaling is {:g} of the steps at batch {}")
def scaled_warmup(w):
    scaled = ["--batch-scaling", "sqrt", "--reference-batch-size", 4, "--reference-learning-rate", 1e-3, "--reference-warmup", 0.9]
    w.refused(*w.plan(*scaled))
    w.works(*w.plan(*scaled, *w.advised("Give it: ")))


# ---- Where a run goes on -------------------------------------------------------------------------

numbers = itertools.count()


def another(w):
    return w.train(f"another-{next(numbers)}", max_steps=1)


def begun(w, *more, **replaced):
    """A run that has stopped at step 2."""
    name = f"begun-{next(numbers)}"
    w.need(*w.train(name, "--stop-after", 2, *more, **replaced))
    return name


@row("optimizer state: it is that of an optimizer with {}, but {} keeps {}")
def other_moments(w):
    name = begun(w, "--optimizer", "sgd")
    w.refused(*w.train(name, "--resume", "must"), code=7)
    w.works(*w.train(name, "--resume", "must", "--optimizer", "sgd"))
    w.works(*another(w), "--init-from", w.folder / name / "latest")


@row("{}: holds a model of another shape: {}")
def other_shape(w):
    name = begun(w)
    w.refused(*w.train(name, "--resume", "must", num_attention_heads=4, hidden_size=64))
    w.works(*w.train(name, "--resume", "must", *w.advised("Resume with "), hidden_size=None, num_attention_heads=None))
    w.works(*another(w))


@row("{}: was saved with other settings that a run can't change")
def never_changes(w):
    name = begun(w)
    w.refused(*w.train(name, "--resume", "must", "--no-nsp"), code=2)
    w.works(*another(w), "--no-nsp", "--init-from", w.in_message(r"--init-from (\S+)"))
    w.works(*w.train(name, "--resume", "must"))


@row("the checkpoint holds {} applied steps, expected at most {}")
def end_before_checkpoint(w):
    name = begun(w)
    w.refused(*w.train(name, "--resume", "must", max_steps=1))
    assert "the run is complete" in w.works(*w.train(name, "--resume", "must", *w.advised(), max_steps=None))
    w.works(*w.train(name, "--resume", "must", max_steps=4))
    w.refused(*w.train("run", "--resume", "auto", max_steps=4))
    w.works(*w.train("run", "--resume", w.folder / "run/checkpoint-4", "--dry-run", max_steps=4))


@row("the checkpoint holds step {}, expected at most train.stop_after")
def stop_before_checkpoint(w):
    name = begun(w)
    w.refused(*w.train(name, "--resume", "must", "--stop-after", 1))
    w.works(*w.train(name, "--resume", "must", "--stop-after", 3))
    w.works(*w.train(name, "--resume", "must"))


def phases_row(fragment, then, stop):
    @row(fragment)
    def carry_out(w):
        name = f"phases-{next(numbers)}"
        first = w.toml("[[phase]]\nmax_steps = 2\n[[phase]]\nmax_steps = 2\n[[phase]]\nmax_steps = 2\n")
        w.need(*w.train(name, "--stop-after", stop, "--config", first, max_steps=None))
        w.refused(*w.train(name, "--resume", "must", "--config", w.toml(then), max_steps=None))
        w.works(*w.train(name, "--resume", "must", "--config", w.folder / name / "config.resolved.toml", "--stop-after", stop + 1,
                         data=None, output_dir=None, max_steps=None))
        w.works(*another(w))


phases_row("the checkpoint at step {} is in phase {}, but the configuration has {}", "[[phase]]\nmax_steps = 2\n", 3)
phases_row("{} began after {} applied steps in the checkpoint, but after {} in the configuration",
           "[[phase]]\nmax_steps = 1\n[[phase]]\nmax_steps = 9\n", 3)
phases_row("the checkpoint has {} applied steps and is in {}, which ends after {}",
           "[[phase]]\nmax_steps = 2\n[[phase]]\nmax_steps = 1\n[[phase]]\nmax_steps = 2\n", 4)


@row("{}: has no checkpoint, expected one to resume from")
def nothing_to_resume(w):
    w.refused(*w.train("no-run", "--resume", "must"), code=7)
    w.works(*w.train("no-run", "--resume", "auto", max_steps=1))


@row("{}: none of its checkpoints can be used: {}. To start a new run, choose another --output-dir")
def no_good_checkpoint(w):
    name = begun(w)
    (w.folder / name / "checkpoint-2/MANIFEST.json").write_text("")
    w.refused(*w.train(name, "--resume", "must"), code=7)
    w.works(*another(w))


@row("{}: holds {}, expected a run to resume or an empty folder")
def a_folder_of_other_things(w):
    w.file("other-things/diary.txt", "")
    w.refused(*w.train("other-things"))
    w.works(*another(w))


@row("{}: holds {}, expected an empty folder. Resume the run in it with --resume auto")
def a_folder_with_a_run(w):
    name = begun(w)
    w.refused(*w.train(name))
    w.works(*w.train(name, "--resume", "auto"))
    w.works(*another(w))


@row("{}: the output folder can't be created: {}. Choose another --output-dir")
def a_file_in_the_way(w):
    w.file("a-file", "")
    w.refused(*w.train("a-file"))
    w.works(*another(w))


@row("{}: is in use by {}, expected no other run. Wait for it, stop it, or choose another --output-dir")
def a_folder_in_use(w):
    other = subprocess.Popen([BINARY, *map(str, w.train("busy", max_steps=100000))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        metrics, deadline = w.folder / "busy/metrics.jsonl", time.monotonic() + 60
        while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        w.refused(*w.train("busy", "--resume", "auto"))
        w.works(*another(w))
    finally:
        other.send_signal(signal.SIGTERM)
        assert other.wait(timeout=60) == 75
    w.works(*w.train("busy", "--resume", "auto", "--dry-run", max_steps=100000))


@row("train.deterministic: there are {} ranks, expected 1, 2, 4, 8 or another power of two")
def ranks_of_a_tree(w):
    shape = dict(micro_batch_size=2, global_batch_size=12, max_steps=1)
    w.refused(*w.train("tree-3", "--deterministic", "--nproc", 3, **shape))
    w.works(*w.train("tree", "--deterministic", "--nproc", w.in_message(r"Start (\d+) ranks"), **shape))
    w.works(*w.train("no-tree", "--no-deterministic", "--nproc", 3, **shape))


@row("{} has no value: the parser would take the next word as one")
def a_flag_without_a_value(w):
    command = w.plan(max_steps=None)
    w.refused(*command, "--max-steps=", "--seed=3")
    w.works(*command, "--max-steps=3", "--seed=3")
    w.works(*command, "--seed=3")


@row("model.{} is {}, but the model of --init-from has {}")
def sizes_of_another_model(w):
    command = w.train("of-another-size", "--init-from", w.checkpoint, hidden_size=64, num_hidden_layers=None, num_attention_heads=None, max_steps=1)
    w.refused(*command)
    flag = w.in_message(r"Leave out (--[\w-]+)")
    at = command.index(flag)
    w.works(*command[:at], *command[at + 2:])


@row("--gpus is {} with --device {}, expected cuda")
def gpus_and_a_device(w):
    w.refused(*w.plan("--gpus", 1, "--device", "cpu"))
    w.works(*w.plan("--device", "cpu"))


@row("Nothing of this step is saved; checkpoints from before are untouched")
def a_run_that_diverged(w):
    name = begun(w)
    wild = ["--learning-rate", 100, "--max-grad-norm", 0, "--warmup", 0, "--epsilon", 0, "--optimizer", "adamw", "--schedule", "constant"]
    w.refused(*w.train(name, "--resume", "must", *wild, max_steps=400), code=4)
    gentle = ["--learning-rate", "1e-4", "--max-grad-norm", 0.5, "--warmup", 3]
    w.works(*w.train(name, "--resume", "must", *gentle))
