"""Philox4x32-10 and minibert's dropout masks in NumPy, written from the text of core/random.h alone.

Used by the goldens scripts: PyTorch applies the masks computed here, so that a test of minibert's gradients under dropout
compares two independent implementations of the counter's layout. Check of the generator itself: the known answers of the Random123
distribution at the end (python tools/goldens/philox.py).
"""

import numpy as np

EMBEDDING, ATTENTION, ATTENTION_OUTPUT, FEED_FORWARD = 0, 1, 2, 3  # purposes
LOW = np.uint64(0xFFFFFFFF)


def philox4x32(counter, seed):
    """counter: four arrays (broadcast together) of 32-bit words; returns four arrays of 32-bit words."""
    c = [np.asarray(word, dtype=np.uint64) for word in np.broadcast_arrays(*counter)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [
            (product1 >> np.uint64(32)) ^ c[1] ^ np.uint64(key[0]),
            product1 & LOW,
            (product0 >> np.uint64(32)) ^ c[3] ^ np.uint64(key[1]),
            product0 & LOW,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def threshold(p):
    return int(np.floor(float(np.float32(p)) * 65536 + 0.5))


def scale(p):
    return 65536.0 / (65536 - threshold(p))


def word3(data_step, layer, purpose):
    return (data_step << 10) | (layer << 4) | purpose


def keeps(outputs, which, p):
    """Mask of the elements whose output number is `which` (an array), scaled: 0 or scale(p)."""
    chosen = np.choose(which, outputs)
    return np.where((chosen >> np.uint64(16)) >= threshold(p), scale(p), 0.0)


def hidden_mask(p, seed, data_step, layer, purpose, sample, length, hidden_size):
    """[length, hidden_size] factors of one sequence's hidden rows."""
    position, column = np.mgrid[0:length, 0:hidden_size]
    outputs = philox4x32([column // 4, position, sample, word3(data_step, layer, purpose)], seed)
    return keeps(outputs, column % 4, p)


def attention_mask(p, seed, data_step, layer, sample, heads, length):
    """[heads, length, length] factors of one sequence's attention probabilities (head, query, key)."""
    head, query, key = np.mgrid[0:heads, 0:length, 0:length]
    outputs = philox4x32([key // 2, (query & ~8) | (head << 16), sample, word3(data_step, layer, ATTENTION)], seed)
    return keeps(outputs, ((query >> 3) & 1) * 2 + (key & 1), p)


if __name__ == "__main__":
    # Random123 1.14, kat_vectors, philox4x32 10.
    known = [
        ([0, 0, 0, 0], 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, 0xFFFFFFFFFFFFFFFF, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            0x299F31D0A4093822,
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ]
    for counter, seed, expected in known:
        assert [int(word) for word in philox4x32(counter, seed)] == expected, (counter, seed)
    print("philox4x32-10: 3 known answers agree")
