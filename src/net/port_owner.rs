//! Which program listens on a port of this host, from `/proc`, which may hide other users' processes.

use std::{
    fmt, fs,
    net::{IpAddr, SocketAddr},
};

/// The program behind a listening port, as far as it is visible.
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
        .flat_map(|table| rows(&table, port).map(|row| format!("socket:[{}]", row.inode)).collect::<Vec<_>>())
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

/// Where programs listen on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listening {
    Nowhere,
    /// On loopback addresses alone, which other hosts and containers do not reach.
    Loopback,
    /// On another address, or on all.
    Everywhere,
}

pub(crate) fn listening_on(port: u16) -> Listening {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    of_addresses(tables.iter().flat_map(|table| rows(table, port)).map(|row| row.address))
}

fn of_addresses<'a>(addresses: impl Iterator<Item = &'a str>) -> Listening {
    // In the kernel's spelling: words of four bytes, in the byte order of the machine.
    let four = format!("{:08X}", u32::from_ne_bytes([127, 0, 0, 1]));
    let six = format!("{}{:08X}", "0".repeat(24), u32::from_ne_bytes([0, 0, 0, 1]));
    addresses.fold(Listening::Nowhere, |found, address| match found {
        Listening::Everywhere => found,
        _ if address == four || address == six => Listening::Loopback,
        _ => Listening::Everywhere,
    })
}

/// The inode of the socket at `here` that is connected to `there`. A program may use one local port for several connections.
pub(super) fn inode_of(here: SocketAddr, there: SocketAddr) -> Option<u64> {
    let table = fs::read_to_string(if here.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" }).ok()?;
    let ends = [here, there].map(|end| {
        let host = match end.ip() {
            IpAddr::V4(four) => words(&four.octets()),
            IpAddr::V6(six) => words(&six.octets()),
        };
        format!("{host}:{:04X}", end.port())
    });
    let row = table.lines().skip(1).find(|line| line.split_whitespace().skip(1).take(2).eq(ends.iter().map(String::as_str)))?;
    row.split_whitespace().nth(9)?.parse().ok()
}

/// In the kernel's spelling: words of four bytes, in the byte order of the machine.
fn words(octets: &[u8]) -> String {
    octets.chunks_exact(4).map(|word| format!("{:08X}", u32::from_ne_bytes(word.try_into().unwrap_or_default()))).collect()
}

/// A socket in state LISTEN (0A).
struct Row<'a> {
    address: &'a str,
    inode: &'a str,
}

fn rows(table: &str, port: u16) -> impl Iterator<Item = Row<'_>> {
    table.lines().skip(1).filter_map(move |line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, listens_on) = fields.get(1)?.split_once(':')?;
        let is_it = u16::from_str_radix(listens_on, 16) == Ok(port) && fields.get(3) == Some(&"0A");
        is_it.then_some(Row { address, inode: fields.get(9)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_on_the_loopback_is_told_from_one_on_all_addresses() {
        for (address, listening) in
            [("127.0.0.1:0", Listening::Loopback), ("0.0.0.0:0", Listening::Everywhere), ("[::1]:0", Listening::Loopback)]
        {
            // Not every machine has IPv6.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            assert_eq!(listening_on(listener.local_addr().unwrap().port()), listening, "{address}");
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(listening_on(free), Listening::Nowhere);
    }
}
