//! Which orders are equal to one that was run before.

use super::steps::{Thing, Touched, overlap};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

/// What has happened, without the order of steps that commute: the same number for equal orders, whatever the PIDs.
#[derive(Default)]
pub struct Past {
    /// Of each thing: the sum of all steps that have changed it, and of all that have only read it.
    things: BTreeMap<Thing, (u64, u64)>,
    /// Of each process: the sum of its steps.
    steps: BTreeMap<String, u64>,
    all: u64,
}

impl Past {
    /// The sum of all steps. Sums do not depend on the order in which they were added up.
    pub fn sum(&self) -> u64 {
        self.all
    }

    /// Adds a step. Its number depends on its process, on the earlier steps of that process, and on the earlier steps
    /// that it does not commute with. These changed what it touches, or read what it changes.
    pub fn add(&mut self, process: &str, touched: &Touched) {
        let own = self.steps.entry(process.into()).or_default();
        let mut hasher = DefaultHasher::new();
        (process, *own).hash(&mut hasher);
        for (thing, changed) in touched {
            let met = self.things.iter().filter(|(other, _)| overlap(*thing, **other)).map(|(_, steps)| steps);
            let sum = met.fold(0_u64, |sum, (changes, reads)| {
                sum.wrapping_add(*changes).wrapping_add(if *changed { *reads } else { 0 })
            });
            sum.hash(&mut hasher);
        }
        let step = hasher.finish();
        *own = own.wrapping_add(step);
        self.all = self.all.wrapping_add(step);
        for (thing, changed) in touched {
            let (changes, reads) = self.things.entry(*thing).or_default();
            let sum = if *changed { changes } else { reads };
            *sum = sum.wrapping_add(step);
        }
    }
}
