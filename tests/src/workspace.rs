//! The workspace as cargo sees it, for the tests of its rules.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::programs::cargo;

/// One package of the workspace, as its manifest declares it.
#[derive(Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its manifest.
    pub manifest: PathBuf,
    /// Whether it may go to the public registry.
    pub is_published: bool,
    /// What it declares to need, for whatever purpose.
    pub dependencies: Vec<Dependency>,
}

/// One declared dependency.
#[derive(Clone, Debug)]
pub struct Dependency {
    /// The package needed.
    pub name: String,
    /// Whether only its own tests need it.
    pub is_for_tests: bool,
    /// Whether only a feature brings it.
    pub is_optional: bool,
    /// The features asked for.
    pub features: Vec<String>,
    /// Whether the default features are asked for too.
    pub with_default_features: bool,
}

/// The packages of the workspace.
///
/// # Panics
/// If cargo cannot say.
pub fn packages() -> Vec<Package> {
    let output =
        cargo().args(["metadata", "--no-deps", "--format-version", "1"]).output().expect("cargo runs these tests");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    list(&metadata, "packages").map(package).collect()
}

/// What a package is built with for its users, itself left out: `name [feature,..]` of each, features resolved for it alone.
///
/// # Panics
/// If cargo cannot say.
pub fn built_with(package: &str, features: &str) -> Vec<(String, Vec<String>)> {
    let output = cargo()
        .args(["tree", "-p", package, "--features", features, "--edges", "normal", "--prefix", "none"])
        .args(["--no-dedupe", "--format", "{p}|{f}"])
        .output()
        .expect("cargo runs these tests");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |line: &str| {
        let (name, features) = line.split_once('|')?;
        let name = name.split(' ').next()?.to_owned();
        Some((name, features.split(',').filter(|feature| !feature.is_empty()).map(str::to_owned).collect()))
    };
    text.lines().filter_map(line).filter(|(name, _)| name != package).collect()
}

/// All Rust sources below `folder`.
///
/// # Panics
/// If the folder cannot be read.
pub fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.map_while(Result::ok).map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn package(value: &Value) -> Package {
    Package {
        name: text(value, "name"),
        manifest: PathBuf::from(text(value, "manifest_path")),
        // `null` is "anywhere", an empty list is `publish = false`.
        is_published: value.get("publish").and_then(Value::as_array).is_none_or(|registries| !registries.is_empty()),
        dependencies: list(value, "dependencies").map(dependency).collect(),
    }
}

fn dependency(value: &Value) -> Dependency {
    Dependency {
        name: text(value, "name"),
        is_for_tests: value.get("kind").and_then(Value::as_str) == Some("dev"),
        is_optional: value.get("optional").and_then(Value::as_bool) == Some(true),
        features: list(value, "features").filter_map(Value::as_str).map(str::to_owned).collect(),
        with_default_features: value.get("uses_default_features").and_then(Value::as_bool) == Some(true),
    }
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("cargo metadata has no {key} here")).to_owned()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}
