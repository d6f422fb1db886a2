//! What this process holds: memory, threads, open files.

use fs_err as fs;

/// Threads and open files may differ by so many from one moment to another.
const HANDFUL: usize = 12;

/// Resident memory may grow by a tenth and this.
const GROWTH_KIB: usize = 32 * 1024;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Vitals {
    pub(crate) rss_kib: usize,
    pub(crate) threads: usize,
    pub(crate) files: usize,
}

impl Vitals {
    /// As they are now. Linux only.
    pub(crate) fn take() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap()
        };
        let files = fs::read_dir("/proc/self/fd").unwrap().count();
        Self { rss_kib: number("VmRSS:"), threads: number("Threads:"), files }
    }

    /// The same without the files of so many connections, both ends of which are here.
    pub(crate) fn without(self, connections: usize) -> Self {
        Self { files: self.files.saturating_sub(2 * connections), ..self }
    }

    /// Whether these are no more than those were, but for noise.
    pub(crate) fn are_flat_since(&self, before: &Self) -> bool {
        self.rss_kib <= before.rss_kib + before.rss_kib / 10 + GROWTH_KIB
            && self.threads <= before.threads + HANDFUL
            && self.files <= before.files + HANDFUL
    }
}

impl std::fmt::Display for Vitals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rss_kib, threads, files } = self;
        write!(f, "{:.1} MiB, {threads} threads, {files} files", *rss_kib as f64 / 1024.0)
    }
}
