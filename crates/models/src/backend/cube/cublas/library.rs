//! cuBLAS on a GPU, and a product that it is asked for.

use std::{cell::RefCell, ffi::c_void, ptr};

use cubecl::server::ServerStorage;
use cudarc::{
    cublas::sys::{self as cublas, cublasComputeType_t as Compute},
    driver::sys as driver,
};

use super::{Server, matrices::Matrices, times};

/// A product that is to be launched.
pub(super) struct Call {
    /// Rows, columns and inner dimension.
    pub(super) sizes: [usize; 3],
    pub(super) left: Matrices,
    pub(super) right: Matrices,
    pub(super) output: Matrices,
    pub(super) compute: Compute,
    /// What the output is multiplied by before.
    pub(super) beta: f32,
}

impl Call {
    /// What it is called among kernels.
    fn name(&self) -> String {
        let [rows, columns, inner] = self.sizes;
        let kind = match (self.left.kind, self.compute) {
            (cublas::cudaDataType::CUDA_R_16BF, _) => "bf16",
            (_, Compute::CUBLAS_COMPUTE_32F_FAST_TF32) => "tf32",
            _ => "f32",
        };
        format!("cuBLAS {kind} {} x [{rows}, {inner}] [{inner}, {columns}]", self.left.batch())
    }

    /// Launches it, on the thread of the GPU's server.
    pub(super) fn launch(&self, server: &mut Server) -> Result<(), String> {
        let mut find = |matrices: &Matrices| {
            let memory = &matrices.memory;
            let found = server.get_resource(memory.clone(), memory.stream);
            found.map_err(|error| format!("its memory: {error}"))
        };
        let (left, right, output) = (find(&self.left)?, find(&self.right)?, find(&self.output)?);
        let pointers = [&right, &left, &output].map(|memory| memory.resource().ptr);
        let bytes = output.resource().size;
        thread_local! {
            static LIBRARY: RefCell<Option<Library>> = const { RefCell::new(None) };
        }
        LIBRARY.with_borrow_mut(|library| {
            if library.is_none() {
                *library = Some(Library::open()?);
            }
            let library = library.as_mut().expect("it was opened");
            let launched = library.multiply(self, pointers);
            if launched.is_err() {
                library.spoil(pointers[2], bytes);
            }
            launched
        })
    }
}

/// cuBLAS on the GPU of a thread.
struct Library {
    context: driver::CUcontext,
    stream: driver::CUstream,
    handle: cublas::cublasHandle_t,
    before: driver::CUevent,
    after: driver::CUevent,
    /// Places of matrices that do not lie at equal distances, in the GPU's memory, and how many have room.
    places: driver::CUdeviceptr,
    room: usize,
}

impl Library {
    /// Opens it for the context of this thread.
    #[expect(unsafe_code, reason = "the driver's and cuBLAS's functions are foreign")]
    fn open() -> Result<Self, String> {
        let mut this = Self {
            context: ptr::null_mut(),
            stream: ptr::null_mut(),
            handle: ptr::null_mut(),
            before: ptr::null_mut(),
            after: ptr::null_mut(),
            places: 0,
            room: 0,
        };
        // SAFETY: all write one pointer to a place that is there
        unsafe {
            done(driver::cuCtxGetCurrent(&raw mut this.context))?;
            let is_apart = driver::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
            done(driver::cuStreamCreate(&raw mut this.stream, is_apart))?;
            let is_untimed = driver::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
            done(driver::cuEventCreate(&raw mut this.before, is_untimed))?;
            done(driver::cuEventCreate(&raw mut this.after, is_untimed))?;
            multiplied(cublas::cublasCreate_v2(&raw mut this.handle))?;
            multiplied(cublas::cublasSetStream_v2(this.handle, this.stream.cast()))?;
        }
        Ok(this)
    }

    /// Multiplies matrices that begin at these pointers: the right ones, the left ones and the output.
    #[expect(unsafe_code, reason = "the driver's and cuBLAS's functions are foreign")]
    fn multiply(&mut self, call: &Call, pointers: [u64; 3]) -> Result<(), String> {
        // SAFETY: the context, the stream and the events are there
        unsafe {
            done(driver::cuCtxRecordEvent(self.context, self.before))?;
            done(driver::cuStreamWaitEvent(self.stream, self.before, 0))?;
        }
        let begin = times::before(self.stream)?;
        self.gemm(call, pointers)?;
        times::after(begin, self.stream, || call.name())?;
        // SAFETY: as above
        unsafe {
            done(driver::cuEventRecord(self.after, self.stream))?;
            done(driver::cuCtxWaitEvent(self.context, self.after))
        }
    }

    /// Makes numbers that were not computed none, so that nothing is taken for a result that they are in.
    #[expect(unsafe_code, reason = "the driver's functions are foreign")]
    fn spoil(&self, output: u64, bytes: u64) {
        // SAFETY: memory of that size is kept until this was launched
        unsafe {
            let _ = driver::cuMemsetD8Async(output, u8::MAX, bytes as usize, self.stream);
            let _ = driver::cuEventRecord(self.after, self.stream);
            let _ = driver::cuCtxWaitEvent(self.context, self.after);
        }
    }

    #[expect(unsafe_code, reason = "cuBLAS's functions are foreign")]
    fn gemm(&mut self, call: &Call, pointers: [u64; 3]) -> Result<(), String> {
        // by columns, which is how cuBLAS counts, it is the product of the transposed in turned order
        let all @ [a, b, c] = [&call.right, &call.left, &call.output];
        let count = |size: usize| i32::try_from(size).expect("cuBLAS counts in 32 bits");
        let [n, m, k] = call.sizes.map(count);
        let [pitch_a, pitch_b, pitch_c] = all.map(|matrices| count(matrices.pitch));
        let (one, batch) = (1.0f32, count(c.batch()));
        let (alpha, beta) = ((&raw const one).cast(), (&raw const call.beta).cast());
        let (algorithm, [turn_a, turn_b]) =
            (cublas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT, [a, b].map(Matrices::operation));
        let answer = if let [Some(stride_a), Some(stride_b), Some(stride_c)] = all.map(Matrices::stride) {
            let [at_a, at_b, at_c] = pointers.map(|pointer| pointer as *mut c_void);
            let [stride_a, stride_b, stride_c] = [stride_a, stride_b, stride_c].map(|stride| stride as i64);
            // SAFETY: memory of these sizes is kept until the product was launched, and by its stream's order until it
            // is done
            unsafe {
                cublas::cublasGemmStridedBatchedEx(
                    self.handle,
                    turn_a,
                    turn_b,
                    m,
                    n,
                    k,
                    alpha,
                    at_a,
                    a.kind,
                    pitch_a,
                    stride_a,
                    at_b,
                    b.kind,
                    pitch_b,
                    stride_b,
                    beta,
                    at_c,
                    c.kind,
                    pitch_c,
                    stride_c,
                    batch,
                    call.compute,
                    algorithm,
                )
            }
        } else {
            let places: Vec<u64> =
                all.into_iter().zip(pointers).flat_map(|(matrices, first)| matrices.places(first)).collect();
            let [at_a, at_b, at_c] = self.put(&places)?;
            let (at_a, at_b) = (at_a as *const *const c_void, at_b as *const *const c_void);
            let at_c = at_c as *const *mut c_void;
            // SAFETY: as above, and the places are of such memory
            unsafe {
                cublas::cublasGemmBatchedEx(
                    self.handle,
                    turn_a,
                    turn_b,
                    m,
                    n,
                    k,
                    alpha,
                    at_a,
                    a.kind,
                    pitch_a,
                    at_b,
                    b.kind,
                    pitch_b,
                    beta,
                    at_c,
                    c.kind,
                    pitch_c,
                    batch,
                    call.compute,
                    algorithm,
                )
            }
        };
        multiplied(answer)
    }

    /// Puts places of as many matrices of three kinds into the GPU's memory, in the stream's order.
    #[expect(unsafe_code, reason = "the driver's functions are foreign")]
    fn put(&mut self, places: &[u64]) -> Result<[u64; 3], String> {
        let bytes = size_of_val(places);
        // SAFETY: nobody reads the memory that is freed, which waits for what was launched; the new one has room for all
        // places, and the driver has read them when it returns, since they lie in memory that is not locked
        unsafe {
            if places.len() > self.room {
                if self.room > 0 {
                    done(driver::cuStreamSynchronize(self.stream))?;
                    done(driver::cuMemFree_v2(self.places))?;
                }
                self.room = 0;
                done(driver::cuMemAlloc_v2(&raw mut self.places, bytes))?;
                self.room = places.len();
            }
            done(driver::cuMemcpyHtoDAsync_v2(self.places, places.as_ptr().cast(), bytes, self.stream))?;
        }
        let part = (bytes / 3) as u64;
        Ok([0, 1, 2].map(|i| self.places + i * part))
    }
}

/// The driver's answer, in words if it refused.
pub(super) fn done(answer: driver::CUresult) -> Result<(), String> {
    answer.result().map_err(|error| format!("the driver answers {error}"))
}

fn multiplied(answer: cublas::cublasStatus_t) -> Result<(), String> {
    answer.result().map_err(|error| format!("cuBLAS answers {error}"))
}
