"""Translates PTX, as NVRTC writes it, to C++: a function a kernel, which runs one of its threads.

    python3 ptx.py kernel.ptx kernel.cpp
"""

import re
import sys

from instructions import translate
from machine import C_TYPES, SIZES, Kernel, Module, Unknown, bits_type, label, register, split, variable


def without_remarks(source):
    source = re.sub(r"/\*.*?\*/", "", source.rstrip("\0"), flags=re.S)
    source = re.sub(r"//[^\n]*", "", source)
    source = re.sub(r"^\s*\.(loc|file)\b[^\n]*$", "", source, flags=re.M)
    return re.sub(r"\.section\s+\.\w+\s*\{.*?\n\s*\}", "", source, flags=re.S)


def declaration(text):
    """Alignment, type, name, number of elements and initial values of a variable."""
    alignment = re.search(r"\.align\s+(\d+)", text)
    found = re.search(rf"\.({'|'.join(SIZES)})\s+([\w$%]+)((?:\[\d*\])*)\s*(?:=\s*(.*))?$", text, re.S)
    count = 1
    for size in re.findall(r"\[(\d*)\]", found[3]):
        count *= int(size or 0)
    return int(alignment[1]) if alignment else 1, found[1], found[2], count, found[4]


def aligned(offset, alignment):
    return -(-offset // alignment) * alignment


def add_shared(module, text):
    alignment, ptx_type, name, count, _ = declaration(text)
    if count == 0:
        module.dynamic = name
    elif name not in module.shared:
        offset = aligned(module.shared_bytes, alignment)
        module.shared[name], module.shared_bytes = offset, offset + count * SIZES[ptx_type]


def place_dynamic(module):
    """Dynamic shared memory lies after all other."""
    module.shared_bytes = aligned(module.shared_bytes, 16)
    if module.dynamic:
        module.shared[module.dynamic] = module.shared_bytes


def constant(module, text):
    _, ptx_type, name, count, initial = declaration(text)
    c_type = {"f32": "uint32_t", "f64": "uint64_t"}.get(ptx_type, C_TYPES[ptx_type])
    values = re.findall(r"0[fFdD][0-9A-Fa-f]+|-?0x[0-9A-Fa-f]+|-?\d+", initial or "")
    values = ["0x" + value[2:] if value[:2].lower() in ("0f", "0d") else value for value in values]
    module.constants[name] = c_type
    listed = ", ".join(f"({c_type}){value}" for value in values)
    return f"alignas(16) static {c_type} {variable(name)}[{max(count, 1)}] = {{ {listed} }};"


def variables(source, module):
    """Reads the variables outside of kernels; returns definitions of the constant ones."""
    lines = []
    for statement in source.split(";"):
        found = re.match(r"(?:.*\n)*?\s*((?:\.extern|\.visible|\.weak)\s+)*\.(shared|const|global)\s+(.*)$",
                         statement.strip(), re.S)
        if not found or "{" in statement.split("=")[0]:
            continue
        if found[2] == "shared":
            add_shared(module, found[3])
        else:
            lines.append(constant(module, found[3]))
    return lines


def statements(body):
    """Labels, braces of blocks, and statements."""
    part, depth = "", 0
    for character in body:
        if depth == 0 and character in "{}" and not part.strip():
            yield character
            part = ""
            continue
        depth += (character == "{") - (character == "}")
        part += character
        is_label = character == ":" and re.match(r"^\s*[\w$]+:$", part)
        if depth == 0 and (character == ";" or is_label):
            yield part.strip().rstrip(";").strip()
            part = ""


def declare_registers(kernel, statement, lines):
    ptx_type, names = re.match(r"\.reg\s+\.(\w+)\s+(.*)$", statement, re.S).groups()
    for listed in split(names):
        many = re.match(r"([%\w$]+)<(\d+)>$", listed)
        found = [f"{many[1]}{i}" for i in range(int(many[2]))] if many else [listed]
        kernel.registers |= dict.fromkeys(found, bits_type(ptx_type))
        lines.append(f"{bits_type(ptx_type)} {', '.join(map(register, found))};")


def declare_local(kernel, statement):
    alignment, ptx_type, name, count, _ = declaration(statement)
    kernel.locals.add(name)
    return f"alignas({max(alignment, 8)}) char {variable(name)}[{max(count, 1) * SIZES[ptx_type]}];"


def translate_kernel(module, name, parameters, body):
    kernel = Kernel(module)
    for i, parameter in enumerate(split(parameters)):
        kernel.parameters[re.search(r"([\w$]+)(\[\d+\])?\s*$", parameter)[1]] = i
    declared, depth = [], 0
    for statement in statements(body):
        if not statement:
            continue
        if statement in "{}":
            depth += 1 if statement == "{" else -1
            kernel.emit(statement)
        elif statement.endswith(":"):
            kernel.emit(f"{label(statement[:-1])}: ;")
        elif statement.startswith(".reg"):
            declare_registers(kernel, statement, kernel.lines if depth else declared)
        elif statement.startswith((".local", ".param")):
            declared.append(declare_local(kernel, statement))
        elif not statement.startswith("."):
            guard, operation, operands = re.match(r"(?:@(!?\s*[%\w$]+)\s+)?([\w.:]+)\s*(.*)$", statement, re.S).groups()
            if guard:
                kernel.emit(f"if ({'!' if guard[0] == '!' else ''}{register(guard.lstrip('! '))}) {{")
            translate(kernel, operation, split(operands))
            if guard:
                kernel.emit("}")
    yield f'extern "C" void run_{name}(Thread* t) {{'
    yield from declared
    yield from kernel.lines
    yield "}"
    yield f'extern "C" int waits_{name} = {int(kernel.waits)};'
    yield f'extern "C" uint32_t shared_{name} = {module.shared_bytes};'


def closing(source, start, pair):
    """Where the bracket that is open before `start` closes."""
    depth = 1
    while depth:
        depth += (source[start] == pair[0]) - (source[start] == pair[1])
        start += 1
    return start


def main(source):
    source = without_remarks(source)
    module = Module()
    entry = r"(?=(?:\.visible\s+|\.weak\s+|\.extern\s+)?\.(?:entry|func)\b)"
    yield '#include "kernel.h"'
    yield from variables(re.split(entry, source)[0], module)
    for found in re.finditer(r"\.entry\s+([\w$]+)\s*\(", source):
        end = closing(source, found.end(), "()")
        parameters = source[found.end():end - 1]
        start = source.index("{", end) + 1
        body = source[start:closing(source, start, "{}") - 1]
        shared = r"\.shared\s+(\.align[^;]*);"
        for inner in re.findall(shared, body):
            add_shared(module, inner)
        place_dynamic(module)
        yield from translate_kernel(module, found[1], parameters, re.sub(shared, "", body))


if __name__ == "__main__":
    try:
        text = "\n".join(main(open(sys.argv[1]).read()))
    except Unknown as error:
        sys.exit(f"not translated: {error}")
    open(sys.argv[2], "w").write(text + "\n")
