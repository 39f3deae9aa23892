"""The program of the metric `external` in the tests, with nothing but Python's own library.

Phi is minus half the squared distance of the first and the last parameter of the weights' file from `centre`; their
elements weigh 1 in the first and 2 in the last.
"""

import json
import math
import struct
import sys

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


def answer(**said):
    print(json.dumps(said), flush=True)


greeting = json.loads(sys.stdin.readline())
assert greeting["dpg"] == 1, greeting
answer(dpg=1, version="quadratic 1")
for line in sys.stdin:
    asked = json.loads(line)
    centre = asked["parameters"]["centre"]
    parameters = list(read(asked["weights"]))
    value, gradient = 0.0, {}
    for weight, (name, tensor, numbers) in ((1.0, parameters[0]), (2.0, parameters[-1])):
        away = [number - centre for number in numbers]
        value -= weight * math.fsum(x * x for x in away) / 2
        gradient[name] = tensor, [-weight * x for x in away]
    if asked["gradient"]:
        write(asked["gradient"], gradient)
    answer(id=asked["id"], value=value, proxies={"distance": math.sqrt(-value)})
