"""Instructions that the threads of a warp or a block run together."""

from instructions import instruction


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
