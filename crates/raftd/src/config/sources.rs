//! Where settings come from: flags, then `RAFTD_*` variables, then the file, then defaults.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::error::{ConfigError, Problem};
use super::setting::{Setting, VARIABLE_PREFIX, nearest};
use crate::units::shorten;

/// The variable for `--config`, which names a file and so is no setting in it.
const CONFIG_VARIABLE: &str = "RAFTD_CONFIG";

/// A value as it was given, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Of what.
    pub setting: Setting,
    /// The value.
    pub text: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Nowhere.
    Default,
}

/// `--listen x`, `RAFTD_LISTEN=x`, `raftd.toml:3: listen = x`, `listen x (the default)`.
impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = shorten(&self.text);
        match &self.origin {
            Origin::Flag => write!(f, "--{} {text}", self.setting),
            Origin::Environment => write!(f, "{}={text}", self.setting.variable()),
            Origin::File { path, line } => write!(f, "{}:{line}: {} = {text}", path.display(), self.setting),
            Origin::Default => write!(f, "{} {text} (the default)", self.setting),
        }
    }
}

impl Given {
    /// The error that this value has `problem`.
    pub(super) fn refused(&self, problem: impl Into<Problem>) -> ConfigError {
        ConfigError::Invalid { given: Box::new(self.clone()), problem: problem.into() }
    }

    /// The value, read by `parse`.
    pub(super) fn parse<T, E: Into<Problem>>(&self, parse: impl Fn(&str) -> Result<T, E>) -> Result<T, ConfigError> {
        parse(&self.text).map_err(|error| self.refused(error))
    }
}

/// The values of one source.
pub(crate) type Layer = BTreeMap<Setting, Given>;

/// Lays `layers` over each other, the first on top, with the defaults at the bottom.
pub(super) fn merge(layers: impl IntoIterator<Item = Layer>) -> Layer {
    let mut merged = Layer::new();
    for layer in layers.into_iter().chain([defaults()]) {
        for (setting, given) in layer {
            merged.entry(setting).or_insert(given);
        }
    }
    merged
}

fn defaults() -> Layer {
    let given = |setting: Setting| {
        let text = setting.default()?.to_owned();
        Some((setting, Given { setting, text, origin: Origin::Default }))
    };
    Setting::ALL.into_iter().filter_map(given).collect()
}

/// What the environment says.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// The settings in it.
    pub(super) layer: Layer,
    /// The configuration file's name, if it has one.
    pub(super) config: Option<PathBuf>,
}

/// Reads the `RAFTD_*` variables. One that is set to nothing counts as not set, as compose files write it.
pub(super) fn read_environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Environment, ConfigError> {
    // By name, so that of several mistakes the same one is reported each time.
    let ours: BTreeMap<String, OsString> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, value)| name.starts_with(VARIABLE_PREFIX) && !value.is_empty())
        .collect();
    let mut environment = Environment::default();
    for (name, value) in ours {
        if name == CONFIG_VARIABLE {
            environment.config = Some(PathBuf::from(value));
            continue;
        }
        let Some(setting) = Setting::ALL.into_iter().find(|setting| setting.variable() == name) else {
            if is_service_link(&name) {
                continue;
            }
            let suggestion = nearest_variable(&name);
            return Err(ConfigError::UnknownVariable { name: shorten(&name), suggestion });
        };
        let Ok(text) = value.into_string() else {
            return Err(ConfigError::VariableNotUnicode { name });
        };
        environment.layer.insert(setting, Given { setting, text, origin: Origin::Environment });
    }
    Ok(environment)
}

/// Compared without the prefix, which all have in common.
fn nearest_variable(name: &str) -> Option<String> {
    let bare = |name: &str| name.strip_prefix(VARIABLE_PREFIX).unwrap_or(name).to_owned();
    let known = Setting::ALL.into_iter().map(|setting| bare(&setting.variable()));
    nearest(&bare(name), known.chain([bare(CONFIG_VARIABLE)])).map(|bare| format!("{VARIABLE_PREFIX}{bare}"))
}

/// Whether a variable is one of those that container platforms set for a *service* called `raftd` or `raftd-..`:
/// `RAFTD_SERVICE_HOST`, `RAFTD_SERVICE_PORT`, `RAFTD_PORT`, `RAFTD_PORT_7001_TCP_ADDR`. The operator did not write
/// them and can hardly unset them, and none of our names looks like that.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_PORT")
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.split_once("_PORT_").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
}
