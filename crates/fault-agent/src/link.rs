//! Network devices: a device of our own that receives frames, and the way around it.

use std::{
    ffi::{c_int, c_ulong},
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use crate::sys::{self, AF_INET, SOCK_RAW, SOL_SOCKET};

const AF_PACKET: c_int = 17;
const SOCK_DGRAM: c_int = 2;
const SO_MARK: c_int = 36;
const GET_FLAGS: c_ulong = 0x8913;
const SET_FLAGS: c_ulong = 0x8914;
const GET_MTU: c_ulong = 0x8921;
const SET_MTU: c_ulong = 0x8922;
const GET_ADDRESS: c_ulong = 0x8927;
const GET_INDEX: c_ulong = 0x8933;
const TUN_SET: c_ulong = 0x4004_54ca;
/// Whole frames without a header.
const TAP: u16 = 2 | 0x1000;
const UP: u16 = 1;

/// `struct ifreq`: an interface name and the argument or result of the call.
#[repr(C)]
struct Request {
    name: [u8; 16],
    content: [u8; 24],
}

#[repr(C)]
struct LinkAddress {
    family: u16,
    protocol: u16,
    index: i32,
    kind: u16,
    packet: u8,
    length: u8,
    address: [u8; 8],
}

impl Request {
    fn of(name: &str) -> Self {
        let mut request = Self { name: [0; 16], content: [0; 24] };
        let bytes = &name.as_bytes()[..name.len().min(15)];
        request.name[..bytes.len()].copy_from_slice(bytes);
        request
    }

    fn number(mut self, value: i32) -> Self {
        self.content[..4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn flags(mut self, value: u16) -> Self {
        self.content[..2].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn int_value(&self) -> i32 {
        i32::from_ne_bytes(self.content[..4].try_into().expect("four bytes"))
    }

    fn make(&mut self, fd: &impl AsRawFd, request: c_ulong) -> io::Result<()> {
        // SAFETY: the kernel reads and writes a `struct ifreq`, which this is.
        unsafe { sys::control(fd, request, self) }
    }
}

/// A device as the kernel knows it.
pub struct Link {
    pub index: i32,
    pub address: [u8; 6],
    mtu: i32,
}

/// The device of this name.
pub fn find(name: &str) -> io::Result<Link> {
    let asker = sys::open_socket(AF_INET, SOCK_DGRAM, 0)?;
    let ask = |what| {
        let mut request = Request::of(name);
        request.make(&asker, what).map(|()| request)
    };
    let address = ask(GET_ADDRESS)?.content[2..8].try_into().expect("six bytes");
    Ok(Link { index: ask(GET_INDEX)?.int_value(), address, mtu: ask(GET_MTU)?.int_value() })
}

/// A new device for frames as long as those of `like`, which is removed when the file is closed. Frames sent to it are read
/// from the file. Returns its index.
pub fn tap(like: &Link) -> io::Result<(File, i32)> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut made = Request::of("devenv%d").flags(TAP);
    made.make(&file, TUN_SET)?;
    let length = made.name.iter().position(|byte| *byte == 0).unwrap_or(made.name.len());
    let name = std::str::from_utf8(&made.name[..length]).map_err(io::Error::other)?;
    let asker = sys::open_socket(AF_INET, SOCK_DGRAM, 0)?;
    Request::of(name).number(like.mtu).make(&asker, SET_MTU)?;
    let mut flags = Request::of(name);
    flags.make(&asker, GET_FLAGS)?;
    let now = u16::from_ne_bytes([flags.content[0], flags.content[1]]);
    Request::of(name).flags(now | UP).make(&asker, SET_FLAGS)?;
    Ok((file, find(name)?.index))
}

/// For whole frames, sent by this device with this mark.
pub fn sender(link: &Link, mark: u32) -> io::Result<OwnedFd> {
    let socket = sys::open_socket(AF_PACKET, SOCK_RAW, 0)?;
    let address = LinkAddress { family: AF_PACKET as u16, protocol: 0, index: link.index, kind: 0, packet: 0, length: 0, address: [0; 8] };
    sys::set_option(&socket, SOL_SOCKET, SO_MARK, &mark)?;
    sys::bind_to(&socket, &address)?;
    Ok(socket)
}
