use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = devenv::keep() {
        return code;
    }
    ExitCode::SUCCESS
}
