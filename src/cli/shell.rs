//! `deployment-guard completion` and `man`: what a shell and `man` know of the commands.
//!
//! Role: scripts and pages made from the same definitions as `--help`. Inputs: the command line's own description. Outputs:
//! text or files; 0, or 2 if a file cannot be written. Must never import: `console`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap_complete::{Generator, Shell};

use super::terminal::write;

/// Print a script that completes commands in a shell.
#[derive(Debug, clap::Args)]
pub struct CompletionArguments {
    /// Which shell.
    #[arg(value_enum)]
    shell: Known,
}

/// Shells that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

/// Print the manual page, or write one for each command.
#[derive(Debug, clap::Args)]
pub struct ManArguments {
    /// Write a page for each command into this folder instead of printing the first.
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Prints the script.
pub fn complete(arguments: &CompletionArguments) -> ExitCode {
    let shell = match arguments.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let mut command = super::command_line().name(file()).bin_name(file());
    command.build();
    let mut script = Vec::new();
    shell.generate(&command, &mut script);
    match write(&String::from_utf8_lossy(&script)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(super::USAGE),
    }
}

/// Prints or writes the manual.
pub fn manual(arguments: &ManArguments) -> anyhow::Result<ExitCode> {
    let command = super::command_line().name(file()).bin_name(file());
    let Some(folder) = &arguments.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        write(&String::from_utf8_lossy(&page))?;
        return Ok(ExitCode::SUCCESS);
    };
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    clap_mangen::generate_to(command, folder).with_context(|| format!("cannot write into {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The program as a file: shells and `man` know nothing of plugins of kubectl.
fn file() -> &'static str {
    if super::program() == "kubectl guard" { super::PLUGIN } else { super::program() }
}
