//! The testbed as a program; everything is in the library.

fn main() -> std::process::ExitCode {
    testbed::cli::main()
}
