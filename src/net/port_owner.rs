//! Who listens on a port of this host: read from `/proc`, which may hide other users' processes.

use std::{fmt, fs};

/// The program behind a listening port, as far as it can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    Process { pid: u32, name: String },
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name } => write!(f, "{name} (pid {pid})"),
            Self::Unknown => f.write_str("another program"),
        }
    }
}

pub(crate) fn holder_of(port: u16) -> Holder {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let Ok(processes) = fs::read_dir("/proc") else { return Holder::Unknown };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()));
        if holds {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default().trim().to_owned();
            return Holder::Process { pid, name };
        }
    }
    Holder::Unknown
}

/// Inodes of sockets in state LISTEN (0A) on the port.
fn listening(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.len() > 9 && fields[1].ends_with(&suffix) && fields[3] == "0A").then(|| fields[9].to_owned())
        })
        .collect()
}
