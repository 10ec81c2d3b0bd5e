//! Packets of the service that do not arrive as sent: duplicated, corrupted, or reordered.
//!
//! A rule at the egress of the service's device redirects its packets to a device of this process. They are read here, each
//! as one frame with its checksums computed, and sent on by the service's device, past the rule. Rule and device are gone
//! when this process is; a packet that was here then is lost.
//!
//! Several such faults at once are ordered, the oldest first: the packets of one carry its position in that order as a mark, and pass only
//! those after it.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    expression::{EQUAL, LESS, REGISTER, TCP, compare, expression, in_network_order, meta, transport},
    link,
    netlink::{Batch, DEVICES, Hook, attribute, nested, number},
    random, sys, witness,
};

/// A container's first device.
const USUAL: &str = "eth0";
const ETHERNET: usize = 14;
const LONGEST: usize = 65_536 + ETHERNET;
const OPTION: &str = "--packets=";

#[derive(Clone, Copy, PartialEq, Debug)]
enum PacketFault {
    Duplicate,
    Corrupt,
    /// Sent this much later.
    Reorder(Duration),
}

#[derive(Debug)]
pub struct Options {
    device: String,
    ports: Vec<u16>,
    packet_fault: PacketFault,
    /// Out of 10 000 packets.
    chance: u64,
    seed: u64,
}

impl Options {
    /// `None` if no packets are affected.
    pub fn parse(arguments: &[String]) -> Result<Option<Self>, String> {
        let Some(text) = arguments.iter().find_map(|argument| argument.strip_prefix(OPTION)) else { return Ok(None) };
        let mut options =
            Self { device: USUAL.to_owned(), ports: Vec::new(), packet_fault: PacketFault::Duplicate, chance: 10_000, seed: 0 };
        for word in text.split(',') {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let number = || value.parse::<u64>().map_err(|_| format!("`{word}` is not a number"));
            match name {
                "duplicate" => options.packet_fault = PacketFault::Duplicate,
                "corrupt" => options.packet_fault = PacketFault::Corrupt,
                "reorder" => options.packet_fault = PacketFault::Reorder(Duration::from_micros(number()?)),
                "device" => value.clone_into(&mut options.device),
                "port" => options.ports.push(number()? as u16),
                "chance" => options.chance = number()?,
                "seed" => options.seed = number()?,
                _ => return Err(format!("unknown option `{name}` of `packets`")),
            }
        }
        Ok(Some(options))
    }
}

/// Redirects the packets here as long as this process and the returned value live.
pub fn divert(table: &str, options: Options) -> Result<OwnedFd, String> {
    let device = link::find(&options.device).map_err(|error| format!("the container has no device {}: {error}", options.device))?;
    let place = place();
    let sender = link::sender(&device, place).map_err(|error| format!("cannot send packets past the rule: {error}"))?;
    let (frames, own) = link::tap(&device).map_err(|error| format!("cannot create a tun device: {error}"))?;
    let mut batch = Batch::new(table, DEVICES);
    let way_out = Hook { chain: "out", kind: "filter", number: 1, priority: place.cast_signed(), device: Some(&options.device) };
    batch.chain(way_out);
    for port in &options.ports {
        batch.rule(way_out.chain, &divert_rule(*port, place, own));
    }
    let held = batch.apply().map_err(|error| format!("the kernel cannot redirect outgoing packets (needs Linux 5.17): {error}"))?;
    let failed = |error: io::Error| format!("cannot start a thread: {error}");
    thread::Builder::new().spawn(move || carry(frames, Arc::new(sender), device.address, &options)).map_err(failed)?;
    Ok(held)
}

/// Redirects what the service sends from this port to that device, except packets with this mark or a higher one.
fn divert_rule(port: u16, mark: u32, device: i32) -> Vec<Vec<u8>> {
    vec![
        meta(3),
        in_network_order(),
        compare(LESS, &mark.to_be_bytes()),
        meta(16),
        compare(EQUAL, &[TCP]),
        transport(0, 2),
        compare(EQUAL, &port.to_be_bytes()),
        expression("immediate", &[number(1, REGISTER), nested(2, &[attribute(1, &device.to_ne_bytes())])]),
        expression("fwd", &[number(1, REGISTER)]),
    ]
}

/// Priority among the rules of a network namespace; later faults get a higher one.
fn place() -> u32 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (now.as_millis() % (1 << 30)) as u32 + 1
}

fn carry(mut frames: File, sender: Arc<OwnedFd>, source: [u8; 6], options: &Options) {
    let sent = Arc::new(AtomicU64::new(0));
    let late = match options.packet_fault {
        PacketFault::Reorder(delay) => Some(later(sender.clone(), sent.clone(), delay)),
        PacketFault::Duplicate | PacketFault::Corrupt => None,
    };
    let mut buffer = vec![0; LONGEST];
    let mut number = 0;
    loop {
        // A device that cannot be read would swallow all redirected packets; without this process none are redirected.
        let Ok(length) = frames.read(&mut buffer) else { process::exit(1) };
        let frame = &mut buffer[..length];
        // The device sends packets of its own, like every new one.
        if length <= ETHERNET || frame[6..12] != source {
            continue;
        }
        number += 1;
        // A packet that cannot be sent is lost.
        let send = |frame: &[u8]| sys::send_all(&sender, frame).is_ok();
        if !random::decides(options.seed, number, options.chance) {
            send(frame);
            sent.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        match (&late, options.packet_fault) {
            (Some(late), _) => {
                // The receiver lives as long as this.
                let _ = late.send((Instant::now(), sent.load(Ordering::Relaxed), frame.to_vec()));
            }
            (None, PacketFault::Corrupt) => {
                flip(frame, random::mix(options.seed ^ number, number));
                send(frame);
                witness::tell();
            }
            (None, _) => {
                if send(frame) && send(frame) {
                    witness::tell();
                }
            }
        }
    }
}

/// Sends frames that are due; reports once when one was overtaken.
fn later(sender: Arc<OwnedFd>, sent: Arc<AtomicU64>, delay: Duration) -> mpsc::Sender<(Instant, u64, Vec<u8>)> {
    let (late, frames) = mpsc::channel::<(Instant, u64, Vec<u8>)>();
    thread::spawn(move || {
        for (came, before, frame) in frames {
            thread::sleep((came + delay).saturating_duration_since(Instant::now()));
            if sys::send_all(&sender, &frame).is_ok() && sent.load(Ordering::Relaxed) > before {
                witness::tell();
            }
        }
    });
    late
}

/// Flips one bit of the network layer's payload, so that only its checksum reveals it.
fn flip(frame: &mut [u8], chance: u64) {
    let header = match frame[12..14] {
        [0x08, 0x00] => usize::from(frame[ETHERNET] & 0x0f) * 4,
        _ => 40,
    };
    let start = (ETHERNET + header).min(frame.len() - 1);
    let at = start + chance as usize / 8 % (frame.len() - start);
    frame[at] ^= 1 << (chance % 8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Options>, String> {
        Options::parse(&[format!("{OPTION}{text}")])
    }

    #[test]
    fn options_say_what_happens_to_which_packets() {
        let options = parse("reorder=10000,port=5432,port=5433,chance=1000,seed=7").unwrap().unwrap();
        assert_eq!(
            (options.packet_fault, options.ports, options.chance, options.seed),
            (PacketFault::Reorder(Duration::from_millis(10)), vec![5432, 5433], 1000, 7)
        );
        assert_eq!(parse("corrupt,port=1").unwrap().unwrap().packet_fault, PacketFault::Corrupt);
        assert!(parse("reorder=soon").is_err() && parse("eat").is_err());
        assert!(Options::parse(&[]).unwrap().is_none());
    }

    #[test]
    fn a_changed_packet_differs_by_one_bit_behind_its_address() {
        for (kind, header) in [([0x08, 0x00], 20), ([0x86, 0xdd], 40)] {
            let mut packet = vec![0; ETHERNET + header + 32];
            packet[12..14].copy_from_slice(&kind);
            packet[ETHERNET] = 0x45;
            for number in 0..200 {
                let mut changed = packet.clone();
                flip(&mut changed, random::mix(4711, number));
                let bits: u32 = changed.iter().zip(&packet).map(|(a, b)| (a ^ b).count_ones()).sum();
                assert_eq!((bits, &changed[..ETHERNET + header]), (1, &packet[..ETHERNET + header]));
            }
        }
    }
}
