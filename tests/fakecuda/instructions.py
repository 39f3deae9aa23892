"""Instructions of one thread. Those that the threads of a warp or a block run together are in together.py."""

from machine import C_TYPES, HALVES, SIZES, SPACES, Unknown, bits_type, elements, label

FLOATS = ("f32", "f64")
ALL_FLOATS = (*FLOATS, *HALVES, "f16x2", "bf16x2")
TABLE = {}


def instruction(*names):
    """Enters a translation under the first words of operations."""
    def enter(function):
        TABLE.update(dict.fromkeys(names, function))
        return function
    return enter


class Operation:
    """An instruction: its words, the last type among them, and its operands."""

    def __init__(self, kernel, text, operands):
        self.kernel, self.text, self.operands = kernel, text, operands
        self.words = text.split(".")
        self.name = self.words[0]
        self.types = [word for word in self.words if word in SIZES]
        self.type = self.types[-1] if self.types else None
        spaces = [word.split("::")[0] for word in self.words[1:]]
        self.space = next((space for space in spaces if space in SPACES), "generic")

    def has(self, *words):
        """The first of the words that is in the operation."""
        return next((word for word in self.words if word in words), None)

    def read(self, i, ptx_type=None):
        return self.kernel.read(self.operands[i], ptx_type or self.type)

    def write(self, expression, ptx_type=None, i=0):
        self.kernel.write(self.operands[i], ptx_type or self.type, expression)

    def address(self, i):
        return self.kernel.address(self.operands[i], self.space)

    def emit(self, line):
        self.kernel.emit(line)

    def unknown(self):
        return Unknown(f"{self.text} {', '.join(self.operands)}")

    def compute(self, formula, count):
        """Writes a formula of the next `count` operands; halves are computed in f32, and pairs each by itself."""
        if self.type in HALVES:
            load, store = HALVES[self.type]
            self.write(f"{store}({formula(*[f'{load}({self.read(i + 1)})' for i in range(count)])})")
        elif self.type in ("f16x2", "bf16x2"):
            load, store = HALVES[self.type[:-2]]
            half = [
                f"(uint32_t){store}("
                + formula(*[f"{load}((uint16_t)({self.read(i + 1)} >> {by}))" for i in range(count)]) + ")"
                for by in (0, 16)
            ]
            self.write(f"{half[0]} | ({half[1]} << 16)")
        else:
            self.write(formula(*[self.read(i + 1) for i in range(count)]))


def translate(kernel, text, operands):
    op = Operation(kernel, text, operands)
    if op.name not in TABLE:
        raise op.unknown()
    TABLE[op.name](op)


@instruction("membar", "fence", "prefetch", "prefetchu", "discard", "applypriority", "griddepcontrol", "nanosleep")
def nothing(_):
    """Memory is in order here."""


@instruction("ret", "exit")
def leave(op):
    op.emit("return;")


@instruction("bra")
def branch(op):
    op.emit(f"goto {label(op.operands[0])};")


@instruction("trap")
def trap(op):
    op.emit('fprintf(stderr, "fake driver: trap\\n"); abort();')


@instruction("mov")
def move(op):
    op.write(op.read(1))


@instruction("ld", "ldu")
def load(op):
    op.emit(f"{{ char* from = {op.address(1)};")
    into = elements(op.operands[0]) if op.operands[0].startswith("{") else op.operands[:1]
    for i, register in enumerate(into):
        op.kernel.write(register, op.type, f"load<{C_TYPES[op.type]}>(from + {i * SIZES[op.type]})")
    op.emit("}")


@instruction("st")
def store(op):
    is_vector = op.has("v2", "v4", "v8")
    values = elements(op.operands[1]) if is_vector else op.operands[1:2]
    op.emit(f"{{ char* to = {op.address(0)};")
    for i, value in enumerate(values):
        value = op.kernel.read(value, op.type)
        op.emit(f"store<{C_TYPES[op.type]}>(to + {i * SIZES[op.type]}, {value});")
    op.emit("}")


@instruction("cvta")
def convert_address(op):
    value, parameters = op.read(1), op.kernel.parameters
    if op.space == "shared":
        op.write(f"({value} {'-' if op.has('to') else '+'} (uint64_t)(uintptr_t)t->block->shared)")
    else:
        # a parameter is read where it lies, and other spaces have the host's addresses
        op.write(value if op.operands[1] not in parameters else f"(uint64_t){value}")


COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
               "lo": "<", "ls": "<=", "hi": ">", "hs": ">="}


@instruction("setp", "set")
def compare(op):
    how, joined = op.words[1], op.has("and", "or", "xor")
    a, b = op.read(1), op.read(2)
    if op.type in HALVES:
        a, b = f"{HALVES[op.type][0]}({a})", f"{HALVES[op.type][0]}({b})"
    is_float = op.type in ALL_FLOATS
    unordered = f"({a} != {a} || {b} != {b})"
    if how in ("num", "nan"):
        holds = unordered if how == "nan" else f"(!{unordered})"
    elif is_float and how.endswith("u") and how[:-1] in COMPARISONS:
        holds = f"({unordered} || {a} {COMPARISONS[how[:-1]]} {b})"
    elif is_float and how == "ne":
        holds = f"(!{unordered} && {a} != {b})"
    else:
        holds = f"({a} {COMPARISONS[how]} {b})"
    fails = f"(!{holds})"
    if joined:
        other, sign = op.read(3, "pred"), {"and": "&&", "or": "||", "xor": "!="}[joined]
        holds, fails = f"({holds} {sign} {other})", f"({fails} {sign} {other})"
    if op.name == "set":
        op.write(f"{holds} ? 1.0f : 0.0f" if op.types[0] == "f32" else f"{holds} ? ~0u : 0u", op.types[0])
        return
    into = op.operands[0].split("|")
    op.emit(f"{{ bool holds = {holds}, fails = {fails};")
    for register, value in zip(into, ("holds", "fails")):
        op.kernel.write(register, "pred", value)
    op.emit("}")


@instruction("selp")
def select(op):
    op.write(f"{op.read(3, 'pred')} ? {op.read(1)} : {op.read(2)}")


@instruction("slct")
def select_by_sign(op):
    to, by = op.types[0], op.types[-1]
    op.write(f"({op.read(3, by)} >= 0) ? {op.read(1, to)} : {op.read(2, to)}", to)


@instruction("cvt")
def convert(op):
    to, by = op.types[0], op.types[-1]
    if to in ("f16x2", "bf16x2"):
        half = HALVES[to[:-2]][1]
        op.write(f"((uint32_t){half}({op.read(1, by)}) << 16) | (uint32_t){half}({op.read(2, by)})", to)
        return
    value = op.read(1, by)
    if by in HALVES:
        value = f"{HALVES[by][0]}({value})"
    rounding = op.has("rni", "rzi", "rmi", "rpi")
    if by in ALL_FLOATS and rounding:
        function = {"rni": "rint", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}[rounding]
        value = f"std::{function}({value})"
    if op.has("sat"):
        value = f"least(1.0f, most(0.0f, (float)({value})))"
    if to in HALVES:
        value = f"{HALVES[to][1]}((float)({value}))"
    elif to not in FLOATS and by in ALL_FLOATS:
        value = f"to_integer<{C_TYPES[to]}>({value})"
    elif op.has("rz") and by == "f64":
        raise op.unknown()
    op.write(value, to)


@instruction("neg")
def negate(op):
    op.compute(lambda a: f"(-({a}))" if op.type in ALL_FLOATS else f"(0 - {a})", 1)


@instruction("abs")
def absolute(op):
    op.compute(lambda a: f"std::fabs({a})" if op.type in ALL_FLOATS else f"({a} < 0 ? 0 - {a} : {a})", 1)


@instruction("not")
def complement(op):
    op.write(("!" if op.type == "pred" else "~") + op.read(1))


@instruction("and", "or", "xor")
def bitwise(op):
    op.write(f"{op.read(1)} {({'and': '&', 'or': '|', 'xor': '^'})[op.name]} {op.read(2)}")


@instruction("shl", "shr")
def shift(op):
    side = {"shl": "left", "shr": "right"}[op.name]
    op.write(f"shift_{side}<{C_TYPES[op.type]}>({op.read(1)}, {op.read(2, 'u32')})")


@instruction("shf")
def funnel_shift(op):
    low, high, by = (op.read(i, "u32") for i in (1, 2, 3))
    by = f"(({by}) & 31)" if op.has("wrap") else f"(({by}) > 32 ? 32 : ({by}))"
    both = f"(((uint64_t){high} << 32) | {low})"
    op.write(f"(uint32_t)(({both} << {by}) >> 32)" if op.has("l") else f"(uint32_t)({both} >> {by})", "b32")


def limited(op, value):
    return f"least(1.0f, most(0.0f, {value}))" if op.has("sat") and op.type == "f32" else value


def wide(op):
    """The type of twice the width."""
    return op.type[0] + str(2 * int(op.type[1:]))


def unsigned(op):
    """Integers wrap around; that of signed ones is not defined in C++."""
    return C_TYPES["u" + op.type[1:]]


@instruction("add", "sub")
def add(op):
    sign = {"add": "+", "sub": "-"}[op.name]
    if op.type in ALL_FLOATS:
        op.compute(lambda a, b: limited(op, f"({a} {sign} {b})"), 2)
    else:
        op.write(f"({unsigned(op)})({op.read(1)}) {sign} ({unsigned(op)})({op.read(2)})")


@instruction("mul", "mad")
def multiply(op):
    is_sum = op.name == "mad"
    if op.type in ALL_FLOATS:
        if is_sum:
            op.write(f"std::fma({op.read(1)}, {op.read(2)}, {op.read(3)})")
        else:
            op.compute(lambda a, b: limited(op, f"({a} * {b})"), 2)
        return
    added = f" + {op.read(3, wide(op) if op.has('wide') else op.type)}" if is_sum else ""
    if op.has("wide"):
        c_type = C_TYPES[wide(op)]
        op.write(f"({c_type}){op.read(1)} * ({c_type}){op.read(2)}{added}", wide(op))
    elif op.has("hi") and op.type in ("u64", "s64"):
        op.write(f"high_{op.type}({op.read(1)}, {op.read(2)}){added}")
    elif op.has("hi"):
        c_type = C_TYPES[op.type[0] + "64"]
        op.write(f"((({c_type}){op.read(1)} * ({c_type}){op.read(2)}) >> {op.type[1:]}){added}")
    else:
        u = unsigned(op)
        op.write(f"({u})({op.read(1)}) * ({u})({op.read(2)}){added}")


@instruction("fma")
def fused(op):
    if op.has("relu"):
        raise op.unknown()
    op.compute(lambda a, b, c: limited(op, f"std::fma({a}, {b}, {c})"), 3)


@instruction("div", "rem")
def divide(op):
    if op.type in ALL_FLOATS:
        op.compute(lambda a, b: f"({a} / {b})", 2)
        return
    by_zero = f"({C_TYPES[op.type]})-1" if op.name == "div" else op.read(1)
    sign = {"div": "/", "rem": "%"}[op.name]
    op.write(f"{op.read(2)} == 0 ? {by_zero} : ({C_TYPES[op.type]})({op.read(1)} {sign} {op.read(2)})")


@instruction("min", "max")
def extreme(op):
    if op.type in ALL_FLOATS:
        op.compute(lambda a, b: f"{'least' if op.name == 'min' else 'most'}({a}, {b})", 2)
    else:
        a, b = op.read(1), op.read(2)
        op.write(f"({a} {'<' if op.name == 'min' else '>'} {b}) ? {a} : {b}")


FUNCTIONS = {
    "rcp": "(1 / ({}))", "sqrt": "std::sqrt({})", "rsqrt": "(1 / std::sqrt({}))", "ex2": "std::exp2({})",
    "lg2": "std::log2({})", "sin": "std::sin({})", "cos": "std::cos({})", "tanh": "approximate_tanh({})",
}


@instruction(*FUNCTIONS)
def function(op):
    op.compute(FUNCTIONS[op.name].format, 1)


@instruction("copysign")
def copy_sign(op):
    op.write(f"std::copysign({op.read(2)}, {op.read(1)})")


@instruction("testp")
def test(op):
    name = {"finite": "std::isfinite", "infinite": "std::isinf", "notanumber": "std::isnan",
            "number": "!std::isnan", "normal": "std::isnormal"}[op.words[1]]
    op.write(f"{name}({op.read(1)})", "pred")


@instruction("bfe")
def extract(op):
    if op.type != "u32":
        raise op.unknown()
    op.write(f"extract_u32({op.read(1)}, {op.read(2)}, {op.read(3)})")


@instruction("bfi")
def insert(op):
    c_type = bits_type(op.type)
    op.write(f"insert<{c_type}>({op.read(1)}, {op.read(2)}, {op.read(3, 'u32')}, {op.read(4, 'u32')})")


@instruction("prmt", "lop3")
def by_table(op):
    if len(op.words) > 2:
        raise op.unknown()
    name = {"prmt": "permute", "lop3": "logic3"}[op.name]
    op.write(f"{name}({', '.join(op.read(i, 'b32') for i in range(1, len(op.operands)))})", "b32")


@instruction("popc")
def count_ones(op):
    op.write(f"__builtin_popcountll({op.read(1)})", "u32")


@instruction("clz")
def leading_zeros(op):
    counted = "__builtin_clz" if SIZES[op.type] == 4 else "__builtin_clzll"
    op.write(f"({op.read(1)}) == 0 ? {8 * SIZES[op.type]} : {counted}({op.read(1)})", "u32")


@instruction("bfind")
def highest_one(op):
    if op.type != "u32" or op.has("shiftamt"):
        raise op.unknown()
    op.write(f"({op.read(1)}) == 0 ? -1 : 31 - __builtin_clz({op.read(1)})", "u32")


@instruction("brev")
def reverse(op):
    op.write(f"reverse({op.read(1)})", "b32")


@instruction("atom", "red")
def atomic(op):
    operands = op.operands if op.name == "red" else op.operands[1:]
    how = op.has("add", "min", "max", "and", "or", "xor", "exch", "cas")
    if op.type not in (*FLOATS, "u32", "s32", "b32", "u64", "s64", "b64") or how is None:
        raise op.unknown()
    if op.type in FLOATS and how not in ("add", "min", "max", "exch"):
        raise op.unknown()
    c_type, value = C_TYPES[op.type], op.kernel.read(operands[1], op.type)
    op.emit(f"{{ char* at = {op.kernel.address(operands[0], op.space)};")
    op.emit("while (__atomic_exchange_n(t->block->lock, 1, __ATOMIC_ACQUIRE)) {}")
    op.emit(f"{c_type} old = load<{c_type}>(at);")
    new = {
        "add": f"old + {value}",
        "min": f"old < {value} ? old : {value}",
        "max": f"old > {value} ? old : {value}",
        "and": f"old & {value}",
        "or": f"old | {value}",
        "xor": f"old ^ {value}",
        "exch": value,
        "cas": f"old == {value} ? {op.kernel.read(operands[-1], op.type)} : old",
    }[how]
    op.emit(f"store<{c_type}>(at, ({c_type})({new}));")
    op.emit("__atomic_store_n(t->block->lock, 0, __ATOMIC_RELEASE);")
    if op.name == "atom":
        op.write("old")
    op.emit("}")


import together  # noqa: E402, F401  (enters its instructions into the table)
