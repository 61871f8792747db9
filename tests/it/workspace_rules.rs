//! The rules of the house (ARCHITECTURE): who may know whom, and what nobody may do.

use std::collections::BTreeMap;

use raftd_tests::programs::workspace_root;
use raftd_tests::workspace::{Package, built_with, packages, sources};

/// What lies in `tests` may know anybody.
const TESTS: &[&str] = &["raftd-tests", "raftd-sim", "raftd-model", "raftd-differential"];

/// Who may know whom.
const ARROWS: &[(&str, &[&str])] = &[
    ("raft-core", &[]),
    ("kv-store", &[]),
    ("raft-storage", &["raft-core"]),
    ("raft-net", &["raft-core"]),
    ("raft-node", &["raft-core", "raft-storage", "raft-net"]),
    ("kv-client", &["kv-store", "raft-net"]),
    ("raftd", &["raft-node", "kv-store", "raft-net", "raft-storage", "raft-core"]),
    ("raftctl", &["kv-client", "kv-store"]),
    ("xtask", &["kv-client"]),
];

#[test]
fn every_arrow_between_crates_is_an_agreed_one() {
    let agreed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let packages = packages();
    let ours: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    for package in packages.iter().filter(|package| !TESTS.contains(&package.name.as_str())) {
        let name = package.name.as_str();
        let allowed =
            agreed.get(name).unwrap_or_else(|| panic!("{name} is new: decide whom it may know, and write it here"));
        for dependency in package.dependencies.iter().filter(|dependency| ours.contains(&dependency.name.as_str())) {
            // A crate may name itself among the needs of its tests, to switch one of its features on.
            let is_itself = dependency.name == name && dependency.is_for_tests;
            let known = dependency.name.as_str();
            assert!(is_itself || allowed.contains(&known), "{name} must not know {known}");
        }
    }
    for name in agreed.keys() {
        assert!(ours.contains(name), "{name} is agreed on and not there");
    }
}

/// A client must not drag the protocol along: raft-net knows raft-core through its feature `peer` only.
#[test]
fn clients_are_built_without_the_protocol() {
    let packages = packages();
    let find = |name: &str| packages.iter().find(|package| package.name == name).unwrap();
    let core = find("raft-net").dependencies.iter().find(|dependency| dependency.name == "raft-core").unwrap();
    assert!(core.is_optional, "raft-net needs raft-core only with feature `peer`");
    let net = find("kv-client").dependencies.iter().find(|dependency| dependency.name == "raft-net").unwrap();
    assert!(!net.features.iter().any(|feature| feature == "peer"), "kv-client must not switch `peer` on");

    for client in ["kv-client", "raftctl"] {
        let built: Vec<String> = built_with(client, "").into_iter().map(|(name, _)| name).collect();
        assert!(built.iter().any(|name| name == "raft-net"), "{client}: {built:?}");
        assert!(!built.iter().any(|name| name == "raft-core"), "{client} is built with raft-core");
    }
    let with_peer: Vec<String> = built_with("raft-net", "peer").into_iter().map(|(name, _)| name).collect();
    assert!(with_peer.iter().any(|name| name == "raft-core"), "feature `peer` brings raft-core: {with_peer:?}");
}

/// raft-core takes no I/O, clock, thread or randomness from anywhere, because it has no `std` to take it from.
#[test]
fn the_core_is_no_std_and_so_is_all_it_needs() {
    let library = std::fs::read_to_string(workspace_root().join("crates/raft-core/src/lib.rs")).unwrap();
    assert!(library.lines().any(|line| line == "#![no_std]"), "raft-core is #![no_std]");
    for source in sources(&workspace_root().join("crates/raft-core/src")) {
        let text = std::fs::read_to_string(&source).unwrap();
        let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_test_file = source.ends_with("tests.rs") || source.components().any(|part| part.as_os_str() == "tests");
        assert!(is_test_file || !before_tests.contains("extern crate std"), "{} takes std in", source.display());
    }
    for (name, features) in built_with("raft-core", "") {
        assert!(!features.iter().any(|feature| feature == "std"), "raft-core is built with {name}, which has `std` on");
    }
}

#[test]
fn no_package_can_be_published_by_accident_and_all_share_the_lints() {
    for Package { name, manifest, is_published, .. } in packages() {
        assert!(!is_published, "{name}: names like raft-core belong to strangers in the public registry");
        let text = std::fs::read_to_string(&manifest).unwrap();
        assert!(text.contains("[lints]\nworkspace = true"), "{name} does not take the workspace's lints");
    }
}

/// A `clippy.toml` in a crate hides the root's completely, so it must repeat its keys, and ban what the crate bans more.
#[test]
fn the_deterministic_crates_ban_clocks_and_random_order() {
    for name in ["raft-core", "kv-store"] {
        let path = workspace_root().join("crates").join(name).join("clippy.toml");
        let text = std::fs::read_to_string(path).unwrap();
        for banned in ["std::time::SystemTime::now", "std::time::Instant::now", "std::collections::HashMap"] {
            assert!(text.contains(&format!("path = \"{banned}\"")), "{name} does not ban {banned}");
        }
    }
    let root = std::fs::read_to_string(workspace_root().join("clippy.toml")).unwrap();
    assert!(root.contains("std::time::SystemTime::now"), "the wall clock is banned everywhere (rule 6)");
}

/// The lints that keep bad input from killing a server are switched off nowhere but in tests, and never silently.
#[test]
fn nothing_unsafe_nothing_ignored_nothing_slept() {
    for folder in ["crates", "tests", "xtask"] {
        for source in sources(&workspace_root().join(folder)) {
            let text = std::fs::read_to_string(&source).unwrap();
            // Put together, so that this file does not find itself.
            for banned in [
                concat!("#[", "ignore"),
                concat!("allow(", "unsafe_code"),
                concat!("to", "do!("),
                concat!("unimplemented", "!("),
            ] {
                assert!(!text.contains(banned), "{} contains {banned}", source.display());
            }
            let is_test = folder == "tests" || source.components().any(|part| part.as_os_str() == "tests");
            let sleeps = concat!("thread::", "sleep");
            assert!(!is_test || !text.contains(sleeps), "{} waits by the clock", source.display());
        }
    }
}

/// What the README and the docs point to is there.
#[test]
fn no_link_in_the_documentation_is_broken() {
    let root = workspace_root();
    let mut pages = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    for folder in ["docs", "docs/adr"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.contains(' ') {
                continue;
            }
            assert!(page.parent().unwrap().join(file).exists(), "{}: {target} is not there", page.display());
        }
    }
}
