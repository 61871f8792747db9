//! The programs under test, built once for each test process.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// Where the programs are.
#[derive(Debug)]
pub struct Programs {
    /// The server.
    pub raftd: PathBuf,
    /// Its client.
    pub raftctl: PathBuf,
}

/// The programs, built by cargo on the first call, in the profile of the tests.
///
/// # Panics
/// If they do not build.
pub fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(build)
}

/// The cargo that runs the tests, in the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root());
    command
}

/// The root of the workspace.
///
/// # Panics
/// Never: the tests lie in a folder of it.
pub fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in a folder of the workspace")
}

/// A folder of its own on the disk of the build: `/tmp` may be memory, where an fdatasync costs nothing and shows nothing.
///
/// # Panics
/// If it cannot be made.
pub fn folder() -> TempDir {
    let profile_folder = programs().raftd.parent().expect("a program lies in a folder");
    let parent = profile_folder.parent().expect("the folder of a profile lies in another").join("tmp");
    std::fs::create_dir_all(&parent).expect("the build's own folder can be written");
    tempfile::Builder::new().prefix("it-").tempdir_in(parent).expect("the build's own folder can be written")
}

fn build() -> Programs {
    let mut command = cargo();
    command.args(["build", "-p", "raftd", "-p", "raftctl", "--message-format=json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let mut build = command.stdout(Stdio::piped()).spawn().expect("cargo runs these tests, so it can be run");
    let messages = BufReader::new(build.stdout.take().expect("standard output is piped just above"));
    let executables: Vec<PathBuf> = messages
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok())
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .collect();
    let status = build.wait().expect("cargo was started just above");
    assert!(status.success(), "raftd and raftctl do not build: {status}");
    let find = |name: &str| {
        let found = executables.iter().find(|path| path.file_stem().is_some_and(|stem| stem == name));
        found.unwrap_or_else(|| panic!("cargo built no program named {name}")).clone()
    };
    Programs { raftd: find("raftd"), raftctl: find("raftctl") }
}
