//! Sums by key, where many additions in a row concern few keys.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// A map that finds what was added to lately without a look-up: hashing a key costs more than all the rest of an
/// addition, and the next record of a busy gateway is often of the same tenant, key and route.
pub(super) struct Tally<K, V> {
    places: HashMap<K, usize, RandomState>,
    sums: Vec<(K, V)>,
    /// Places of keys that came lately; as many as a record commonly has charges.
    recent: [usize; 4],
    /// Which of them gives way next.
    turn: usize,
}

// === impl Tally ===

impl<K: Copy + Eq + Hash, V: Default> Tally<K, V> {
    /// The sum of `key`; a new one if there is none.
    pub(super) fn of(&mut self, key: K) -> &mut V {
        let is_its = |place: &usize| self.sums.get(*place).is_some_and(|(known, _)| *known == key);
        let recent = self.recent.iter().copied().find(is_its);
        let place = recent.unwrap_or_else(|| self.look_up(key));
        &mut self.sums[place].1
    }

    fn look_up(&mut self, key: K) -> usize {
        let place = *self.places.entry(key).or_insert_with(|| {
            self.sums.push((key, V::default()));
            self.sums.len() - 1
        });
        self.recent[self.turn] = place;
        self.turn = (self.turn + 1) % self.recent.len();
        place
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.sums.iter()
    }
}

impl<K, V> Default for Tally<K, V> {
    fn default() -> Self {
        Tally { places: HashMap::default(), sums: Vec::new(), recent: [0; 4], turn: 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::Tally;

    #[test]
    fn each_key_has_one_sum_whatever_came_between() {
        let mut tally: Tally<u32, u64> = Tally::default();
        let mut counted: HashMap<u32, u64> = HashMap::new();
        // Runs of one key, a few by turns, and many: those that the recent ones hold and those that they don't.
        let runs =
            (0..100).map(|at| at / 10).chain((0..100).map(|at| at % 3)).chain((0..100).map(|at| at * 7 % 31));
        for key in runs {
            *tally.of(key) += 1;
            *counted.entry(key).or_default() += 1;
        }
        assert_eq!(tally.iter().count(), counted.len());
        assert_eq!(tally.iter().copied().collect::<HashMap<_, _>>(), counted);
    }
}
