"""Instructions that the threads of a warp or a block run together, and copies that a barrier waits for."""

import re

from instructions import instruction
from machine import elements, register, split


@instruction("bar", "barrier")
def barrier(op):
    op.kernel.waits = True
    if op.has("warp"):
        op.emit("t->block->warp_barrier(t);")
    elif op.has("sync") and op.operands == ["0"]:
        op.emit("t->block->barrier(t);")
    else:
        raise op.unknown()


def show(op, value):
    """Shows a value to the other lanes of the warp; `done` follows when they have seen it."""
    op.kernel.waits = True
    op.emit(f"t->block->slots[t->warp][t->lane] = (uint64_t)({value}); t->block->warp_barrier(t);")


def done(op):
    op.emit("t->block->warp_barrier(t);")


# where a lane reads, and whether there is such a lane
SHUFFLES = {
    "bfly": "from = lane ^ by; inside = from <= last;",
    "idx": "from = first | (by & ~segment); inside = from <= last;",
    "up": "from = lane - by; inside = from >= last;",
    "down": "from = lane + by; inside = from <= last;",
}


@instruction("shfl")
def shuffle(op):
    value, by, clamp = op.read(1, "b32"), op.read(2, "u32"), op.read(3, "u32")
    show(op, value)
    op.emit(f"{{ int limits = {clamp}, by = ({by}) & 31, segment = (limits >> 8) & 31, lane = t->lane;")
    op.emit("int first = lane & segment, last = first | ((limits & 31) & ~segment), from; bool inside;")
    op.emit(SHUFFLES[op.has(*SHUFFLES)])
    op.emit("uint32_t found = (uint32_t)t->block->slots[t->warp][inside ? from : lane];")
    for into, ptx_type, found in zip(op.operands[0].split("|"), ("b32", "pred"), ("found", "inside")):
        op.kernel.write(into, ptx_type, found)
    op.emit("}")
    done(op)


@instruction("vote")
def vote(op):
    show(op, op.read(1, "pred"))
    op.emit("{ uint32_t count = t->block->threads - 32u * t->warp, all = count >= 32 ? ~0u : (1u << count) - 1, yes = 0;")
    op.emit("for (uint32_t i = 0; i < 32; i++) if (all >> i & 1 && t->block->slots[t->warp][i]) yes |= 1u << i;")
    if op.has("ballot"):
        op.write("yes", "b32")
    else:
        answers = {"all": "yes == all", "any": "yes != 0", "uni": "yes == all || yes == 0"}
        op.write(answers[op.has(*answers)], "pred")
    op.emit("}")
    done(op)


@instruction("activemask")
def active_mask(op):
    op.write("~0u", "b32")


@instruction("elect")
def elect(op):
    into = op.operands[0].split("|")
    op.kernel.write(into[0], "b32", "0u")
    op.kernel.write(into[1], "pred", "t->lane == 0")


@instruction("ldmatrix")
def load_matrices(op):
    if "m8n8" not in op.words or not op.has("b16"):
        raise op.unknown()
    op.kernel.waits = True
    into = elements(op.operands[0])
    op.emit(f"{{ uint32_t out[{len(into)}];")
    transposed = "true" if op.has("trans") else "false"
    op.emit(f"load_matrices(t, {op.address(1)}, {len(into)}, {transposed}, out);")
    for i, name in enumerate(into):
        op.emit(f"{register(name)} = out[{i}];")
    op.emit("}")


def kind_of(op):
    """What the operands of a product on tensor cores are rounded to."""
    kind = op.has("tf32", "bf16", "f16")
    if kind is None:
        raise op.unknown()
    return kind


@instruction("mma")
def multiply(op):
    sizes = re.search(r"\.m16n8k(\d+)\.row\.col\.f32\.", op.text)
    if not sizes:
        raise op.unknown()
    op.kernel.waits = True
    d, a, b, c = (elements(operand) for operand in op.operands)
    op.emit("{ const uint32_t a[] = {%s}, b[] = {%s};" % tuple(", ".join(map(register, part)) for part in (a, b)))
    op.emit("const float c[] = {%s}; float d[4];" % ", ".join(op.kernel.read(part, "f32") for part in c))
    op.emit(f"multiply<{sizes[1]}, {kind_of(op).upper()}>(t, a, b, c, d);")
    for i, name in enumerate(d):
        op.emit(f"{register(name)} = bits(d[{i}]);")
    op.emit("}")


@instruction("wmma")
def matrices(op):
    """The layout of these fragments is the implementation's own: element `e` lies in lane `e % 32`."""
    m, n, k = map(int, re.search(r"\.m(\d+)n(\d+)k(\d+)", op.text).groups())
    if op.has("mma"):
        multiply_fragments(op, m, n, k)
        return
    is_load = op.has("load")
    which = op.words[2]
    rows, columns = {"a": (m, k), "b": (k, n), "c": (m, n), "d": (m, n)}[which]
    is_row = op.has("row")
    is_half = op.has("f16", "bf16")
    if is_half and which in "cd":
        raise op.unknown()
    fragment = elements(op.operands[0 if is_load else 1])
    per = 2 if is_half else 1
    stride = op.read(2, "u32") if len(op.operands) > 2 else str(columns if is_row else rows)
    op.emit(f"{{ char* base = {op.address(1 if is_load else 0)}; uint64_t stride = {stride};")
    op.emit(f"auto place = [&](uint32_t e) {{ uint64_t row = e / {columns}, column = e % {columns};")
    op.emit(f"return base + {4 // per} * ({'row * stride + column' if is_row else 'column * stride + row'}); }};")
    for i, name in enumerate(fragment):
        if not is_load:
            op.emit(f"store<uint32_t>(place({i * 32} + t->lane), {register(name)});")
            continue
        halves = [f"load<uint{32 // per}_t>(place({(i * per + h) * 32} + t->lane))" for h in range(per)]
        op.emit(f"{register(name)} = {' | '.join(f'(uint32_t){half} << {16 * h}' for h, half in enumerate(halves))};")
    op.emit("}")


def multiply_fragments(op, m, n, k):
    kind = kind_of(op)
    d, a, b, c = (elements(operand) for operand in op.operands)
    if len(d) != m * n // 32:
        raise op.unknown()
    op.kernel.waits = True
    op.emit("{ auto& parts = t->block->fragments[t->warp];")
    for i, name in enumerate(a):
        op.emit(f"parts[t->lane][{i}] = {register(name)};")
    for i, name in enumerate(b):
        op.emit(f"parts[t->lane][{16 + i}] = {register(name)};")
    done(op)
    if kind == "tf32":
        op.emit("auto element = [&](uint32_t e, uint32_t base) { return from_tf32(parts[e % 32][base + e / 32]); };")
    else:
        op.emit("auto element = [&](uint32_t e, uint32_t base) {")
        op.emit(f"return from_{kind}((uint16_t)(parts[e % 32][base + e / 64] >> 16 * (e / 32 & 1))); }};")
    for i, name in enumerate(d):
        op.emit(f"{{ uint32_t e = {i * 32} + t->lane, row = e / {n}, column = e % {n};")
        op.emit(f"float sum = {op.kernel.read(c[i], 'f32')};")
        op.emit(f"for (uint32_t i = 0; i < {k}; i++) sum += element(row * {k} + i, 0) * element(i * {n} + column, 16);")
        op.emit(f"{register(name)} = bits(sum); }}")
    done(op)
    op.emit("}")


@instruction("mbarrier")
def memory_barrier(op):
    op.kernel.waits = True
    what = op.words[1]
    at = op.kernel.address(op.operands[0 if what in ("init", "inval") else 1], "shared")
    if what == "init":
        count = op.read(1, "u32")
        op.emit(f"*(Mbarrier*){at} = Mbarrier{{0, {count}, {count}, 0}};")
    elif what == "inval":
        pass
    elif what == "arrive":
        expected = op.read(2, "u32") if op.has("expect_tx") else "0"
        op.emit(f"{{ uint64_t phase = arrive(t, {at}, {expected});")
        op.kernel.write(op.operands[0], "b64", "phase")
        op.emit("}")
    elif what in ("try_wait", "test_wait"):
        # a state is the phase that the thread arrived in
        op.write(f"is_over(t, {at}, {op.read(2, 'b32' if op.has('parity') else 'b64')})", "pred")
    else:
        raise op.unknown()


@instruction("cp")
def copy(op):
    if op.has("commit_group", "wait_group", "wait_all"):
        return  # a copy is over when it was begun
    if op.has("mbarrier"):
        # without `noinc` one more arrival was expected, and this is it
        if op.has("noinc"):
            op.kernel.waits = True
            op.emit(f"arrive(t, {op.kernel.address(op.operands[0], 'shared')}, 0);")
    elif op.has("bulk"):
        copy_box(op)
    elif op.has("ca", "cg"):
        copy_bytes(op)
    else:
        raise op.unknown()


def copy_bytes(op):
    """Some bytes of global memory into shared, and zeros up to the size."""
    size = op.read(2, "u32")
    given = op.read(3, "u32") if len(op.operands) > 3 else size
    to, source = op.kernel.address(op.operands[0], "shared"), op.kernel.address(op.operands[1], "global")
    op.emit(f"{{ char* to = {to}; memset(to, 0, {size}); memcpy(to, {source}, {given}); }}")


def copy_box(op):
    if not op.text.startswith("cp.async.bulk.tensor.") or op.words[5] != "shared::cluster" or not op.has("tile"):
        raise op.unknown()
    op.kernel.waits = True
    to, source, barrier = op.operands[:3]
    tensor_map, corner = split(source.strip()[1:-1])
    corner = ", ".join(op.kernel.read(place, "s32") for place in elements(corner))
    to = op.kernel.address(to, "shared")
    op.emit(f"{{ const int32_t corner[] = {{{corner}}};")
    op.emit(f"copy_box(t, (uint32_t)({to} - t->block->shared), (const TensorMap*){op.kernel.read(tensor_map, 'b64')},")
    op.emit(f"corner, {op.kernel.address(barrier, 'shared')}); }}")
