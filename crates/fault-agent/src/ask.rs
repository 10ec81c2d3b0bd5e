//! Probes from the agent's network: whether another container of the network would get an answer, or whether the target can
//! resolve a name. Reports once when there are answers, and once when they stop.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

/// The time limit for the first answer.
const AT_FIRST: Duration = Duration::from_secs(4);
const BETWEEN: Duration = Duration::from_millis(20);
/// The engine's DNS server, in every container of a user-defined network.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const IDENTITY: [u8; 2] = [0x64, 0x76];

/// The target of a probe.
pub enum Question {
    /// A server, with a request that it answers; without one, only a connection is made.
    Server { at: SocketAddr, words: Vec<u8> },
    /// The name server, for a name.
    Name(String),
}

/// Returns once there are no answers any more, or the time is over.
pub fn until_silent(mut question: Question, patience: Duration, time: Duration) -> Result<(), String> {
    let began = Instant::now();
    let took = loop {
        match ask(&question, patience) {
            Ok(took) => break took,
            Err(error) if began.elapsed() > AT_FIRST => return Err(format!("no answer from there: {}", failure_reason(&error, patience))),
            Err(_) => {}
        }
        // A server that does not answer unknown clients still accepts connections.
        if let Question::Server { words, .. } = &mut question
            && began.elapsed() > AT_FIRST / 2
        {
            words.clear();
        }
        thread::sleep(BETWEEN);
    };
    println!("ready {:.1} ms", took.as_secs_f64() * 1000.0);
    while began.elapsed() < time {
        if let Err(error) = ask(&question, patience) {
            println!("silent {}", failure_reason(&error, patience));
            break;
        }
        thread::sleep(BETWEEN);
    }
    Ok(())
}

fn ask(question: &Question, patience: Duration) -> io::Result<Duration> {
    let began = Instant::now();
    match question {
        Question::Server { at, words } => {
            let mut stream = TcpStream::connect_timeout(at, patience)?;
            if !words.is_empty() {
                stream.set_read_timeout(Some(patience))?;
                stream.write_all(words)?;
                if stream.read(&mut [0; 64])? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
        }
        Question::Name(name) => {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.set_read_timeout(Some(patience))?;
            socket.connect((resolver(), 53))?;
            socket.send(&query(name))?;
            let mut answer = [0; 512];
            if socket.recv(&mut answer)? < 12 || answer[..2] != IDENTITY {
                return Err(ErrorKind::InvalidData.into());
            }
        }
    }
    Ok(began.elapsed())
}

fn failure_reason(error: &io::Error, patience: Duration) -> String {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => format!("no answer within {} ms", patience.as_millis()),
        ErrorKind::ConnectionRefused => "the connection was refused".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "the connection was reset".to_owned(),
        // The sender gets an error for packets that an output rule drops.
        ErrorKind::PermissionDenied => "the request was blocked by the firewall".to_owned(),
        ErrorKind::UnexpectedEof => "the connection was closed".to_owned(),
        _ => error.to_string(),
    }
}

/// That of the container whose network this is.
fn resolver() -> Ipv4Addr {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok()).unwrap_or(RESOLVER)
}

/// For the address of a name, recursion desired.
fn query(name: &str) -> Vec<u8> {
    let mut bytes = IDENTITY.to_vec();
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_question_for_a_name_is_as_the_protocol_wants_it() {
        assert_eq!(query("db"), *b"dv\x01\0\0\x01\0\0\0\0\0\0\x02db\0\0\x01\0\x01");
    }

    #[test]
    fn a_server_that_hangs_up_or_is_not_there_does_not_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let question = Question::Server { at, words: b"hello".to_vec() };
        let server = thread::spawn(move || {
            let (mut answered, _) = listener.accept().unwrap();
            answered.write_all(b"hi").unwrap();
            drop(listener.accept().unwrap());
        });
        let patience = Duration::from_secs(2);
        assert!(ask(&question, patience).is_ok());
        assert!(ask(&question, patience).is_err());
        server.join().unwrap();
        assert_eq!(failure_reason(&ask(&question, patience).unwrap_err(), patience), "the connection was refused");
    }
}
