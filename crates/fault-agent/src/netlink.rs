//! Messages to the kernel's firewall, encoded by hand: our own table, its chains, and its rules.

use std::{io, os::fd::OwnedFd};

use crate::sys;

const NETFILTER: i32 = 12;
const SUBSYSTEM: u16 = 10;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const DUMP: u16 = 0x300;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = (SUBSYSTEM << 8) | 1;
const NEW_CHAIN: u16 = (SUBSYSTEM << 8) | 3;
const NEW_RULE: u16 = (SUBSYSTEM << 8) | 6;
/// The table is destroyed when the socket that made it is closed.
const OWNED: u32 = 2;
const NESTED: u16 = 0x8000;
/// The family of tables for IPv4 and IPv6 alike.
pub const INET: u8 = 1;
/// That of tables for what devices send and receive.
pub const DEVICES: u8 = 5;

/// One attribute.
pub fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let length = 4 + content.len();
    let mut bytes = Vec::with_capacity(length + 3);
    bytes.extend_from_slice(&(length as u16).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(content);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

pub fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &parts.concat())
}

pub fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

pub fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

/// Every table of this namespace, as `FAMILY:NAME/CHAINS`, in order.
pub fn tables() -> Result<Vec<String>, String> {
    const END: u16 = 3;
    let failed = |error: io::Error| format!("cannot talk to the kernel's firewall: {error}");
    let socket = sys::netlink(NETFILTER).map_err(failed)?;
    let mut question = 20u32.to_ne_bytes().to_vec();
    question.extend_from_slice(&GET_TABLE.to_ne_bytes());
    question.extend_from_slice(&(REQUEST | DUMP).to_ne_bytes());
    question.extend_from_slice(&[0; 12]);
    sys::send_all(&socket, &question).map_err(failed)?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let count = sys::receive(&socket, &mut buffer).map_err(failed)?;
        let mut rest = &buffer[..count];
        while rest.len() >= 20 {
            let length = (u32::from_ne_bytes(rest[..4].try_into().expect("four bytes")) as usize).clamp(20, rest.len());
            let (message, after) = rest.split_at(length.next_multiple_of(4).min(rest.len()));
            rest = after;
            match u16::from_ne_bytes(message[4..6].try_into().expect("two bytes")) {
                END => {
                    found.sort();
                    return Ok(found);
                }
                NEW_TABLE => found.push(table(message[16], &message[20..length])),
                2 => return Err("the firewall does not list its tables".to_owned()),
                _ => {}
            }
        }
    }
}

fn table(family: u8, mut attributes: &[u8]) -> String {
    let (mut name, mut chains) = (String::new(), 0);
    while attributes.len() >= 4 {
        let length = (u16::from_ne_bytes([attributes[0], attributes[1]]) as usize).clamp(4, attributes.len());
        let content = &attributes[4..length];
        match u16::from_ne_bytes([attributes[2], attributes[3]]) {
            1 => name = String::from_utf8_lossy(content).trim_end_matches('\0').to_owned(),
            3 => chains = content.try_into().map_or(0, u32::from_be_bytes),
            _ => {}
        }
        attributes = &attributes[length.next_multiple_of(4).min(attributes.len())..];
    }
    format!("{family}:{name}/{chains}")
}

/// The hook of a chain.
#[derive(Clone, Copy)]
pub struct Hook<'a> {
    pub chain: &'static str,
    pub kind: &'static str,
    pub number: u32,
    /// Lower priorities come first.
    pub priority: i32,
    /// In a table for devices, the device.
    pub device: Option<&'a str>,
}

/// Everything to create, in one batch: the kernel accepts all of it or nothing.
pub struct Batch {
    table: String,
    family: u8,
    bytes: Vec<u8>,
    messages: u32,
}

impl Batch {
    pub fn new(table: &str, family: u8) -> Self {
        let mut batch = Self { table: table.to_owned(), family, bytes: Vec::new(), messages: 0 };
        batch.message(BATCH_BEGIN, REQUEST, 0, SUBSYSTEM, &[]);
        batch.message(NEW_TABLE, REQUEST | ACKNOWLEDGE | CREATE, family, 0, &[text(1, table), number(2, OWNED)]);
        batch
    }

    pub fn chain(&mut self, hook: Hook<'_>) {
        let mut place = vec![number(1, hook.number), attribute(2, &hook.priority.to_be_bytes())];
        place.extend(hook.device.map(|device| text(3, device)));
        let parts = [text(1, &self.table), text(3, hook.chain), nested(4, &place), text(7, hook.kind)];
        self.message(NEW_CHAIN, REQUEST | ACKNOWLEDGE | CREATE, self.family, 0, &parts);
    }

    pub fn rule(&mut self, chain: &str, expressions: &[Vec<u8>]) {
        let parts = [text(1, &self.table), text(2, chain), nested(4, expressions)];
        self.message(NEW_RULE, REQUEST | ACKNOWLEDGE | CREATE | APPEND, self.family, 0, &parts);
    }

    /// Sends it. The table exists as long as the returned socket.
    pub fn apply(mut self) -> Result<OwnedFd, String> {
        self.message(BATCH_END, REQUEST, 0, SUBSYSTEM, &[]);
        let failed = |error: io::Error| format!("cannot talk to the kernel's firewall: {error}");
        let socket = sys::netlink(NETFILTER).map_err(failed)?;
        sys::send_all(&socket, &self.bytes).map_err(failed)?;
        // One answer for each message except the batch's own two.
        let mut expected = self.messages - 2;
        let mut buffer = vec![0; 16 * 1024];
        while expected > 0 {
            let count = sys::receive(&socket, &mut buffer).map_err(failed)?;
            let mut at = 0;
            while at + 20 <= count {
                let length = u32::from_ne_bytes(buffer[at..at + 4].try_into().expect("four bytes")) as usize;
                let code = i32::from_ne_bytes(buffer[at + 16..at + 20].try_into().expect("four bytes"));
                if code != 0 {
                    let sequence = u32::from_ne_bytes(buffer[at + 8..at + 12].try_into().expect("four bytes"));
                    return Err(format!("the firewall rejected message {sequence}: {}", io::Error::from_raw_os_error(-code)));
                }
                expected = expected.saturating_sub(1);
                at += length.max(16).next_multiple_of(4);
            }
        }
        Ok(socket)
    }

    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, parts: &[Vec<u8>]) {
        let body = parts.concat();
        self.bytes.extend_from_slice(&(20 + body.len() as u32).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&self.messages.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        self.bytes.extend_from_slice(&body);
        self.messages += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_listed_with_its_family_and_its_chains() {
        let attributes = [text(1, "devenv-x"), number(2, OWNED), number(3, 2)].concat();
        assert_eq!(table(INET, &attributes), "1:devenv-x/2");
    }
}
