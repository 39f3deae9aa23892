// A fake NVIDIA driver: cards whose memory is the host's, and whose kernels are PTX translated to C++ (ptx.py) or,
// with FAKECUDA_MODE=null, compiled and counted but not run. README.md says what it cannot show.
#include "threads.h"
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cuda.h>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <string>
#include <sys/stat.h>
#include <thread>
#include <tuple>
#include <unistd.h>
#include <unordered_map>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

static std::string setting(const char* name, const char* otherwise) {
    const char* value = getenv(name);
    return value ? value : otherwise;
}
static const bool RUNS = setting("FAKECUDA_MODE", "run") != "null";
static const int CAPABILITY = stoi(setting("FAKECUDA_SM", "90"));
static const int DEVICES = stoi(setting("FAKECUDA_DEVICES", "1"));
static const bool FILLS = getenv("FAKECUDA_FILL");
static const int REFUSED = stoi(setting("FAKECUDA_REFUSE", "0"));
static const int HOST_THREADS = stoi(setting("FAKECUDA_THREADS", "1"));
static const std::string CACHE = setting("FAKECUDA_CACHE", "/tmp/fakecuda");
static const size_t MEMORY = (size_t)80 << 30;
static const unsigned MOST_SHARED = CAPABILITY >= 90 ? 232448 : 166912;

// A kernel as its module has it.
struct Function {
    std::string name, ptx;
    Body body = nullptr;
    bool waits = false;
    uint32_t shared = 0, most_dynamic = 49152;
    // of a thread, by the loads and stores in its code: what a loop repeats counts once
    uint64_t moved = 0;
    uint64_t launches = 0;
    // of products
    double operations = 0;
    double threads = 0, seconds = 0;
};

static std::mutex mutex;
static std::vector<Function*> functions;
static std::unordered_map<CUdeviceptr, size_t> sizes;
static uint64_t in_use, most_in_use;
static std::atomic<uint64_t> read_backs, bytes_read_back;

// When the process ends: what there was, as JSON.
static struct Report {
    ~Report() {
        std::string path = setting("FAKECUDA_REPORT", "");
        FILE* file = path.empty() ? nullptr : fopen(path.c_str(), "w");
        if (!file) return;
        struct Sum { uint64_t launches = 0; double bytes = 0, operations = 0, seconds = 0; };
        std::map<std::string, Sum> sums;
        uint64_t launches = 0;
        for (Function* f : functions) {
            // the rest of a name is a hash of its settings
            Sum& sum = sums[f->name.substr(0, f->name.find_last_of('_'))];
            launches += f->launches, sum.launches += f->launches;
            sum.bytes += f->threads * f->moved, sum.operations += f->operations, sum.seconds += f->seconds;
        }
        fprintf(file, "{\"launches\": %lu, \"kernels\": %zu, \"peak_bytes\": %lu, \"read_backs\": %lu, \"bytes_read_back\": %lu,\n",
                launches, functions.size(), most_in_use, read_backs.load(), bytes_read_back.load());
        fprintf(file, "\"by_kernel\": [");
        const char* comma = "";
        for (auto& [name, sum] : sums) {
            fprintf(file, "%s\n{\"name\": \"%s\", \"launches\": %lu, \"bytes\": %.0f, \"operations\": %.0f, \"seconds\": %.3f}",
                    comma, name.c_str(), sum.launches, sum.bytes, sum.operations, sum.seconds);
            comma = ",";
        }
        fprintf(file, "]}\n");
        fclose(file);
    }
} report;

// Devices

API CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
API CUresult cuDriverGetVersion(int* version) { return *version = 13020, CUDA_SUCCESS; }
API CUresult cuDeviceGetCount(int* count) { return *count = DEVICES, CUDA_SUCCESS; }
API CUresult cuDeviceGet(CUdevice* device, int number) {
    return *device = number, number < DEVICES ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
API CUresult cuDeviceGetName(char* name, int length, CUdevice) {
    snprintf(name, length, "emulated, compute capability %d.%d", CAPABILITY / 10, CAPABILITY % 10);
    return CUDA_SUCCESS;
}
API CUresult cuDeviceGetPCIBusId(char* id, int length, CUdevice device) {
    snprintf(id, length, "0000:%02x:00.0", device + 1);
    return CUDA_SUCCESS;
}
API CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice) { return *bytes = MEMORY, CUDA_SUCCESS; }
API CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
    std::lock_guard guard(mutex);
    return *free = MEMORY - in_use, *total = MEMORY, CUDA_SUCCESS;
}
API CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = CAPABILITY / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = CAPABILITY % 10; break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = MOST_SHARED; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *value = 49152; break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: *value = 1024; break;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: *value = 64; break;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: *value = 2147483647; break;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: *value = 65535; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = CAPABILITY >= 90 ? 132 : 108; break;
    default: *value = 0;
    }
    return CUDA_SUCCESS;
}
API CUresult cuGetErrorName(CUresult error, const char** name) {
    static thread_local char text[32];
    snprintf(text, sizeof text, "CUDA_ERROR_%d", (int)error);
    return *name = text, CUDA_SUCCESS;
}
API CUresult cuGetErrorString(CUresult error, const char** text) { return cuGetErrorName(error, text); }

// NVML: cards are busy half of the time.

API int nvmlInit_v2() { return 0; }
API int nvmlShutdown() { return 0; }
API int nvmlDeviceGetHandleByPciBusId_v2(const char* id, uintptr_t* card) {
    return *card = strtoul(id + 5, nullptr, 16), *card >= 1 && *card <= DEVICES ? 0 : 6;
}
API int nvmlDeviceGetUtilizationRates(uintptr_t, unsigned (*percent)[2]) { return (*percent)[0] = (*percent)[1] = 50, 0; }
API const char* nvmlErrorString(int) { return "emulated"; }

// Contexts, streams and events: everything is done when it is asked for.

static int context;
API CUresult cuDevicePrimaryCtxRetain(CUcontext* made, CUdevice) { return *made = (CUcontext)&context, CUDA_SUCCESS; }
API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) { return CUDA_SUCCESS; }
API CUresult cuCtxSetCurrent(CUcontext) { return CUDA_SUCCESS; }
API CUresult cuCtxGetCurrent(CUcontext* current) { return *current = (CUcontext)&context, CUDA_SUCCESS; }
API CUresult cuCtxSynchronize() { return CUDA_SUCCESS; }
API CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) { return *least = 0, *greatest = -5, CUDA_SUCCESS; }
API CUresult cuStreamCreate(CUstream* stream, unsigned) { return *stream = (CUstream) new char, CUDA_SUCCESS; }
API CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned, int) { return cuStreamCreate(stream, 0); }
API CUresult cuStreamDestroy_v2(CUstream stream) { return delete (char*)stream, CUDA_SUCCESS; }
API CUresult cuStreamSynchronize(CUstream) { return CUDA_SUCCESS; }
API CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned) { return CUDA_SUCCESS; }
API CUresult cuStreamBeginCapture_v2(CUstream, CUstreamCaptureMode) { return CUDA_ERROR_NOT_SUPPORTED; }
using Clock = std::chrono::steady_clock;
API CUresult cuEventCreate(CUevent* event, unsigned) { return *event = (CUevent) new Clock::time_point, CUDA_SUCCESS; }
API CUresult cuEventDestroy_v2(CUevent event) { return delete (Clock::time_point*)event, CUDA_SUCCESS; }
API CUresult cuEventRecord(CUevent event, CUstream) { return *(Clock::time_point*)event = Clock::now(), CUDA_SUCCESS; }
API CUresult cuCtxRecordEvent(CUcontext, CUevent event) { return cuEventRecord(event, nullptr); }
API CUresult cuCtxWaitEvent(CUcontext, CUevent) { return CUDA_SUCCESS; }
API CUresult cuEventSynchronize(CUevent) { return CUDA_SUCCESS; }
API CUresult cuEventQuery(CUevent) { return CUDA_SUCCESS; }
API CUresult cuEventElapsedTime_v2(float* ms, CUevent from, CUevent to) {
    auto span = *(Clock::time_point*)to - *(Clock::time_point*)from;
    return *ms = std::chrono::duration<float, std::milli>(span).count(), CUDA_SUCCESS;
}
#undef cuEventElapsedTime
API CUresult cuEventElapsedTime(float* ms, CUevent from, CUevent to) { return cuEventElapsedTime_v2(ms, from, to); }

// Memory

API CUresult cuMemAlloc_v2(CUdeviceptr* made, size_t bytes) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    bytes = std::max<size_t>(bytes, 1);
    std::lock_guard guard(mutex);
    if (in_use + bytes > MEMORY) return CUDA_ERROR_OUT_OF_MEMORY;
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (at == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    if (FILLS && RUNS) memset(at, 0xff, bytes);
    sizes[*made = (CUdeviceptr)at] = bytes;
    most_in_use = std::max(most_in_use, in_use += bytes);
    return CUDA_SUCCESS;
}
API CUresult cuMemFree_v2(CUdeviceptr at) {
    std::lock_guard guard(mutex);
    auto found = sizes.find(at);
    if (found == sizes.end()) return CUDA_ERROR_INVALID_VALUE;
    munmap((void*)at, found->second);
    in_use -= found->second;
    sizes.erase(found);
    return CUDA_SUCCESS;
}
API CUresult cuMemAllocAsync(CUdeviceptr* made, size_t bytes, CUstream) { return cuMemAlloc_v2(made, bytes); }
API CUresult cuMemFreeAsync(CUdeviceptr at, CUstream) { return cuMemFree_v2(at); }
API CUresult cuMemAllocHost_v2(void** made, size_t bytes) {
    return *made = aligned_alloc(256, (bytes + 256) / 256 * 256), CUDA_SUCCESS;
}
API CUresult cuMemFreeHost(void* at) { return free(at), CUDA_SUCCESS; }
static CUresult copy(void* to, const void* from, size_t bytes) {
    if (RUNS) memmove(to, from, bytes);
    return CUDA_SUCCESS;
}
API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t n, CUstream) { return copy((void*)to, from, n); }
API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream) {
    return copy((void*)to, (void*)from, n);
}
API CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t n, CUstream) {
    return copy((void*)to, (void*)from, n);
}
API CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t n, CUstream) {
    read_backs++, bytes_read_back += n;
    // what was not computed is 1
    for (size_t i = 0; !RUNS && i + 4 <= n; i += 4) store((char*)to + i, 1.0f);
    return copy(to, (void*)from, n);
}
API CUresult cuMemsetD8Async(CUdeviceptr at, unsigned char value, size_t bytes, CUstream) {
    if (RUNS) memset((void*)at, value, bytes);
    return CUDA_SUCCESS;
}
API CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* c, CUstream) {
    auto from = c->srcMemoryType == CU_MEMORYTYPE_HOST ? (const char*)c->srcHost : (const char*)c->srcDevice;
    auto to = c->dstMemoryType == CU_MEMORYTYPE_HOST ? (char*)c->dstHost : (char*)c->dstDevice;
    for (size_t y = 0; y < c->Height; y++)
        copy(to + (y + c->dstY) * c->dstPitch + c->dstXInBytes, from + (y + c->srcY) * c->srcPitch + c->srcXInBytes,
             c->WidthInBytes);
    return CUDA_SUCCESS;
}

// Kernels

API CUresult cuModuleLoadData(CUmodule* made, const void* image) {
    return *made = (CUmodule) new std::string((const char*)image), CUDA_SUCCESS;
}
API CUresult cuModuleUnload(CUmodule module) { return delete (std::string*)module, CUDA_SUCCESS; }

static uint64_t moved_by(const std::string& ptx) {
    uint64_t bytes = 0;
    for (const char* operation : {"ld.global", "st.global"}) {
        for (size_t at = ptx.find(operation); at != std::string::npos; at = ptx.find(operation, at + 1)) {
            std::string words = ptx.substr(at, ptx.find_first_of(" \t", at) - at);
            // sizes of tensors, the same for all threads, which caches hold
            if (words == "ld.global.nc.u32") continue;
            uint64_t count = words.find(".v4") != words.npos ? 4 : words.find(".v2") != words.npos ? 2 : 1;
            bytes += count * stoul(words.substr(words.find_last_not_of("0123456789") + 1)) / 8;
        }
    }
    return bytes;
}

// The kernel in C++, as it was compiled now or before.
static bool translate(Function* f, const std::string& stem) {
    std::string library = stem + ".so", home = setting("FAKECUDA_HOME", ".");
    // each device has a thread that may want it, and there may be other processes
    static std::mutex translating;
    std::lock_guard guard(translating);
    if (access(library.c_str(), R_OK)) {
        std::string part = library + std::to_string(getpid());
        std::string compile = "python3 " + home + "/ptx.py " + stem + ".ptx " + stem + ".cpp && g++ -std=c++20 -O1 -w -mfma "
            "-mavx2 -mf16c -ffp-contract=off -fno-strict-aliasing -shared -fPIC -I" + home + " " + stem + ".cpp -o " +
            part + " && mv " + part + " " + library;
        if (system(compile.c_str())) return false;
    }
    void* opened = dlopen(library.c_str(), RTLD_NOW);
    if (!opened) return false;
    auto find = [&](const char* what) { return dlsym(opened, (what + f->name).c_str()); };
    f->body = (Body)find("run_");
    f->waits = f->body && *(int*)find("waits_");
    f->shared = f->body ? *(uint32_t*)find("shared_") : 0;
    return f->body;
}
API CUresult cuModuleGetFunction(CUfunction* made, CUmodule module, const char* name) {
    auto* f = new Function{name, *(std::string*)module};
    if (f->ptx.find(".entry " + f->name) == f->ptx.npos) return CUDA_ERROR_NOT_FOUND;
    f->moved = moved_by(f->ptx);
    char stem[32];
    snprintf(stem, sizeof stem, "/%016zx", std::hash<std::string>()(f->ptx));
    std::string path = CACHE + stem;
    mkdir(CACHE.c_str(), 0755);
    if (FILE* file = fopen((path + ".ptx").c_str(), "w")) {
        fwrite(f->ptx.data(), 1, f->ptx.size(), file);
        fclose(file);
    }
    if (RUNS && !translate(f, path)) {
        fprintf(stderr, "fake driver: `%s` could not be translated: %s.ptx\n", name, path.c_str());
        return CUDA_ERROR_INVALID_PTX;
    }
    std::lock_guard guard(mutex);
    functions.push_back(f);
    return *made = (CUfunction)f, CUDA_SUCCESS;
}
API CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
    if (value > (int)MOST_SHARED) return CUDA_ERROR_INVALID_VALUE;
    return ((Function*)function)->most_dynamic = value, CUDA_SUCCESS;
}

static bool run(Function* f, const Launch& launch) {
    const uint32_t* grid = launch.grid;
    const uint64_t blocks = (uint64_t)grid[0] * grid[1] * grid[2];
    std::atomic<uint64_t> next{0};
    std::atomic<bool> ends{true};
    static int lock = 0;
    auto work = [&] {
        worker.shared.resize(f->shared + launch.dynamic_shared);
        static thread_local Block b;
        for (uint64_t i; (i = next++) < blocks && ends;) {
            static_cast<Launch&>(b) = launch;
            b.index[0] = i % grid[0], b.index[1] = i / grid[0] % grid[1], b.index[2] = i / grid[0] / grid[1];
            b.shared = worker.shared.data(), b.lock = &lock;
            b.barrier = block_barrier, b.warp_barrier = warp_barrier;
            if (FILLS) memset(b.shared, 0xff, worker.shared.size());
            if (!run_block(f->body, f->waits, b)) ends = false;
        }
    };
    std::vector<std::thread> others;
    for (int i = 1; i < HOST_THREADS && blocks >= 4; i++) others.emplace_back(work);
    work();
    for (auto& other : others) other.join();
    return ends;
}
API CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                            unsigned bz, unsigned shared, CUstream, void** parameters, void**) {
    auto* f = (Function*)function;
    uint64_t threads = (uint64_t)bx * by * bz;
    if (!gx || !gy || !gz || gx > 2147483647u || gy > 65535 || gz > 65535 || !threads || threads > 1024 || bz > 64 ||
        shared > f->most_dynamic) {
        fprintf(stderr, "fake driver: `%s` cannot be launched on %u %u %u blocks of %u %u %u threads, %u bytes\n",
                f->name.c_str(), gx, gy, gz, bx, by, bz, shared);
        return CUDA_ERROR_INVALID_VALUE;
    }
    auto start = Clock::now();
    if (RUNS && !run(f, {{gx, gy, gz}, {bx, by, bz}, (uint32_t)threads, shared, parameters})) {
        fprintf(stderr, "fake driver: threads of `%s` wait for each other forever\n", f->name.c_str());
        return CUDA_ERROR_LAUNCH_TIMEOUT;
    }
    std::lock_guard guard(mutex);
    f->launches++, f->threads += (double)gx * gy * gz * threads;
    f->seconds += std::chrono::duration<double>(Clock::now() - start).count();
    return CUDA_SUCCESS;
}

// cuBLAS: products of matrices by columns, in sums of f32.

API int cublasCreate_v2(void** made) { return *made = new char, 0; }
API int cublasSetStream_v2(void*, CUstream) { return 0; }

enum { REAL_F32 = 0, REAL_BF16 = 14, COMPUTE_F32 = 68, COMPUTE_TF32 = 77 };

static float number(const void* numbers, int64_t at, int kind, int compute) {
    if (kind == REAL_BF16) return from_bf16(((const uint16_t*)numbers)[at]);
    float x = ((const float*)numbers)[at];
    return compute == COMPUTE_TF32 ? from_tf32(to_tf32(x)) : x;
}

// One kind of matrices: its numbers, from one line to the next, and whether its lines are turned.
struct Matrices {
    int kind, pitch, turns;
    float at(const void* numbers, int64_t row, int64_t column, int compute) const {
        return number(numbers, turns ? row * pitch + column : column * pitch + row, kind, compute);
    }
};

// `c = alpha a b + beta c` of a batch, whose matrices `find` finds.
template <class Find>
static int multiply_batch(Matrices a, Matrices b, Matrices c, int m, int n, int k, float alpha, float beta, int batch,
                          int compute, Find find) {
    bool fits = a.pitch >= (a.turns ? k : m) && b.pitch >= (b.turns ? n : k) && c.pitch >= m && a.kind == b.kind &&
                (a.kind == REAL_F32 || a.kind == REAL_BF16) && c.kind == REAL_F32 &&
                (compute == COMPUTE_F32 || compute == COMPUTE_TF32);
    if (!fits || m < 0 || n < 0 || k < 0 || batch < 0) return 7;
    static std::atomic<int> asked{0};
    if (++asked == REFUSED) return 13;
    auto start = Clock::now();
    std::vector<float> left(RUNS ? (size_t)m * k : 0), column(m);
    for (int i = 0; RUNS && i < batch; i++) {
        auto [at_a, at_b, at_c] = find(i);
        for (int l = 0; l < k; l++)
            for (int x = 0; x < m; x++) left[(size_t)l * m + x] = a.at(at_a, x, l, compute);
        for (int y = 0; y < n; y++) {
            std::fill(column.begin(), column.end(), 0.0f);
            for (int l = 0; l < k; l++) {
                float right = b.at(at_b, l, y, compute);
                for (int x = 0; x < m; x++) column[x] += left[(size_t)l * m + x] * right;
            }
            for (int x = 0; x < m; x++) {
                float& out = at_c[(int64_t)y * c.pitch + x];
                // what is not added to need not be a number
                out = alpha * column[x] + (beta == 0 ? 0 : beta * out);
            }
        }
    }
    std::lock_guard guard(mutex);
    static Function* products[2];
    Function*& f = products[a.kind == REAL_BF16];
    if (!f) functions.push_back(f = new Function{a.kind == REAL_BF16 ? "cublas_bf16_" : "cublas_f32_"});
    f->launches++, f->operations += 2.0 * m * n * k * batch;
    f->seconds += std::chrono::duration<double>(Clock::now() - start).count();
    return 0;
}
API int cublasGemmStridedBatchedEx(void*, int turns_a, int turns_b, int m, int n, int k, const float* alpha, const char* a,
                                   int kind_a, int pitch_a, long long stride_a, const char* b, int kind_b, int pitch_b,
                                   long long stride_b, const float* beta, float* c, int kind_c, int pitch_c,
                                   long long stride_c, int batch, int compute, int) {
    auto find = [&](int64_t i) {
        int64_t bytes = kind_a == REAL_BF16 ? 2 : 4;
        return std::tuple(a + i * stride_a * bytes, b + i * stride_b * bytes, c + i * stride_c);
    };
    return multiply_batch({kind_a, pitch_a, turns_a}, {kind_b, pitch_b, turns_b}, {kind_c, pitch_c, 0}, m, n, k, *alpha,
                          *beta, batch, compute, find);
}
API int cublasGemmBatchedEx(void*, int turns_a, int turns_b, int m, int n, int k, const float* alpha, char** a, int kind_a,
                            int pitch_a, char** b, int kind_b, int pitch_b, const float* beta, float** c, int kind_c,
                            int pitch_c, int batch, int compute, int) {
    auto find = [&](int64_t i) { return std::tuple(a[i], b[i], c[i]); };
    return multiply_batch({kind_a, pitch_a, turns_a}, {kind_b, pitch_b, turns_b}, {kind_c, pitch_c, 0}, m, n, k, *alpha,
                          *beta, batch, compute, find);
}
