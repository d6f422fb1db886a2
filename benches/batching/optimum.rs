//! The most jobs that anybody could have answered in time, knowing every arrival beforehand.
//!
//! Exact for one instance and callers who all wait equally long. Then an earlier job has an earlier deadline,
//! so some best schedule serves in order of arrival, and the batch of `m` that ends with job `j` may as well be
//! the `m` latest up to `j`: the start is bound by `j` alone, and later jobs have later deadlines. What is left
//! is one table: the soonest that the instance is free when the first `j` jobs are decided and `d` of them
//! have been given up. Giving up one more is of no use once it is free before the next job comes.

use std::collections::VecDeque;

use super::curve::Curve;
use super::traffic::Job;

/// For a number of jobs: the least that have to be given up, then the soonest end for that many, for one more,
/// and so on.
struct Row {
    least: usize,
    ends: Vec<u64>,
}

impl Row {
    /// The soonest end if `dropped` are given up; giving up more than is of use is as good as the last.
    fn end(&self, dropped: usize) -> Option<u64> {
        let at = dropped.checked_sub(self.least)?;
        self.ends.get(at).or(self.ends.last()).copied()
    }
}

/// How many of `jobs`, which come in order and wait equally long, can be answered in time and before the last
/// one comes.
pub(crate) fn optimum(jobs: &[Job], curve: &Curve, limit: usize) -> usize {
    let horizon = jobs.last().map_or(0, |job| job.arrival);
    let mut rows = VecDeque::from([Row { least: 0, ends: vec![0] }]);
    for (index, job) in jobs.iter().enumerate() {
        let next = jobs.get(index + 1).map_or(u64::MAX, |next| next.arrival);
        // The job is given up, or ends a batch of `size`.
        let best = |dropped: usize| {
            let given_up = dropped.checked_sub(1).and_then(|d| rows[rows.len() - 1].end(d));
            let batches = (1..=limit.min(index + 1)).filter_map(|size| {
                let end = rows[rows.len() - size].end(dropped)?.max(job.arrival) + curve.ns(size);
                (end <= jobs[index + 1 - size].deadline.min(horizon)).then_some(end)
            });
            batches.chain(given_up).min()
        };
        let before = rows[rows.len() - 1].least;
        let feasible = (before..=index + 1).find_map(|d| Some((d, best(d)?)));
        // To give up everybody is always possible.
        let (least, end) = feasible.unwrap_or((index + 1, 0));
        let mut ends = vec![end];
        while ends[ends.len() - 1] > next && least + ends.len() <= index + 1 {
            ends.push(best(least + ends.len()).unwrap_or(end));
        }
        rows.push_back(Row { least, ends });
        if rows.len() > limit {
            rows.pop_front();
        }
    }
    jobs.len() - rows.back().map_or(0, |row| row.least)
}
