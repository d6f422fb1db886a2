//! Why a run failed, as ONNX Runtime tells it.

use ort::ErrorCode;

/// What there is to do about a failed run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunFault {
    /// The memory did not hold the batch; a smaller one may do.
    OutOfMemory,
    /// The device under the session is gone, and with it every session of the process there.
    DeviceLost,
    /// Anything else.
    Failed,
}

/// A run failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("ONNX Runtime: {message}")]
pub struct RunError {
    /// What there is to do.
    pub fault: RunFault,
    /// What ONNX Runtime said.
    pub message: String,
}

impl RunError {
    /// An error without a code.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { fault: RunFault::Failed, message: message.into() }
    }
}

impl<R> From<ort::Error<R>> for RunError {
    fn from(error: ort::Error<R>) -> Self {
        let fault = classify(error.code(), error.message());
        Self { fault, message: error.message().trim().to_owned() }
    }
}

/// ONNX Runtime has a code for a device that was reset and none for memory, so that the text must
/// tell. Sources: the arena and `std::bad_alloc` on the CPU; the names that CUDA and cuBLAS give their
/// errors.
fn classify(code: ErrorCode, message: &str) -> RunFault {
    const MEMORY: [&str; 7] = [
        "failed to allocate memory",
        "bad_alloc",
        "out of memory",
        "out_of_memory",
        "cudaerrormemoryallocation",
        "cublas_status_alloc_failed",
        "available memory of",
    ];
    const DEVICE: [&str; 9] = [
        "cuda failure 700",
        "illegal memory access",
        "unspecified launch failure",
        "device-side assert",
        "device lost",
        "device is lost",
        "uncorrectable ecc",
        "cudaerrordevicesunavailable",
        "cuda failure 999",
    ];
    let message = message.to_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    match code {
        ErrorCode::DeviceReset => RunFault::DeviceLost,
        _ if says(&DEVICE) => RunFault::DeviceLost,
        _ if says(&MEMORY) => RunFault::OutOfMemory,
        _ => RunFault::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_tell_memory_and_device_from_the_rest() {
        let fail = ErrorCode::GenericFailure;
        for (code, message, expected) in [
            (ErrorCode::DeviceReset, "", RunFault::DeviceLost),
            (
                ErrorCode::RuntimeException,
                "bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 12",
                RunFault::OutOfMemory,
            ),
            (ErrorCode::RuntimeException, "std::bad_alloc", RunFault::OutOfMemory),
            (fail, "CUDA failure 2: out of memory ; GPU=0", RunFault::OutOfMemory),
            (fail, "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", RunFault::OutOfMemory),
            (
                fail,
                "CUDA failure 700: an illegal memory access was encountered",
                RunFault::DeviceLost,
            ),
            (fail, "CUDA failure 719: unspecified launch failure", RunFault::DeviceLost),
            (ErrorCode::InvalidArgument, "indices element out of data bounds", RunFault::Failed),
            (fail, "", RunFault::Failed),
        ] {
            assert_eq!(classify(code, message), expected, "{message}");
        }
    }
}
