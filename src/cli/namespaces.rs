//! `--namespaces`, for whatever looks for guards and workloads.
//!
//! Role: one reading of one flag. Inputs: a flag, the environment. Outputs: a [`Scope`]. Must never import: `console`.

use crate::domain::scope::Scope;

/// Where guards and workloads are looked for.
#[derive(Debug, clap::Args)]
pub struct Namespaces {
    /// Namespaces in which guards and workloads are looked for, separated by commas; all of the cluster if none is named.
    /// With names nothing is asked of other namespaces, so that Roles in these suffice.
    #[arg(long, env = "DEPLOYMENT_GUARD_NAMESPACES", value_name = "NAMES", value_delimiter = ',', value_parser = name)]
    namespaces: Vec<String>,
}

impl Namespaces {
    /// What was named.
    pub fn scope(&self) -> Scope {
        Scope::of(self.namespaces.iter().cloned())
    }
}

fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_name = !text.is_empty() && text.len() <= 63 && text.chars().all(fits);
    if is_name { Ok(text.to_owned()) } else { Err("this cannot be the name of a namespace".to_owned()) }
}
