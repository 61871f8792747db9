//! Makes a failing scenario smaller: fewer faults, fewer operations, fewer servers, as long as the same property fails.

use crate::run::play;
use crate::scenario::{PlannedFault, Scenario};

/// So many runs are tried at most.
const MAX_RUNS: usize = 200;

/// The smallest failing scenario found, and which faults of the seed's it keeps.
#[derive(Debug)]
pub(crate) struct Shrunk {
    pub(crate) scenario: Scenario,
    pub(crate) kept: Vec<usize>,
}

struct Shrinker {
    property: &'static str,
    all: Vec<PlannedFault>,
    best: Shrunk,
    runs: usize,
}

/// Shrinks `scenario`, which fails `property`.
pub(crate) fn shrink(scenario: &Scenario, property: &'static str) -> Shrunk {
    let kept: Vec<usize> = (0..scenario.faults.len()).collect();
    let best = Shrunk { scenario: scenario.clone(), kept };
    let mut shrinker = Shrinker { property, all: scenario.faults.clone(), best, runs: 0 };
    shrinker.drop_faults();
    shrinker.halve_operations();
    shrinker.drop_faults();
    shrinker.take_fewer_nodes();
    shrinker.best
}

impl Shrinker {
    /// Takes a smaller scenario if it still fails.
    fn try_it(&mut self, scenario: Scenario, kept: Vec<usize>) -> bool {
        if self.runs >= MAX_RUNS {
            return false;
        }
        self.runs += 1;
        let fails = play(&scenario, false).violation.is_some_and(|violation| violation.property == self.property);
        if fails {
            self.best = Shrunk { scenario, kept };
        }
        fails
    }

    /// Leaves out ever smaller groups of faults (Zeller & Hildebrandt's delta debugging, its greedy half).
    fn drop_faults(&mut self) {
        let mut group = self.best.kept.len().div_ceil(2);
        while group > 0 {
            let mut from = 0;
            while from < self.best.kept.len() {
                let mut kept = self.best.kept.clone();
                let until = (from + group).min(kept.len());
                kept.drain(from..until);
                let mut scenario = self.best.scenario.clone();
                scenario.faults = kept.iter().filter_map(|&place| self.all.get(place).copied()).collect();
                if !self.try_it(scenario, kept) {
                    from += group;
                }
            }
            group /= 2;
        }
    }

    fn halve_operations(&mut self) {
        while self.best.scenario.operations > 1 {
            let mut scenario = self.best.scenario.clone();
            scenario.operations /= 2;
            let kept = self.best.kept.clone();
            if !self.try_it(scenario, kept) {
                return;
            }
        }
    }

    fn take_fewer_nodes(&mut self) {
        for nodes in [3, 5] {
            if nodes < self.best.scenario.nodes {
                let mut scenario = self.best.scenario.clone();
                scenario.nodes = nodes;
                let kept = self.best.kept.clone();
                if self.try_it(scenario, kept) {
                    return;
                }
            }
        }
    }
}
