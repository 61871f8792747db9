//! Running cargo: which one, where, and what it built.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, anyhow, bail};

/// The two programs a cluster is made of.
pub(crate) struct Binaries {
    pub(crate) raftd: PathBuf,
    pub(crate) raftctl: PathBuf,
}

/// The root of the workspace.
pub(crate) fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in a folder of the workspace")
}

/// Where cargo puts what it builds, and where clusters keep their data.
///
/// # Errors
/// If the current directory is gone.
pub(crate) fn target_directory() -> Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => std::path::absolute(directory).context("CARGO_TARGET_DIR cannot be made absolute"),
        None => Ok(workspace_root().join("target")),
    }
}

/// The cargo that runs us, or the one on the path, working in the workspace.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(workspace_root());
    command
}

/// Builds a test program in the profile for them and hands it its arguments; its exit code is ours.
///
/// # Errors
/// If cargo cannot be started.
pub(crate) fn run_in_profile_sim(package: &str, program: &str, arguments: &[String]) -> Result<ExitCode> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--profile", "sim", "-p", package, "--bin", program, "--"]).args(arguments);
    let status = command.status().context("cargo cannot be started")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

/// Builds the server and its client; cargo's own words go to standard error, where the user sees them.
///
/// # Errors
/// If the build fails: cargo has said why.
pub(crate) fn build_servers(release: bool) -> Result<Binaries> {
    let mut command = cargo();
    command.args(["build", "-p", "raftd", "-p", "raftctl", "--message-format=json-render-diagnostics"]);
    if release {
        command.arg("--release");
    }
    let mut build = command.stdout(Stdio::piped()).spawn().context("cargo cannot be started")?;
    let messages = build.stdout.take().expect("standard output is piped just above");
    let mut executables = Vec::new();
    for line in BufReader::new(messages).lines() {
        executables.extend(executable_in(&line.context("cargo's messages cannot be read")?));
    }
    let status = build.wait().context("cargo cannot be waited for")?;
    if !status.success() {
        bail!("the build failed ({status}); nothing was started");
    }
    let find = |name: &str| {
        let found = executables.iter().find(|path| path.file_stem().is_some_and(|stem| stem == name));
        found.cloned().ok_or_else(|| anyhow!("cargo built no program named {name}"))
    };
    Ok(Binaries { raftd: find("raftd")?, raftctl: find("raftctl")? })
}

/// The executable that one of cargo's messages announces, if it does.
fn executable_in(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    message.get("executable")?.as_str().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_executable_in_an_artifact_message_only() {
        let artifact = r#"{"reason":"compiler-artifact","target":{"name":"raftd"},"executable":"/t/debug/raftd"}"#;
        assert_eq!(executable_in(artifact), Some(PathBuf::from("/t/debug/raftd")));
        assert_eq!(executable_in(r#"{"reason":"compiler-artifact","executable":null}"#), None);
        assert_eq!(executable_in("not json"), None);
    }
}
