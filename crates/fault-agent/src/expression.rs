//! The firewall's expressions, as netlink encodes them: each reads or compares a part of a packet, or decides.

use crate::netlink::{attribute, nested, number, text};

pub const REGISTER: u32 = 1;
pub const EQUAL: u32 = 0;
pub const NOT_EQUAL: u32 = 1;
pub const LESS: u32 = 2;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

pub fn expression(name: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[text(1, name), nested(2, parts)])
}

/// 3: the mark; 6, 7: the interface's name, in and out; 15: the family; 16: the protocol above.
pub fn meta(key: u32) -> Vec<u8> {
    expression("meta", &[number(1, REGISTER), number(2, key)])
}

pub fn compare(operator: u32, value: &[u8]) -> Vec<u8> {
    expression("cmp", &[number(1, REGISTER), number(2, operator), nested(3, &[attribute(1, value)])])
}

pub fn transport(offset: u32, length: u32) -> Vec<u8> {
    expression("payload", &[number(1, REGISTER), number(2, 2), number(3, offset), number(4, length)])
}

/// A number in native byte order, so that it can be compared.
pub fn in_network_order() -> Vec<u8> {
    expression("byteorder", &[number(1, REGISTER), number(2, REGISTER), number(3, 1), number(4, 4), number(5, 4)])
}

pub fn bitwise(mask: &[u8]) -> Vec<u8> {
    let nothing = vec![0; mask.len()];
    let parts = [
        number(1, REGISTER),
        number(2, REGISTER),
        number(3, mask.len() as u32),
        nested(4, &[attribute(1, mask)]),
        nested(5, &[attribute(1, &nothing)]),
    ];
    expression("bitwise", &parts)
}

pub fn verdict(code: u32) -> Vec<u8> {
    expression("immediate", &[number(1, 0), nested(2, &[nested(2, &[number(1, code)])])])
}

pub fn interface(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}
