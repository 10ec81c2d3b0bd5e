//! The few C library calls that the standard library does not provide.
//!
//! Declared by hand, so that this program needs nothing but the compiler.

use std::{
    ffi::{CString, c_char, c_int, c_long, c_ulong, c_void},
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

pub const AF_INET: c_int = 2;
const AF_NETLINK: c_int = 16;
const SOCK_STREAM: c_int = 1;
pub const SOCK_RAW: c_int = 3;
const SOCK_CLOEXEC: c_int = 0o2_000_000;
const SOL_IP: c_int = 0;
const SO_ORIGINAL_DST: c_int = 80;
pub const SOL_SOCKET: c_int = 1;
const SO_LINGER: c_int = 13;
const SO_RCVBUF: c_int = 8;
const IP_BIND_ADDRESS_NO_PORT: c_int = 24;

#[repr(C)]
struct SockaddrIn {
    family: u16,
    port: u16,
    address: u32,
    zero: [u8; 8],
}

#[repr(C)]
struct SockaddrNetlink {
    family: u16,
    pad: u16,
    pid: u32,
    groups: u32,
}

/// `struct statvfs`, of which the first fields are used: sizes are words of the machine, and counts have 64 bits.
#[repr(C)]
#[derive(Default)]
struct Statvfs<Word> {
    block_size: Word,
    fragment_size: Word,
    blocks: u64,
    free: u64,
    available: u64,
    /// More than any C library writes there.
    rest: [u64; 16],
}

unsafe extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn bind(fd: c_int, address: *const c_void, length: u32) -> c_int;
    fn connect(fd: c_int, address: *const c_void, length: u32) -> c_int;
    fn send(fd: c_int, buffer: *const c_void, length: usize, flags: c_int) -> isize;
    fn recv(fd: c_int, buffer: *mut c_void, length: usize, flags: c_int) -> isize;
    fn getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, length: *mut u32) -> c_int;
    fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, length: u32) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    // By their usual names, glibc on 32-bit machines counts in 32 bits, and musl always in 64.
    #[cfg_attr(all(target_pointer_width = "32", target_env = "gnu"), link_name = "fallocate64")]
    fn fallocate(fd: c_int, mode: c_int, offset: i64, length: i64) -> c_int;
    #[cfg_attr(all(target_pointer_width = "32", target_env = "gnu"), link_name = "statvfs64")]
    fn statvfs(path: *const c_char, buffer: *mut Statvfs<c_ulong>) -> c_int;
    fn ptrace(request: c_long, pid: c_long, address: c_long, data: c_long) -> c_long;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
}

fn checked(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

pub fn open_socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: plain call; the descriptor is owned at once.
    unsafe { Ok(OwnedFd::from_raw_fd(checked(socket(domain, kind | SOCK_CLOEXEC, protocol) as isize)? as c_int)) }
}

/// `address` is one of the kernel's address structures.
pub fn bind_to<T>(fd: &impl AsRawFd, address: &T) -> io::Result<()> {
    // SAFETY: the structure is valid for its length.
    checked(unsafe { bind(fd.as_raw_fd(), std::ptr::from_ref(address).cast(), size_of::<T>() as u32) } as isize).map(|_| ())
}

pub fn set_option<T>(fd: &impl AsRawFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the value is valid for its length.
    checked(unsafe { setsockopt(fd.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), size_of::<T>() as u32) } as isize)
        .map(|_| ())
}

/// # Safety
/// `T` is what the kernel reads and writes for this request.
pub unsafe fn control<T>(fd: &impl AsRawFd, request: c_ulong, content: &mut T) -> io::Result<()> {
    // SAFETY: the caller's promise.
    checked(unsafe { ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(content)) } as isize).map(|_| ())
}

/// A netlink socket; the kernel removes what it owns when it is closed.
pub fn netlink(protocol: c_int) -> io::Result<OwnedFd> {
    let fd = open_socket(AF_NETLINK, SOCK_RAW, protocol)?;
    bind_to(&fd, &SockaddrNetlink { family: AF_NETLINK as u16, pad: 0, pid: 0, groups: 0 })?;
    Ok(fd)
}

pub fn send_all(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the buffer is valid for its length.
    checked(unsafe { send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) }).map(|_| ())
}

pub fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for its length.
    checked(unsafe { recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) })
}

/// The original destination of a redirected connection.
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddrV4> {
    let mut address = SockaddrIn { family: 0, port: 0, address: 0, zero: [0; 8] };
    let mut length = size_of::<SockaddrIn>() as u32;
    // SAFETY: the structure is what the kernel writes, of that length.
    checked(unsafe { getsockopt(stream.as_raw_fd(), SOL_IP, SO_ORIGINAL_DST, (&raw mut address).cast(), &raw mut length) } as isize)?;
    Ok(SocketAddrV4::new(Ipv4Addr::from(u32::from_be(address.address)), u16::from_be(address.port)))
}

/// A connection to `to` that comes from `from`.
pub fn connect_from(from: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
    let raw = |address: Ipv4Addr, port: u16| SockaddrIn {
        family: AF_INET as u16,
        port: port.to_be(),
        address: u32::from(address).to_be(),
        zero: [0; 8],
    };
    let stream = TcpStream::from(open_socket(AF_INET, SOCK_STREAM, 0)?);
    let on: c_int = 1;
    // Only an optimisation: without it, fewer connections at once.
    let _ = set_option(&stream, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on);
    bind_to(&stream, &raw(from, 0))?;
    let target = raw(*to.ip(), to.port());
    // SAFETY: the structure is valid for its length.
    checked(unsafe { connect(stream.as_raw_fd(), (&raw const target).cast(), size_of::<SockaddrIn>() as u32) } as isize)?;
    Ok(stream)
}

/// Makes its end a reset.
pub fn reset_on_close(stream: &TcpStream) {
    let linger: [c_int; 2] = [1, 0];
    // `struct linger` is two integers. Without it, the end is an ordinary one.
    let _ = set_option(stream, SOL_SOCKET, SO_LINGER, &linger);
}

/// Limits the kernel's receive buffer, so that the sender is slowed down.
pub fn small_receive_buffer(stream: &TcpStream) {
    const BYTES: c_int = 64 << 10;
    // Without it more is buffered, which is not an error.
    let _ = set_option(stream, SOL_SOCKET, SO_RCVBUF, &BYTES);
}

/// A file in this directory that has no name, and is gone when it is closed.
pub fn nameless_file(directory: &str) -> io::Result<OwnedFd> {
    const O_RDWR: c_int = 2;
    const O_CLOEXEC: c_int = 0o2_000_000;
    // `O_TMPFILE` holds the bit of `O_DIRECTORY`, whose number is the machine's own.
    const O_DIRECTORY: c_int = if cfg!(any(target_arch = "aarch64", target_arch = "arm")) { 0o40_000 } else { 0o200_000 };
    const O_TMPFILE: c_int = 0o20_000_000 | O_DIRECTORY;
    let path = CString::new(directory)?;
    // SAFETY: the path is a C string; the descriptor is owned at once.
    unsafe {
        let fd = checked(open(path.as_ptr(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0o600 as c_int) as isize)?;
        Ok(OwnedFd::from_raw_fd(fd as c_int))
    }
}

pub fn allocate(fd: &OwnedFd, offset: u64, length: u64) -> io::Result<()> {
    // SAFETY: plain call.
    checked(unsafe { fallocate(fd.as_raw_fd(), 0, offset as i64, length as i64) } as isize).map(|_| ())
}

/// Free bytes for all users, and for root.
pub fn free_space(path: &str) -> io::Result<(u64, u64)> {
    let path = CString::new(path)?;
    let mut found = Statvfs::default();
    // SAFETY: the buffer is no smaller than the structure.
    checked(unsafe { statvfs(path.as_ptr(), &raw mut found) } as isize)?;
    #[expect(clippy::useless_conversion, reason = "a word of another machine may have 32 bits")]
    let fragment = u64::from(found.fragment_size);
    Ok((fragment * found.available, fragment * found.free))
}

/// Stops a file system as a power cut does: what is not on the disk is lost.
pub fn shut_down(path: &str) -> io::Result<()> {
    const FS_IOC_SHUTDOWN: c_ulong = 0x8004_587d;
    let mut no_log_flush: u32 = 2;
    let directory = std::fs::File::open(path)?;
    // SAFETY: it takes a word.
    unsafe { control(&directory, FS_IOC_SHUTDOWN, &mut no_log_flush) }
}

/// Stops a thread and keeps it stopped as long as the caller's thread lives.
pub fn seize(thread: u32) -> io::Result<()> {
    const PTRACE_SEIZE: c_long = 0x4206;
    const PTRACE_INTERRUPT: c_long = 0x4207;
    // SAFETY: neither request touches this process's memory.
    unsafe {
        if ptrace(PTRACE_SEIZE, c_long::from(thread), 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        if ptrace(PTRACE_INTERRUPT, c_long::from(thread), 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Handles the events of traced threads, without resuming them.
pub fn reap() {
    const WNOHANG: c_int = 1;
    const WALL: c_int = 0x4000_0000;
    let mut status: c_int = 0;
    // SAFETY: the status is a valid integer.
    while unsafe { waitpid(-1, &raw mut status, WNOHANG | WALL) } > 0 {}
}

#[cfg(test)]
mod tests {
    use std::{mem::offset_of, process::Command};

    use super::*;

    #[test]
    fn counts_of_blocks_lie_where_machines_of_32_and_64_bits_have_them() {
        let offsets_32 = [offset_of!(Statvfs<u32>, fragment_size), offset_of!(Statvfs<u32>, free), offset_of!(Statvfs<u32>, available)];
        let offsets_64 = [offset_of!(Statvfs<u64>, fragment_size), offset_of!(Statvfs<u64>, free), offset_of!(Statvfs<u64>, available)];
        assert_eq!((offsets_32, offsets_64), ([4, 16, 24], [8, 24, 32]));
    }

    #[test]
    fn free_space_is_the_same_as_for_other_programs() {
        let output = Command::new("stat").args(["--file-system", "--format=%S %a %f", "/proc"]).output().unwrap();
        assert_eq!(free_space("/proc").unwrap(), (0, 0), "{output:?}");
        let output = Command::new("stat").args(["--file-system", "--format=%S %f", "/"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let [size, free] = text.split_whitespace().map(|word| word.parse::<u64>().unwrap()).collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        let found = free_space("/").unwrap().1;
        assert!(found.abs_diff(size * free) < 1 << 30, "{found} and {text}");
    }
}
