#!/usr/bin/env python3
"""Prints the polynomial coefficients of core/kernels/math_simd.h.

Each is a weighted least-squares fit in Chebyshev polynomials whose weights follow the error (Lawson's iteration), which
tends to the polynomial of least largest relative error; `taken_out` is a constant that the code adds separately. Needs numpy and mpmath (development only):
    python tools/fit_math.py
"""
import mpmath as mp
import numpy as np

mp.mp.dps = 40


def lawson(x, y, weight, low, high, degree, iterations=200):
    """Power coefficients of the polynomial of (nearly) least largest |weight * (polynomial - y)|."""
    basis = np.polynomial.chebyshev.chebvander((2 * x - low - high) / (high - low), degree)
    share = np.ones(len(x)) / len(x)
    for _ in range(iterations):
        scale = np.sqrt(share) * weight
        coefficients = np.linalg.lstsq(basis * scale[:, None], y * scale, rcond=None)[0]
        error = np.abs(basis @ coefficients - y) * weight
        share = share * error / (share * error).sum()
    series = np.polynomial.chebyshev.Chebyshev(coefficients, domain=[low, high])
    return series.convert(kind=np.polynomial.Polynomial).coef


def fit(name, function, low, high, degree, taken_out=0.0, nodes=400):
    x = (low + high) / 2 + (high - low) / 2 * np.cos((np.arange(nodes) + 0.5) * np.pi / nodes)
    y = np.array([float(function(mp.mpf(v))) for v in x])
    # Rounds the lowest coefficient to f32, then fits the others to what that leaves, and so on.
    rounded, rest, weight = [], y - taken_out, 1 / np.abs(y)
    for power in range(degree + 1):
        rounded.append(np.float32(lawson(x, rest, weight, low, high, degree - power)[0]))
        rest, weight = (rest - rounded[-1]) / x, weight * np.abs(x)
    value = taken_out + sum(float(c) * x**power for power, c in enumerate(rounded))
    print(f"{name}: relative error {np.abs(value / y - 1).max():.2g}, lowest power first")
    print("  " + ", ".join(f"{c:.9g}f" for c in rounded))


def centre(v):  # (P(Z <= a) - 1/2) / a at v = a^2
    a = mp.sqrt(v)
    return (mp.ncdf(a) - mp.mpf(1) / 2) / a


def tail(t, p=mp.mpf("0.35")):  # P(Z > a) exp(a^2 / 2) / t at t = 1 / (1 + p a)
    a = (1 / t - 1) / p
    return mp.exp(a * a / 2) * mp.erfc(a / mp.sqrt(2)) / 2 / t


def erf_centre(v):  # erf(x) / x at v = x^2
    x = mp.sqrt(v)
    return mp.erf(x) / x


def tanh_rest(v):  # (tanh(a) / a - 1) / v at v = a^2
    a = mp.sqrt(v)
    return (mp.tanh(a) / a - 1) / v


def exp_rest(r):  # (exp(r) - 1 - r) / r^2
    return (mp.exp(r) - 1 - r) / r**2 if abs(r) > mp.mpf("1e-9") else mp.mpf(1) / 2


if __name__ == "__main__":
    fit("normal centre, v in (0, 2], less 1/4", centre, 1e-9, 2.0, 6, taken_out=0.25)
    fit("normal tail, a in [1.414, 14.5]", tail, 1 / (1 + 0.35 * 14.5), 1 / (1 + 0.35 * 1.414), 7)
    fit("erf centre, v in (0, 1], less 1", erf_centre, 1e-9, 1.0, 6, taken_out=1.0)
    fit("tanh, v in (0, 0.625^2]", tanh_rest, 1e-9, 0.625**2, 4)
    fit("exp, |r| <= ln(2) / 2", exp_rest, -float(mp.log(2)) / 2, float(mp.log(2)) / 2, 4)
