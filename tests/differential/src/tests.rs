//! The scripts that every `cargo test` plays.

use crate::script::make_up;

#[test]
fn both_do_the_same() {
    for seed in 0..10_000 {
        let (script, outcome) = make_up(seed);
        match outcome {
            Ok(tally) => assert!(tally.leader_changes > 0 && tally.truncations > 0, "seed {seed}: {tally:?}"),
            Err(difference) => panic!(
                "seed {seed}: of {} events, after \"{}\" they differ at {}\n\
                 cargo xtask differential --seed {seed} makes it smaller",
                script.events.len(),
                difference.event,
                difference.what
            ),
        }
    }
}
