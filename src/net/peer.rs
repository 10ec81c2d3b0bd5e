//! Whether a connection on the loopback comes from this process: the daemon's own probes and scrapes are no clients.
//!
//! Called for each connection to a port that the daemon holds, so it asks the kernel for one socket (`sock_diag`) instead of reading
//! the table of all, which is only the way out where that is not allowed.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

use super::port_owner::inode_of;

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
const HEADER: usize = 16;
/// The size of `inet_diag_req_v2`.
const QUESTION: usize = 56;
/// The place of `idiag_inode` in the answer, after its header.
const INODE: usize = HEADER + 68;
const TCP: u8 = 6;

/// Who has opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opener {
    ThisProcess,
    Other,
    /// Nobody has the socket any more: the connection was closed at that end.
    Closed,
}

/// Who has opened the connection from `peer` to `own`, both of this machine. Reads files of `/proc`.
pub(super) fn opener(peer: SocketAddr, own: SocketAddr) -> Opener {
    let inode = ask(peer, own).unwrap_or_else(|_| inode_of(peer, own));
    let Some(inode) = inode.filter(|inode| *inode != 0) else { return Opener::Closed };
    let link = format!("socket:[{inode}]");
    let Ok(files) = fs::read_dir("/proc/self/fd") else { return Opener::Other };
    let is_own = files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).any(|target| target.as_os_str() == link.as_str());
    if is_own { Opener::ThisProcess } else { Opener::Other }
}

/// The inode of the socket at `peer`'s end; `None` if there is none any more.
fn ask(peer: SocketAddr, own: SocketAddr) -> io::Result<Option<u64>> {
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
    send(&kernel, &question(peer, own), SendFlags::empty())?;
    let mut answer = [0; 512];
    // The kernel has answered when it has accepted the question.
    let (_, length) = recv(&kernel, &mut answer[..], RecvFlags::DONTWAIT)?;
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    if length >= INODE + 4 && kind == BY_FAMILY {
        let inode: [u8; 4] = answer[INODE..INODE + 4].try_into().unwrap_or_default();
        return Ok(Some(u64::from(u32::from_ne_bytes(inode))));
    }
    // An error message: its number comes first.
    let code: [u8; 4] = answer[HEADER..HEADER + 4].try_into().unwrap_or_default();
    match i32::from_ne_bytes(code) {
        code if code == -rustix::io::Errno::NOENT.raw_os_error() => Ok(None),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

fn question(peer: SocketAddr, own: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + QUESTION);
    bytes.extend(u32::try_from(HEADER + QUESTION).unwrap_or_default().to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    // Sequence and port.
    bytes.extend([0; 8]);
    let family = if peer.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    bytes.extend([u8::try_from(family.as_raw()).unwrap_or_default(), TCP, 0, 0]);
    // Sockets in any state.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(peer.port().to_be_bytes());
    bytes.extend(own.port().to_be_bytes());
    for address in [peer.ip(), own.ip()] {
        bytes.extend(match address {
            IpAddr::V4(four) => [four.octets().to_vec(), vec![0; 12]].concat(),
            IpAddr::V6(six) => six.octets().to_vec(),
        });
    }
    // Any interface, any cookie.
    bytes.extend([0; 4]);
    bytes.extend([0xff; 8]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_of_this_process_is_told_from_one_of_another() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // Not every machine has IPv6.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let own = listener.local_addr().unwrap();
            let connection = TcpStream::connect(own).unwrap();
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(opener(peer, own), Opener::ThisProcess, "{address}");
            assert_eq!(inode_of(peer, own), ask(peer, own).unwrap(), "both ways find the same socket");
            drop(connection);
            assert_eq!(opener(peer, own), Opener::Closed, "{address}");
            let script = format!("exec 3<>/dev/tcp/{}/{}; read -r _", own.ip(), own.port());
            let mut other = std::process::Command::new("bash").args(["-c", &script]).stdin(std::process::Stdio::piped()).spawn().unwrap();
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(opener(peer, own), Opener::Other, "{address}");
            drop(other.stdin.take());
            other.wait().unwrap();
        }
    }
}
