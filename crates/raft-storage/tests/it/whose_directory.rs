//! A directory is one server's, and one process's at a time (rule 2).

use raft_core::{ClusterId, Configuration};
use raft_storage::{Formation, FsDisk, MemDisk, OpenError, Options, Storage, read_log};

use crate::common::{FIRST_SEGMENT, node, options, recover, reopen};

#[test]
fn a_second_server_on_the_directory_is_told_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let held = FsDisk::open(directory.path()).unwrap();
    for refused in [FsDisk::open(directory.path()), FsDisk::open_read_only(directory.path())] {
        let error = refused.unwrap_err();
        let expected = format!(
            "{} is in use by process {}; stop it first, or choose another --data-dir",
            directory.path().display(),
            std::process::id()
        );
        assert_eq!(error.to_string(), expected);
    }
    let (storage, _) = Storage::open(held, Options::new(node(1))).unwrap();
    FsDisk::open(directory.path()).unwrap_err();
    drop(storage);
    FsDisk::open(directory.path()).unwrap();
}

#[test]
fn reading_a_directory_that_is_not_there_or_new_says_so_and_makes_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let missing = parent.path().join("missing");
    assert!(matches!(FsDisk::open_read_only(&missing), Err(OpenError::Io { action: "read", .. })));
    assert!(!missing.exists());
    let empty = FsDisk::open_read_only(parent.path()).unwrap();
    assert!(matches!(read_log(empty), Err(OpenError::NotInitialised { .. })));
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_look_in() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    drop(Storage::open(FsDisk::open(&path).unwrap(), Options::new(node(1))).unwrap());
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in std::fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}

#[test]
fn the_directory_of_another_node_is_refused_with_its_cluster() {
    let disk = MemDisk::new();
    let (mut storage, _) = reopen(&disk, 1);
    let formation = Formation { cluster: ClusterId(0xabc), configuration: Configuration::default(), formed: true };
    storage.write_formation(formation).unwrap();
    drop(storage);
    let calls = disk.calls();
    let error = Storage::open(disk.clone(), Options { node: node(2), ..options(2) }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "memory belongs to node n1 of cluster 00000000000000000000000000000abc, not to node n2; start it with --id 1, \
         or choose another --data-dir"
    );
    assert_eq!(disk.calls(), calls);
}

#[test]
fn a_file_of_another_disk_is_refused() {
    let (ours, theirs) = (MemDisk::new(), MemDisk::new());
    reopen(&ours, 1);
    let (mut other, _) = reopen(&theirs, 2);
    let formation = Formation { cluster: ClusterId(1), configuration: Configuration::default(), formed: true };
    other.write_formation(formation).unwrap();
    for name in ["hard-state", FIRST_SEGMENT, "formation"] {
        let mixed = ours.copy();
        mixed.set_contents(name, theirs.contents(name).unwrap());
        let Err(OpenError::ForeignFile { path, .. }) = recover(&mixed) else { panic!("{name} was taken") };
        assert_eq!(path, format!("memory/{name}"));
    }
}

/// A later version with a right checksum is not damage.
#[test]
fn a_file_of_another_version_is_refused_by_that_name() {
    let ours = MemDisk::new();
    reopen(&ours, 1);
    let identity_end = ours.contents("identity").unwrap().len() - 4;
    for (name, slots, covered) in
        [("hard-state", vec![0, 4096], 508), (FIRST_SEGMENT, vec![0], 508), ("identity", vec![0], identity_end)]
    {
        let future = ours.copy();
        let mut bytes = ours.contents(name).unwrap();
        for at in slots {
            bytes[at + 8] = 9;
            let crc = crc32c::crc32c(&bytes[at..at + covered]);
            bytes[at + covered..at + covered + 4].copy_from_slice(&crc.to_le_bytes());
        }
        future.set_contents(name, bytes);
        let Err(error @ OpenError::UnknownVersion { .. }) = recover(&future) else { panic!("{name} was taken") };
        assert_eq!(
            error.to_string(),
            format!("memory/{name} has format version 9, this program knows version 1; use the program that wrote it")
        );
    }
}
