"""Instructions of the emulation against plain Python: . FOLDER/env && python3 test.py

Each kernel is compiled by NVRTC and run by the fake driver."""

import ctypes
import os
import random
import struct
import unittest

LIBRARIES = os.path.join(os.environ["CUDA_PATH"], "lib")
cuda = ctypes.CDLL(os.path.join(LIBRARIES, "libcuda.so"))
nvrtc = ctypes.CDLL(os.path.join(LIBRARIES, "libnvrtc.so"))


def check(result):
    assert result == 0, f"error {result}"


def compiled(source):
    """The function `f` of a CUDA C source."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"f.cu", 0, None, None))
    options = [b"--gpu-architecture=sm_90a", f"-I{os.environ['CUDA_PATH']}/include".encode()]
    result = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    if result:
        check(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
        log = ctypes.create_string_buffer(size.value)
        check(nvrtc.nvrtcGetProgramLog(program, log))
        raise AssertionError(log.value.decode())
    check(nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size)))
    ptx = ctypes.create_string_buffer(size.value)
    check(nvrtc.nvrtcGetPTX(program, ptx))
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    check(cuda.cuModuleLoadData(ctypes.byref(module), ptx))
    check(cuda.cuModuleGetFunction(ctypes.byref(function), module, b"f"))
    return function


def run(source, threads, *arguments, shared=0):
    """Runs `f` on one block; arguments are arrays of ctypes, which it reads and writes in place."""
    values = [a if isinstance(a, TensorMap) else ctypes.c_void_p(ctypes.addressof(a)) for a in arguments]
    pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
    check(cuda.cuLaunchKernel(compiled(source), 1, 1, 1, threads, 1, 1, shared, None, pointers, None))


class TensorMap(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_char * 128)]


def bf16(x):
    return struct.unpack("<I", struct.pack("<f", x))[0] >> 16


def numbers(count):
    """Small ones, exact in bfloat16 and in their sums."""
    generator = random.Random(count)
    return [generator.randrange(-8, 9) / 4 for _ in range(count)]


PRODUCT = """
#include <cuda_bf16.h>
extern "C" __global__ void f(const unsigned short* a, const unsigned short* b, float* c) {
    __shared__ unsigned short x[16 * 16], y[16 * 8];
    int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32) x[i] = a[i];
    for (int i = lane; i < 128; i += 32) y[i] = b[i];
    __syncwarp();
    unsigned p[4], q[2];
    unsigned from = __cvta_generic_to_shared(x + lane % 16 * 16 + lane / 16 * 8);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(p[0]), "=r"(p[1]), "=r"(p[2]), "=r"(p[3]) : "r"(from));
    from = __cvta_generic_to_shared(y + lane % 16 * 8);
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(q[0]), "=r"(q[1]) : "r"(from));
    float d[4] = {0.5f, 0.5f, 0.5f, 0.5f};
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};" : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "r"(q[0]), "r"(q[1]));
    for (int i = 0; i < 4; i++) c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
}
"""

FRAGMENTS = """
#include <mma.h>
using namespace nvcuda::wmma;
extern "C" __global__ void f(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c) {
    fragment<matrix_a, 16, 16, 16, __nv_bfloat16, row_major> x;
    fragment<matrix_b, 16, 16, 16, __nv_bfloat16, col_major> y;
    fragment<accumulator, 16, 16, 16, float> z;
    fill_fragment(z, 0.0f);
    load_matrix_sync(x, a, 16);
    load_matrix_sync(y, b, 16);
    mma_sync(z, x, y, z);
    store_matrix_sync(c, z, 16, mem_row_major);
}
"""

BOX = """
struct alignas(64) CUtensorMap { unsigned long long opaque[16]; };
extern "C" __global__ void f(const __grid_constant__ CUtensorMap map, float* out) {
    extern __shared__ __align__(1024) float box[];
    __shared__ unsigned long long barrier;
    unsigned at = __cvta_generic_to_shared(&barrier);
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared.b64 [%0], 1;" :: "r"(at));
        asm volatile("fence.proxy.async.shared::cta;");
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
                     "[%1, {%2, %3}], [%4];" :: "r"((unsigned)__cvta_generic_to_shared(box)), "l"(&map), "r"(-1), "r"(2), "r"(at));
        asm volatile("{ .reg .b64 s; mbarrier.arrive.expect_tx.shared::cta.b64 s, [%0], 512; }" :: "r"(at));
    }
    unsigned over = 0;
    while (!over) asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; selp.u32 %0, 1, 0, p; }"
                               : "=r"(over) : "r"(at));
    for (int i = threadIdx.x; i < 128; i += 64) out[i] = box[i];
}
"""

SHUFFLES = """
extern "C" __global__ void f(int* out) {
    int lane = threadIdx.x;
    int sum = lane;
    for (int by = 16; by; by /= 2) sum += __shfl_xor_sync(~0u, sum, by);
    out[lane] = sum + 1000 * __shfl_up_sync(~0u, lane, 1) + 100000 * __popc(__ballot_sync(~0u, lane % 3 == 0));
}
"""


class Instructions(unittest.TestCase):
    def test_products_on_tensor_cores(self):
        for source, columns, is_transposed in [(PRODUCT, 8, False), (FRAGMENTS, 16, True)]:
            a, b = numbers(16 * 16), numbers(16 * columns)
            c = (ctypes.c_float * (16 * columns))()
            halves = [(ctypes.c_uint16 * len(x))(*map(bf16, x)) for x in (a, b)]
            run(source, 32, *halves, c)
            begin = 0.0 if is_transposed else 0.5
            for i in range(16):
                for j in range(columns):
                    at = (lambda k: j * 16 + k) if is_transposed else (lambda k: k * columns + j)
                    self.assertEqual(c[i * columns + j], begin + sum(a[i * 16 + k] * b[at(k)] for k in range(16)))

    def test_copies_by_tma(self):
        # 8 rows of 32 numbers, of which a box of 4 x 32 begins before the rows' first number
        values = numbers(8 * 32)
        source = (ctypes.c_float * 256)(*values)
        for swizzle in (0, 3):
            tensor_map, out = TensorMap(), (ctypes.c_float * 128)()
            sizes, strides = (ctypes.c_uint64 * 2)(32, 8), (ctypes.c_uint64 * 1)(128)
            box, ones = (ctypes.c_uint32 * 2)(32, 4), (ctypes.c_uint32 * 2)(1, 1)
            check(cuda.cuTensorMapEncodeTiled(
                ctypes.byref(tensor_map), 7, 2, source, sizes, strides, box, ones, 0, swizzle, 0, 0))
            run(BOX, 64, tensor_map, out, shared=512)
            for row in range(4):
                for column in range(32):
                    # pieces of 16 bytes are swapped by the row
                    place = row * 32 + (((column // 4) ^ (row % 8 if swizzle else 0)) * 4 + column % 4)
                    expected = values[(row + 2) * 32 + column - 1] if column else 0.0
                    self.assertEqual(out[place], expected, (swizzle, row, column))

    def test_shuffles_and_votes(self):
        out = (ctypes.c_int * 32)()
        run(SHUFFLES, 32, out)
        self.assertEqual(list(out), [496 + 1000 * max(lane - 1, 0) + 100000 * 11 for lane in range(32)])


if __name__ == "__main__":
    unittest.main()
