"""The program of the metric `external` in the tests, with nothing but Python's own library and what deploy/python has.

Phi is minus half the squared distance of the first and the last parameter of the weights' file from `centre`; their
elements weigh 1 in the first and 2 in the last. If the spec names a `parameter`, it is that one alone.
"""

import json
import math
import struct
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "deploy/python"))

from dpg.metric import serve

LETTERS = {"F32": "f", "F64": "d"}


def read(path):
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    header.pop("__metadata__", None)
    for name, tensor in sorted(header.items()):
        begin, end = tensor["data_offsets"]
        letter = LETTERS[tensor["dtype"]]
        count = (end - begin) // struct.calcsize(letter)
        yield name, tensor, struct.unpack(f"<{count}{letter}", data[begin:end])


def write(path, tensors):
    header, data = {}, b""
    for name, (tensor, numbers) in tensors.items():
        packed = struct.pack(f"<{len(numbers)}{LETTERS[tensor['dtype']]}", *numbers)
        offsets = [len(data), len(data) + len(packed)]
        header[name] = {"dtype": tensor["dtype"], "shape": tensor["shape"], "data_offsets": offsets}
        data += packed
    head = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head + data)


def start(folder, dtype, files):
    def measure(weights, gradient, parameters):
        centre = parameters["centre"]
        stored = list(read(weights))
        one = [entry for entry in stored if entry[0] == parameters.get("parameter")]
        value, slopes = 0.0, {}
        for weight, (name, tensor, numbers) in zip((1.0, 2.0), one or (stored[0], stored[-1])):
            away = [number - centre for number in numbers]
            value -= weight * math.fsum(x * x for x in away) / 2
            slopes[name] = tensor, [-weight * x for x in away]
        if gradient is not None:
            write(gradient, slopes)
        print("what is printed is not an answer")
        return value, {"distance": math.sqrt(-value)}

    return "quadratic 1", measure


serve(start)
