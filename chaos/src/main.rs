//! `steward-chaos`: breaks a fleet on purpose, and looks whether every promise is kept.

fn main() -> std::process::ExitCode {
    chaos::run()
}
