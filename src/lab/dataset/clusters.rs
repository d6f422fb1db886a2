//! Which things belong together when some pairs do: connected components. Pure.

/// A partition of `0..n` that grows coarser.
#[derive(Clone, Debug)]
pub struct Clusters {
    parents: Vec<usize>,
}

impl Clusters {
    /// Everything alone.
    pub fn new(count: usize) -> Self {
        Self { parents: (0..count).collect() }
    }

    /// Puts two things, and all that belongs to either, together.
    pub fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        // The smaller number leads, so the outcome does not depend on the order of the pairs.
        self.parents[a.max(b)] = a.min(b);
    }

    /// Puts together what has the same key; `None` joins nothing.
    pub fn join_equal<K: std::hash::Hash + Eq>(&mut self, keys: impl Iterator<Item = Option<K>>) {
        let mut first = std::collections::HashMap::new();
        for (index, key) in keys.enumerate() {
            if let Some(key) = key {
                let leader = *first.entry(key).or_insert(index);
                self.join(leader, index);
            }
        }
    }

    /// The clusters, each in ascending order, by their first members.
    pub fn into_lists(mut self) -> Vec<Vec<usize>> {
        let mut lists = std::collections::BTreeMap::<usize, Vec<usize>>::new();
        for index in 0..self.parents.len() {
            lists.entry(self.root(index)).or_default().push(index);
        }
        lists.into_values().collect()
    }

    fn root(&mut self, mut index: usize) -> usize {
        while self.parents[index] != index {
            self.parents[index] = self.parents[self.parents[index]];
            index = self.parents[index];
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_one_cluster() {
        let mut clusters = Clusters::new(7);
        for (a, b) in [(5, 3), (1, 6), (3, 1), (2, 2)] {
            clusters.join(a, b);
        }
        clusters.join_equal([Some("x"), None, None, None, Some("x"), None, None].into_iter());
        assert_eq!(clusters.into_lists(), [vec![0, 4], vec![1, 3, 5, 6], vec![2]]);
    }
}
