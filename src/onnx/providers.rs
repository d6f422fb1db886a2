//! Execution providers: what computes a graph. As plain data first, so that the options can be tested
//! where there is no GPU.

use std::path::PathBuf;

use ort::ep::{self, ExecutionProviderDispatch};
use serde::{Deserialize, Serialize};

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The processor.
    Cpu,
    /// NVIDIA's CUDA and cuDNN.
    Cuda,
    /// NVIDIA's TensorRT.
    Tensorrt,
}

/// What the providers for GPUs are told. Settings: the table `gpu` of the backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpuSpec {
    /// The number of the device.
    pub device: i32,
    /// Most bytes that the arena takes; 0 sets no limit.
    pub memory_limit_bytes: u64,
    /// Whether TensorRT may compute in 16 bits.
    pub fp16: bool,
    /// Folder in which TensorRT keeps the engines that it has built; empty keeps none.
    pub engine_cache: PathBuf,
    /// Smallest, usual and largest batch that TensorRT builds its engine for.
    pub profile: [usize; 3],
}

impl Default for GpuSpec {
    fn default() -> Self {
        Self {
            device: 0,
            memory_limit_bytes: 0,
            fp16: true,
            engine_cache: PathBuf::new(),
            profile: [1, 8, 32],
        }
    }
}

impl GpuSpec {
    /// Whether the values make sense.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> anyhow::Result<()> {
        let [min, opt, max] = self.profile;
        anyhow::ensure!(
            (1..=opt).contains(&min) && opt <= max,
            "gpu.profile is the smallest, usual and largest batch, in this order, not {:?}",
            self.profile
        );
        anyhow::ensure!(self.device >= 0, "gpu.device is 0 or more, not {}", self.device);
        let path = self.engine_cache.to_string_lossy();
        anyhow::ensure!(!path.contains('\0'), "gpu.engine_cache holds a zero byte");
        Ok(())
    }
}

/// The input, whose first dimension is the batch: TensorRT must know its shapes beforehand.
#[derive(Clone, Copy, Debug)]
pub struct Shaped<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its dimensions after the batch.
    pub rest: &'a [usize],
}

/// A CUDA stream of this process, by its address, that a provider is to compute on. It must live as
/// long as the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(pub usize);

type Options = Vec<(&'static str, String)>;

/// What CUDA is told.
pub fn cuda(spec: &GpuSpec, stream: Option<Stream>) -> Options {
    let mut options = vec![
        ("device_id", spec.device.to_string()),
        // The default tries every algorithm for every new shape, for seconds.
        ("cudnn_conv_algo_search", "HEURISTIC".into()),
        ("arena_extend_strategy", "kSameAsRequested".into()),
    ];
    if spec.memory_limit_bytes > 0 {
        options.push(("gpu_mem_limit", spec.memory_limit_bytes.to_string()));
    }
    options.extend(on(stream));
    options
}

/// What TensorRT is told. Without a name of the input there are no profiles, and an engine is built
/// for every new shape.
pub fn tensorrt(spec: &GpuSpec, input: Option<Shaped<'_>>, stream: Option<Stream>) -> Options {
    let mut options = vec![
        ("device_id", spec.device.to_string()),
        ("trt_fp16_enable", u8::from(spec.fp16).to_string()),
    ];
    if !spec.engine_cache.as_os_str().is_empty() {
        let path = spec.engine_cache.display().to_string();
        options.push(("trt_engine_cache_enable", "1".into()));
        options.push(("trt_engine_cache_path", path.clone()));
        options.push(("trt_timing_cache_enable", "1".into()));
        options.push(("trt_timing_cache_path", path));
    }
    if let Some(Shaped { name, rest }) = input {
        let keys = ["trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes"];
        for (key, batch) in keys.into_iter().zip(spec.profile) {
            let dims = std::iter::once(&batch).chain(rest).map(usize::to_string);
            options.push((key, format!("{name}:{}", dims.collect::<Vec<_>>().join("x"))));
        }
    }
    options.extend(on(stream));
    options
}

fn on(stream: Option<Stream>) -> Options {
    stream.map_or_else(Vec::new, |Stream(address)| {
        vec![("has_user_compute_stream", "1".into()), ("user_compute_stream", address.to_string())]
    })
}

/// The provider for ONNX Runtime. One that cannot be had is an error: nothing falls back by itself.
pub(super) fn dispatch(
    provider: Provider,
    options: Options,
    cpu_arena: bool,
) -> ExecutionProviderDispatch {
    fn with<P: ep::ArbitrarilyConfigurableExecutionProvider>(provider: P, options: Options) -> P {
        options.into_iter().fold(provider, |it, (key, value)| it.with_arbitrary_config(key, value))
    }
    let dispatch = match provider {
        Provider::Cpu => ep::CPU::default().with_arena_allocator(cpu_arena).build(),
        Provider::Cuda => with(ep::CUDA::default(), options).build(),
        Provider::Tensorrt => with(ep::TensorRT::default(), options).build(),
    };
    dispatch.error_on_failure()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get<'a>(options: &'a Options, key: &str) -> Option<&'a str> {
        let mut values = options.iter().filter(|(name, _)| *name == key);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{key} twice");
        value
    }

    #[test]
    fn cuda_is_told_device_limit_and_stream() {
        let plain = cuda(&GpuSpec::default(), None);
        assert_eq!(get(&plain, "device_id"), Some("0"));
        assert_eq!(get(&plain, "gpu_mem_limit"), None);
        assert_eq!(get(&plain, "user_compute_stream"), None);
        let spec = GpuSpec { device: 3, memory_limit_bytes: 1 << 30, ..GpuSpec::default() };
        let full = cuda(&spec, Some(Stream(4096)));
        assert_eq!(get(&full, "device_id"), Some("3"));
        assert_eq!(get(&full, "gpu_mem_limit"), Some("1073741824"));
        assert_eq!(get(&full, "has_user_compute_stream"), Some("1"));
        assert_eq!(get(&full, "user_compute_stream"), Some("4096"));
    }

    #[test]
    fn tensorrt_is_told_its_profile_cache_and_precision() {
        let input = Shaped { name: "pixel_values", rest: &[3, 224, 192] };
        let plain = tensorrt(&GpuSpec::default(), Some(input), None);
        assert_eq!(get(&plain, "trt_fp16_enable"), Some("1"));
        assert_eq!(get(&plain, "trt_profile_min_shapes"), Some("pixel_values:1x3x224x192"));
        assert_eq!(get(&plain, "trt_profile_opt_shapes"), Some("pixel_values:8x3x224x192"));
        assert_eq!(get(&plain, "trt_profile_max_shapes"), Some("pixel_values:32x3x224x192"));
        assert_eq!(get(&plain, "trt_engine_cache_enable"), None);
        let spec = GpuSpec { fp16: false, engine_cache: "engines".into(), ..GpuSpec::default() };
        let full = tensorrt(&spec, None, Some(Stream(7)));
        assert_eq!(get(&full, "trt_fp16_enable"), Some("0"));
        assert_eq!(get(&full, "trt_engine_cache_path"), Some("engines"));
        assert_eq!(get(&full, "trt_profile_opt_shapes"), None);
        assert_eq!(get(&full, "user_compute_stream"), Some("7"));
    }

    #[test]
    fn a_profile_is_in_order() {
        assert!(GpuSpec::default().check().is_ok());
        for profile in [[0, 1, 2], [2, 1, 3], [1, 3, 2]] {
            let spec = GpuSpec { profile, ..GpuSpec::default() };
            assert!(spec.check().unwrap_err().to_string().contains("gpu.profile"), "{profile:?}");
        }
    }
}
