//! The machine's limit for one stage: decode and infer in a loop, in this process, without a server.
//!
//! `cargo bench --bench ceiling -- --config FILE --image FILE [--set K=V]... [--seconds 5]`
//!
//! Builds the backend of the only stage in `cascade.order` once for each of its instances, on a
//! thread of its own as an instance has, and lets each thread decode and answer the image again and
//! again. Prints one line of JSON: the throughput of all threads, the latency of one image while the
//! other threads are idle, and what decoding and the backend (resizing and the model) take of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench"
)]

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use roadcrew::app::{App, Parts};
use roadcrew::backends::{Backend, BackendContext, Factory, Input};
use roadcrew::config::{self, Config, Sources};
use roadcrew::image::{Image, ImageLimits};
use roadcrew::prediction::Prediction;
use serde_json::{Value, json};

/// `utime` and `stime` of `/proc/self/stat` count in these; it is 100 wherever Linux runs servers.
const TICKS_PER_S: f64 = 100.0;

struct Args {
    sources: Sources,
    image: String,
    seconds: f64,
}

fn args() -> Args {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/roadwork.jpg");
    let mut args = Args { sources: Sources::default(), image: sample.into(), seconds: 5.0 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--config" => args.sources.files.push(value().into()),
            "--set" => args.sources.sets.push(value().parse().unwrap()),
            "--image" => args.image = value(),
            "--seconds" => args.seconds = value().parse().unwrap(),
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    args
}

/// What every thread of the loop works with.
struct Work {
    factory: Factory,
    context: BackendContext,
    instances: usize,
    jpeg: Vec<u8>,
    limits: ImageLimits,
}

impl Work {
    fn new(config: &Config, parts: &Parts, jpeg: Vec<u8>) -> Self {
        let [name] = &config.cascade.order[..] else { panic!("cascade.order must name one stage") };
        let stage = &config.stages[name];
        let context = BackendContext {
            stage: name.clone(),
            max_batch: stage.spec.batching.max_batch,
            instances: stage.spec.instances,
            onnx: config.onnx.clone(),
            settings: stage.settings(),
        };
        let factory = parts.backends.get(&stage.spec.backend).expect("a checked backend");
        Self { factory, context, instances: stage.spec.instances, jpeg, limits: config.image }
    }

    fn backend(&self) -> Box<dyn Backend> {
        let mut backend = (self.factory)(&self.context).unwrap();
        backend.warm_up().unwrap();
        backend
    }

    /// One image; how long decoding and the backend took, in ms, and the score.
    fn answer(&self, backend: &mut dyn Backend) -> (f64, f64, f64) {
        let begun = Instant::now();
        let image = Image::decode(&self.jpeg, &self.limits).unwrap();
        let decoded = Instant::now();
        let predictions = backend.infer(&[Input::Image(Arc::new(image))]).unwrap();
        let Prediction::Score { probability, .. } = &predictions[0] else { panic!("no score") };
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        (millis(decoded - begun), millis(decoded.elapsed()), f64::from(probability.get()))
    }
}

/// Sorted, so that percentiles can be read off.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn of(times: impl IntoIterator<Item = f64>) -> Self {
        let mut times: Vec<f64> = times.into_iter().collect();
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    fn percentile(&self, q: f64) -> f64 {
        let rank = (q * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    fn json(&self) -> Value {
        json!({ "p50_ms": self.percentile(0.5), "p99_ms": self.percentile(0.99) })
    }
}

/// CPU seconds of this process so far.
fn cpu_seconds() -> f64 {
    let stat = fs_err::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / TICKS_PER_S
}

/// One image after the other on one thread; nothing else runs.
fn bare(work: &Work, seconds: f64) -> Value {
    let mut backend = work.backend();
    let begun = Instant::now();
    let mut all = Vec::new();
    while all.len() < 20 || begun.elapsed().as_secs_f64() < seconds {
        all.push(work.answer(&mut *backend));
    }
    json!({
        "score": all[0].2,
        "bare": Times::of(all.iter().map(|(decode, infer, _)| decode + infer)).json(),
        "decode": Times::of(all.iter().map(|(decode, _, _)| *decode)).json(),
        "infer": Times::of(all.iter().map(|(_, infer, _)| *infer)).json(),
    })
}

/// All instances at once.
fn together(work: &Work, seconds: f64) -> Value {
    let ready = Barrier::new(work.instances + 1);
    let (times, took, cpu) = std::thread::scope(|scope| {
        let run = || {
            let mut backend = work.backend();
            ready.wait();
            let begun = Instant::now();
            let mut times = Vec::new();
            while begun.elapsed().as_secs_f64() < seconds {
                let (decode, infer, _) = work.answer(&mut *backend);
                times.push(decode + infer);
            }
            times
        };
        let threads: Vec<_> = (0..work.instances).map(|_| scope.spawn(run)).collect();
        ready.wait();
        let (begun, before) = (Instant::now(), cpu_seconds());
        let times: Vec<f64> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        (times, begun.elapsed().as_secs_f64(), cpu_seconds() - before)
    });
    let images = times.len() as f64;
    let times = Times::of(times);
    json!({
        "threads": work.instances,
        "images_per_s": images / took,
        "cpu_ms_per_image": cpu * 1e3 / images,
        "p50_ms": times.percentile(0.5),
        "p99_ms": times.percentile(0.99),
    })
}

fn main() {
    let args = args();
    let parts = Parts::default();
    let resolved = config::resolve(&args.sources, &parts.names()).unwrap_or_else(|problems| {
        panic!("{problems}");
    });
    App::new(resolved.config.clone(), parts.clone()).prepare_process();
    let jpeg = fs_err::read(&args.image).unwrap();
    let work = Work::new(&resolved.config, &parts, jpeg);
    let mut said = together(&work, args.seconds);
    let alone = bare(&work, args.seconds / 2.0);
    said.as_object_mut().unwrap().extend(alone.as_object().unwrap().clone());
    println!("{said}");
}
