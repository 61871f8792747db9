//! A few seeds within `cargo test`, and that a seed gives one run.

use crate::run::play;
use crate::scenario::Scenario;

#[test]
fn some_seeds_pass() {
    for seed in 0..6 {
        let ended = play(&Scenario::of(seed, Some(200)), false);
        assert_eq!(
            ended.violation.map(|violation| violation.to_string()),
            None,
            "seed {seed}; cargo xtask sim --seed {seed} --ops 200"
        );
    }
}

#[test]
fn a_seed_gives_one_run() {
    let play_one = |seed, keeps_lines| play(&Scenario::of(seed, Some(300)), keeps_lines);
    let (once, again) = (play_one(11, true), play_one(11, true));
    assert_eq!(once.lines, again.lines);
    assert_eq!(once.digest, again.digest);
    assert_eq!(once.digest, play_one(11, false).digest, "keeping the trace changes nothing");
    assert_ne!(once.digest, play_one(12, false).digest);
}
