"""What a translated kernel has: registers, parameters, memory, and C++ that reads and writes them.

A register is an unsigned integer of its width, whatever it holds; an instruction's type says how it is read."""

import re

SIZES = {
    "pred": 1, "b8": 1, "u8": 1, "s8": 1,
    "b16": 2, "u16": 2, "s16": 2, "f16": 2, "bf16": 2,
    "b32": 4, "u32": 4, "s32": 4, "f32": 4, "f16x2": 4, "bf16x2": 4,
    "b64": 8, "u64": 8, "s64": 8, "f64": 8,
}
# what an instruction of the type computes with; halves are kept as bits
C_TYPES = {"pred": "bool", "f32": "float", "f64": "double"}
for name, size in SIZES.items():
    C_TYPES.setdefault(name, f"{'' if name[0] == 's' else 'u'}int{8 * size}_t")
HALVES = {"f16": ("from_f16", "to_f16"), "bf16": ("from_bf16", "to_bf16")}
SPACES = ("global", "shared", "local", "const", "param")
SPECIAL = {
    "%laneid": "t->lane",
    "%warpid": "t->warp",
    "%lanemask_lt": "((1u<<t->lane)-1)",
    "%lanemask_le": "((2u<<t->lane)-1)",
    "%lanemask_eq": "(1u<<t->lane)",
    "WARP_SZ": "32u",
    "%dynamic_smem_size": "t->block->dynamic_shared",
}
for i, axis in enumerate("xyz"):
    SPECIAL |= {
        f"%tid.{axis}": f"t->index[{i}]",
        f"%ntid.{axis}": f"t->block->size[{i}]",
        f"%ctaid.{axis}": f"t->block->index[{i}]",
        f"%nctaid.{axis}": f"t->block->grid[{i}]",
    }


class Unknown(Exception):
    """Something that is not translated."""


def bits_type(ptx_type):
    """The C++ type of a register of a type."""
    return "bool" if ptx_type == "pred" else f"uint{8 * SIZES[ptx_type]}_t"


def name_of(prefix, name):
    return prefix + re.sub(r"\W", "_", name.lstrip("%"))


def register(name):
    return name_of("r_", name)


def variable(name):
    return name_of("v_", name)


def label(name):
    return name_of("L_", name)


def split(text):
    """The operands of a list with commas, of which some are lists in brackets."""
    parts, depth, part = [], 0, ""
    for character in text:
        depth += (character in "{[(") - (character in "}])")
        if character == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += character
    return parts + [part.strip()] if part.strip() else parts


def elements(operand):
    """`{a, b}` as a list."""
    return split(operand[1:-1])


class Module:
    """Variables outside of kernels."""

    def __init__(self):
        # name to offset, of shared memory; name to C++ type, of constants
        self.shared, self.shared_bytes, self.dynamic = {}, 0, None
        self.constants = {}


class Kernel:
    """One kernel while it is translated."""

    def __init__(self, module):
        self.module = module
        self.registers, self.parameters, self.locals = {}, {}, set()
        self.waits = False
        self.lines = []

    def emit(self, line):
        self.lines.append(line)

    def read(self, operand, ptx_type):
        """A C++ expression of an operand, read as a type."""
        c_type, shared = C_TYPES[ptx_type], self.module.shared
        if operand.startswith("!"):
            return f"(!{self.read(operand[1:], ptx_type)})"
        if re.match(r"-%", operand):
            return f"(-{self.read(operand[1:], ptx_type)})"
        if found := re.match(r"0[fF]([0-9A-Fa-f]{8})$", operand):
            return f"f32(0x{found[1]}u)" if ptx_type == "f32" else f"(uint32_t)0x{found[1]}u"
        if found := re.match(r"0[dD]([0-9A-Fa-f]{16})$", operand):
            return f"f64(0x{found[1]}ull)" if ptx_type == "f64" else f"(uint64_t)0x{found[1]}ull"
        if re.match(r"-?(0x[0-9A-Fa-f]+|\d+)[uU]?$", operand):
            number = operand.rstrip("uU") + ("ll" if operand.startswith("-") else "ull")
            if ptx_type in ("f32", "f64"):
                return f"{ptx_type}({number})"
            return f"({c_type}){number}"
        if operand in SPECIAL:
            return f"(({c_type}){SPECIAL[operand]})"
        if operand.startswith("{"):
            parts = elements(operand)
            width = SIZES[ptx_type] * 8 // len(parts)
            whole = f"uint{SIZES[ptx_type] * 8}_t"
            shifted = [f"(({whole})({self.read(p, f'b{width}')}) << {width * i})" for i, p in enumerate(parts)]
            return f"as<{c_type}>(({whole})({' | '.join(shifted)}))"
        if operand in self.registers:
            return f"as<{c_type}>({register(operand)})"
        if operand in shared:
            return f"({c_type}){shared[operand]}ull"
        if operand in self.locals or operand in self.module.constants:
            return f"({c_type})(uintptr_t){variable(operand)}"
        if operand in self.parameters:
            return f"({c_type})(uintptr_t)t->block->parameters[{self.parameters[operand]}]"
        raise Unknown(f"operand {operand} as {ptx_type}")

    def write(self, destination, ptx_type, expression):
        """Emits what writes an expression to a register, or to a list of them."""
        if destination == "_":
            return
        if destination.startswith("{"):
            parts = elements(destination)
            width = SIZES[ptx_type] * 8 // len(parts)
            self.emit(f"{{ auto whole = as<{bits_type(ptx_type)}>(({C_TYPES[ptx_type]})({expression}));")
            for i, part in enumerate(parts):
                if part != "_":
                    self.emit(f"{register(part)} = (uint{width}_t)(whole >> {width * i});")
            self.emit("}")
            return
        if destination not in self.registers:
            raise Unknown(f"register {destination}")
        if ptx_type in ("f32", "f64"):
            self.emit(f"{register(destination)} = bits(({C_TYPES[ptx_type]})({expression}));")
        else:
            self.emit(f"{register(destination)} = ({self.registers[destination]})({C_TYPES[ptx_type]})({expression});")

    def address(self, operand, space):
        """A pointer to what `[base + offset]` is in a space of memory."""
        found = re.match(r"\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\w+))?\s*\]$", operand)
        if not found:
            raise Unknown(f"address {operand}")
        base, offset = found[1], found[2] or "0"
        if space == "param" and base in self.parameters:
            return f"((char*)t->block->parameters[{self.parameters[base]}] + ({offset}))"
        if base in self.module.shared:
            return f"(t->block->shared + {self.module.shared[base]} + ({offset}))"
        if base in self.locals or base in self.module.constants:
            return f"((char*){variable(base)} + ({offset}))"
        if base not in self.registers and not base.isdigit():
            raise Unknown(f"address {operand}")
        value = base if base.isdigit() else register(base)
        if space == "shared":
            return f"(t->block->shared + (int32_t)((uint32_t){value} + (uint32_t)({offset})))"
        return f"((char*)(uint64_t){value} + (int64_t)({offset}))"
