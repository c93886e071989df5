//! A real Kubernetes in private namespaces, for the demo, the tests and the benches.
//! For people it is the program `testbed`; for tests the modules [`cluster`], [`shop`], [`oracle`] and [`llm`].

pub mod build;
pub mod cache;
pub mod cgroup;
pub mod cli;
pub mod cluster;
pub mod gguf;
pub mod images;
pub mod inner;
pub mod llm;
pub mod need;
pub mod operator;
pub mod oracle;
pub mod outer;
pub mod registry;
pub mod shop;
