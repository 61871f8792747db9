//! Runs the scripts in `tests/scripts/`, a test a folder.
//!
//! Their output is recorded with `UPDATE_GOLDENFILES=1 cargo test -p raft-core`, then read by a person.

use std::path::{Path, PathBuf};

use crate::script::Script;

fn run_folder(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(folder);
    let mut scripts: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "{} holds no script", folder.display());
    let failed: Vec<&PathBuf> = scripts
        .iter()
        .filter(|path| {
            let run = || goldenscript::run(&mut Script::default(), path).unwrap();
            std::panic::catch_unwind(run).is_err()
        })
        .collect();
    assert!(failed.is_empty(), "{failed:#?} failed, see above");
}

macro_rules! folders {
    ($($folder:ident),*) => {$(
        #[test]
        fn $folder() {
            run_folder(stringify!($folder));
        }
    )*};
}

folders!(
    disk_health,
    durability,
    election,
    flow,
    membership,
    misbehaviour,
    paper,
    reads,
    replication,
    snapshot,
    transfer
);
