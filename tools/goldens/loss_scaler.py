#!/usr/bin/env python3
"""Makes tests/goldens/loss_scaler.safetensors: how torch.amp.GradScaler moves its scale.

Each case is a sequence of steps, some with an infinite or NaN gradient, which GradScaler skips; recorded are the scale and
the growth tracker after each step. Read by tests/core/kernels/step_test.cpp. Run from the root, with the peers of
tools/install-peers, as: .venv/bin/python tools/goldens/loss_scaler.py
"""
import pathlib

import numpy as np
import torch
from safetensors.numpy import save_file


def overflows(seed, steps, share):
    return np.random.default_rng(seed).random(steps) < share


def at(steps, *where):
    result = np.zeros(steps, bool)
    result[list(where)] = True
    return result


# name: (initial, growth, backoff, growth interval, which steps overflow); factors that are floats, so that both sides
# multiply with the same doubles.
CASES = {
    "defaults": (65536.0, 2.0, 0.5, 2000, at(4300, 0, 1, 2, 2001, 2002, 4100)),
    "one_step_before_growth": (1024.0, 2.0, 0.5, 4, at(24, 3, 7, 12, 16)),
    "random": (65536.0, 2.0, 0.5, 3, overflows(1, 200, 0.2)),
    "odd_factors": (1000.0, 1.5, float(np.float32(0.3)), 2, overflows(2, 200, 0.25)),
    "every_step": (16.0, 2.0, 0.5, 1, overflows(3, 100, 0.5)),
    "from_2_40": (2.0 ** 40, 2.0, 0.5, 5, at(60, *range(33), 45)),
    "towards_infinity": (2.0 ** 120, 2.0, 0.5, 2, at(60, 30, 31)),
}


def record(initial, growth, backoff, interval, bad):
    scaler = torch.amp.GradScaler("cpu", init_scale=initial, growth_factor=growth, backoff_factor=backoff,
                                  growth_interval=interval)
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    calls = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    scales, trackers = [], []
    for step, overflow in enumerate(bad):
        scaler.scale(weight.sum())  # makes the scale's tensor
        weight.grad = torch.tensor([1.0, (float("inf"), float("nan"))[step % 2] if overflow else 1.0, 0.0])
        before = len(calls)
        scaler.step(optimizer)
        assert len(calls) == before + (not overflow), "GradScaler skips what overflows"
        scaler.update()
        scales.append(scaler.get_scale())
        trackers.append(scaler._get_growth_tracker())
    return np.float32(scales), np.int32(trackers)


def main():
    out = {}
    for name, (initial, growth, backoff, interval, bad) in CASES.items():
        scales, trackers = record(initial, growth, backoff, interval, bad)
        out[f"{name}.options"] = np.float32([initial, growth, backoff, interval])
        out[f"{name}.overflow"] = bad.astype(np.float32)
        out[f"{name}.scale"] = scales
        out[f"{name}.clean_steps"] = trackers
        print(f"{name}: {len(bad)} steps, {int(bad.sum())} skipped, scale {scales.min():g} to {scales.max():g}")
    path = pathlib.Path("tests/goldens/loss_scaler.safetensors")
    save_file(out, path, metadata={"made_by": "tools/goldens/loss_scaler.py",
                                   "versions": f"torch {torch.__version__}, numpy {np.__version__}"})
    print(f"{path}: {path.stat().st_size} bytes, torch {torch.__version__}")


if __name__ == "__main__":
    main()
