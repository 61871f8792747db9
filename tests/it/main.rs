//! What crosses crates, as one test binary: the rules of the workspace, and scenarios with real processes.

mod workspace_rules;
