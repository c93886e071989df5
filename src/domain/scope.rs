//! In which namespaces guards and their workloads are looked for.
//!
//! Role: one setting for every watch and list. Inputs: names of namespaces. Outputs: where to ask. Must never import:
//! other rooms.

use std::collections::BTreeSet;

/// In which namespaces guards and their workloads are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    /// In all of the cluster.
    #[default]
    Everywhere,
    /// In these, and nothing is asked of others.
    Namespaces(BTreeSet<String>),
}

impl Scope {
    /// These namespaces, or all if none is named.
    #[must_use]
    pub fn of(names: impl IntoIterator<Item = String>) -> Self {
        let names: BTreeSet<_> = names.into_iter().collect();
        if names.is_empty() { Self::Everywhere } else { Self::Namespaces(names) }
    }

    /// Where to ask, one after the other; `None` is the whole cluster.
    #[must_use]
    pub fn places(&self) -> Vec<Option<&str>> {
        match self {
            Self::Everywhere => vec![None],
            Self::Namespaces(names) => names.iter().map(|name| Some(name.as_str())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_it_is_the_whole_cluster_and_each_name_counts_once() {
        assert_eq!(Scope::of([]).places(), [None]);
        let names = ["shop", "api", "shop"].map(str::to_owned);
        assert_eq!(Scope::of(names).places(), [Some("api"), Some("shop")]);
    }
}
