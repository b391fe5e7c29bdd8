//! Metrics that are counted again and again.

use std::sync::OnceLock;

/// Remembers members of a family of metrics by their labels, the first ones that are asked for. To look one up in the family takes a
/// lock and a hash of all labels, and is done several times for each exchange.
pub struct Known<K, M, const N: usize = 8>([OnceLock<(K, M)>; N]);

impl<K, M, const N: usize> Default for Known<K, M, N> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; N])
    }
}

impl<K: Copy + Eq, M, const N: usize> Known<K, M, N> {
    /// Does something with the member that has these labels; `find` takes it from the family.
    pub fn with<T>(&self, labels: K, find: impl Fn() -> M, then: impl FnOnce(&M) -> T) -> T {
        for slot in &self.0 {
            let (known, metric) = slot.get_or_init(|| (labels, find()));
            if *known == labels {
                return then(metric);
            }
        }
        then(&find())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_label_has_its_own_and_those_that_find_no_room_are_found_anew() {
        let known = Known::<&str, String, 2>::default();
        for _ in 0..2 {
            for label in ["a", "b", "c"] {
                known.with(label, || label.to_uppercase(), |found| assert_eq!(*found, label.to_uppercase()));
            }
        }
        let nobody = || unreachable!("it is known");
        known.with("a", nobody, |found| assert_eq!(found, "A"));
    }
}
