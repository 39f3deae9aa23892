"""Instructions of the emulation against plain Python: . FOLDER/env && python3 test.py

Each kernel is compiled by NVRTC and run by the fake driver."""

import ctypes
import os
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


def run(source, threads, *arguments):
    """Runs `f` on one block; arguments are arrays of ctypes, which it reads and writes in place."""
    values = [ctypes.c_void_p(ctypes.addressof(a)) for a in arguments]
    pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
    check(cuda.cuLaunchKernel(compiled(source), 1, 1, 1, threads, 1, 1, 0, None, pointers, None))


SHUFFLES = """
extern "C" __global__ void f(int* out) {
    int lane = threadIdx.x;
    int sum = lane;
    for (int by = 16; by; by /= 2) sum += __shfl_xor_sync(~0u, sum, by);
    out[lane] = sum + 1000 * __shfl_up_sync(~0u, lane, 1) + 100000 * __popc(__ballot_sync(~0u, lane % 3 == 0));
}
"""


class Instructions(unittest.TestCase):
    def test_shuffles_and_votes(self):
        out = (ctypes.c_int * 32)()
        run(SHUFFLES, 32, out)
        self.assertEqual(list(out), [496 + 1000 * max(lane - 1, 0) + 100000 * 11 for lane in range(32)])


if __name__ == "__main__":
    unittest.main()
