#!/usr/bin/env python3
"""Writes tests/goldens/optimizer.safetensors: 20 steps of every optimizer variant on recorded gradients.

Expected values come from formulas in float64 written here from the papers (no code of minibert is
called), and from those peers that are an optimizer of minibert's table, in float32 or, where their
names end so, in float64: PyTorch's AdamW and SGD, timm's Lamb (lamb, nvlamb, lamb-apex), Lamb of
torch-optimizer (lamb-clamped), optax's lamb (nvlamb without clipping) and lars (lars-mlperf without
decay). Read by tests/optim. Run from the root, with the peers of tools/install-peers and
  .venv/bin/pip install optax==0.2.8
  .venv/bin/pip install --no-deps timm==1.0.31 torch-optimizer==0.3.0 pytorch-ranger==0.1.1
as: .venv/bin/python tools/goldens/optimizer.py
"""
import importlib
import importlib.util
import pathlib
import sys
import types

import numpy as np
import torch
from safetensors.numpy import save_file

STEPS, BETA1, BETA2, DECAY, CLIP = 20, 0.9, 0.999, 0.01, 1.0
SHAPES = {
    "embeddings.word_embeddings.weight": (37, 8),
    "encoder.query.weight": (8, 8),
    "encoder.query.bias": (8,),
    "encoder.key.bias": (8,),
    "encoder.dense.weight": (19, 13),
    "encoder.dense.bias": (19,),
    "encoder.LayerNorm.weight": (13,),
    "pooler.weight": (5, 3),
    "frozen.weight": (4, 6),
    "frozen.bias": (6,),
    "frozen.zero.weight": (3, 2),
}
# No gradient reaches these: the update is decay alone, or nothing.
FROZEN = ("frozen.weight", "frozen.bias", "frozen.zero.weight")
ZERO_AT_FIRST = ("encoder.dense.bias", "pooler.weight", "frozen.zero.weight")


def decays(name):
    return not any(part in name for part in ("bias", "LayerNorm"))


def record():
    """Weights, gradients of 20 steps whose norm lies on both sides of the clip, learning rates."""
    rng = np.random.default_rng(20190401)
    weights, gradients = {}, {}
    scale = 10.0 ** rng.uniform(-3, -0.5, STEPS)
    for name, shape in SHAPES.items():
        w = rng.normal(0, 0.05, shape) if name not in ZERO_AT_FIRST else np.zeros(shape)
        weights[name] = (w + ("LayerNorm" in name)).astype(np.float32)
        mean = rng.normal(0, 1, shape)
        g = [s * (rng.normal(0, 1, shape) + mean) * (name not in FROZEN) for s in scale]
        gradients[name] = np.stack(g).astype(np.float32)
    lr = (5e-3 * np.minimum(1, np.arange(1, STEPS + 1) / 5)).astype(np.float32)
    return weights, gradients, lr


def norm(x):
    return float(np.sqrt(np.sum(np.square(x.astype(np.float64)))))


def formula(weights, gradients, lr, *, lamb, correct, eps, clip):
    """Adam's direction with decay in it, times a trust ratio if `lamb`; everything in float64."""
    w = {k: x.astype(np.float64) for k, x in weights.items()}
    m = {k: np.zeros_like(x) for k, x in w.items()}
    v = {k: np.zeros_like(x) for k, x in w.items()}
    ratios = {k: np.ones(STEPS) for k in w}
    grad_norms = np.zeros(STEPS)
    for t in range(STEPS):
        grad_norms[t] = np.sqrt(sum(norm(g[t]) ** 2 for g in gradients.values()))
        factor = 1 / max(1, grad_norms[t] / clip) if clip else 1
        for k in w:
            g = gradients[k][t].astype(np.float64) * factor
            m[k] = BETA1 * m[k] + (1 - BETA1) * g
            v[k] = BETA2 * v[k] + (1 - BETA2) * g * g
            m_hat = m[k] / (1 - BETA1 ** (t + 1)) if correct else m[k]
            v_hat = v[k] / (1 - BETA2 ** (t + 1)) if correct else v[k]
            u = m_hat / (np.sqrt(v_hat) + eps) + (DECAY * w[k] if decays(k) else 0)
            if lamb and decays(k) and norm(w[k]) > 0 and norm(u) > 0:
                ratios[k][t] = norm(w[k]) / norm(u)
            w[k] = w[k] - float(lr[t]) * ratios[k][t] * u
    return w, m, v, ratios, grad_norms


def with_torch(make, weights, gradients, lr, dtype=torch.float32):
    """The same with an optimizer of PyTorch's interface; returns weights and, where it has Adam's, moments."""
    params = {k: torch.nn.Parameter(torch.tensor(x, dtype=dtype)) for k, x in weights.items()}
    groups = [{"params": [p for k, p in params.items() if decays(k) == d], "weight_decay": DECAY * d}
              for d in (True, False)]
    optimizer = make(groups)
    for t in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = float(lr[t])
        for k, p in params.items():
            p.grad = torch.tensor(gradients[k][t], dtype=dtype)
        optimizer.step()
    state = {k: optimizer.state[p] for k, p in params.items()}
    names = ("exp_avg", "exp_avg_sq") if "exp_avg" in state["pooler.weight"] else ("momentum_buffer",)
    return tuple([{k: p.detach().numpy() for k, p in params.items()}]
                 + [{k: s[name].numpy() for k, s in state.items()} for name in names])


def with_optax(transform, weights, gradients, lr):
    """An optax transformation, made anew for each learning rate; in float64. Returns the weights."""
    import jax
    import optax
    jax.config.update("jax_enable_x64", True)
    params = {k: jax.numpy.asarray(x, dtype=np.float64) for k, x in weights.items()}
    state = None
    for t in range(STEPS):
        step = transform(optax, float(lr[t]))
        state = step.init(params) if state is None else state
        grads = {k: jax.numpy.asarray(gradients[k][t], dtype=np.float64) for k in params}
        updates, state = step.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return ({k: np.asarray(x) for k, x in params.items()},)


def timm_lamb():
    """timm.optim.lamb alone: the package itself would import torchvision."""
    root = pathlib.Path(importlib.util.find_spec("timm").submodule_search_locations[0])
    for name, folder in (("timm", root), ("timm.optim", root / "optim")):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]
    return importlib.import_module("timm.optim.lamb").Lamb


def main():
    weights, gradients, lr = record()
    out = {"lr": lr}
    out.update({f"weight.{k}": x for k, x in weights.items()})
    out.update({f"gradient.{k}": x for k, x in gradients.items()})

    def add(variant, *results):
        for what, values in zip(("weight", "exp_avg", "exp_avg_sq"), results):
            for k in SHAPES:
                out[f"{variant}.{what}.{k}"] = values[k].astype(np.float32)

    rows = {"lamb": dict(lamb=True, correct=True, eps=1e-6, clip=CLIP),
            "adamw": dict(lamb=False, correct=True, eps=1e-8, clip=None),
            "adamw-google": dict(lamb=False, correct=False, eps=1e-6, clip=CLIP)}
    for variant, policy in rows.items():
        w, m, v, ratios, grad_norms = formula(weights, gradients, lr, **policy)
        add(variant, w, m, v)
        if variant == "lamb":
            out["grad_norm"] = grad_norms.astype(np.float32)
            out.update({f"lamb.trust_ratio.{k}": r.astype(np.float32) for k, r in ratios.items()})
    assert out["grad_norm"].min() < CLIP < out["grad_norm"].max(), "both sides of the clip"
    Lamb = timm_lamb()
    add("adamw.torch", *with_torch(
        lambda groups: torch.optim.AdamW(groups, betas=(BETA1, BETA2), eps=1e-8),
        weights, gradients, lr))
    add("lamb.timm", *with_torch(
        lambda groups: Lamb(groups, betas=(BETA1, BETA2), eps=1e-6, max_grad_norm=CLIP),
        weights, gradients, lr))
    wide = torch.float64

    def lamb(**options):
        return lambda groups: Lamb(groups, betas=(BETA1, BETA2), eps=1e-6, max_grad_norm=CLIP, **options)

    add("nvlamb.timm.f64", *with_torch(lamb(always_adapt=True), weights, gradients, lr, wide))
    add("lamb-apex.timm.f64", *with_torch(lamb(), weights, gradients, lr, wide))
    import torch_optimizer
    add("lamb-clamped.torch-optimizer.f64", *with_torch(
        lambda groups: torch_optimizer.Lamb(groups, betas=(BETA1, BETA2), eps=1e-6), weights, gradients, lr, wide))
    for suffix, options in (("", {}), (".nesterov", {"nesterov": True})):
        add(f"sgd.torch{suffix}.f64", *with_torch(
            lambda groups: torch.optim.SGD(groups, lr=1, momentum=BETA1, **options), weights, gradients, lr, wide))
    add("nvlamb.optax.f64", *with_optax(
        lambda optax, rate: optax.lamb(rate, b1=BETA1, b2=BETA2, eps=1e-6, weight_decay=DECAY,
                                       mask={k: decays(k) for k in SHAPES}), weights, gradients, lr))
    add("lars-mlperf.optax.f64", *with_optax(
        lambda optax, rate: optax.lars(rate, weight_decay=0, trust_coefficient=0.001, momentum=BETA1,
                                       trust_ratio_mask={k: decays(k) for k in SHAPES}), weights, gradients, lr))

    for peer, variant in (("adamw.torch", "adamw"), ("lamb.timm", "lamb")):
        worst = max(np.abs(out[f"{peer}.weight.{k}"] - out[f"{variant}.weight.{k}"]).max()
                    / np.abs(out[f"{variant}.weight.{k}"]).max() for k in SHAPES)
        print(f"{peer} against the formula: {worst:.2e} of the largest weight")
    versions = f"torch {torch.__version__}, numpy {np.__version__}, timm 1.0.31, torch-optimizer 0.3.0, optax 0.2.8"
    path = pathlib.Path("tests/goldens/optimizer.safetensors")
    path.parent.mkdir(exist_ok=True)
    save_file({k: np.ascontiguousarray(x) for k, x in out.items()}, path,
              metadata={"made_by": "tools/goldens/optimizer.py", "versions": versions})
    print(f"{path}: {path.stat().st_size} bytes, {versions}")


if __name__ == "__main__":
    main()
