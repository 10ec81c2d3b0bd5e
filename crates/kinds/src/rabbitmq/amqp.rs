//! AMQP 0-9-1: frames, and the login. Written here, because a client library would add fourteen crates to the build.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The first message of a client, and the server's answer to any other one.
pub(super) const HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
const FRAME_END: u8 = 0xCE;
/// The frames that are expected here are smaller.
const LARGEST: u32 = 1 << 20;

const START: Method = (10, 10);
const START_OK: Method = (10, 11);
const TUNE: Method = (10, 30);
const TUNE_OK: Method = (10, 31);
const OPEN: Method = (10, 40);
const OPEN_OK: Method = (10, 41);
const CLOSE: Method = (10, 50);
const CLOSE_OK: Method = (10, 51);
const CHANNEL_CLOSE: Method = (20, 40);

/// Types of frames.
pub(super) const METHOD: u8 = 1;
pub(super) const CONTENT: u8 = 2;
pub(super) const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

#[derive(Debug, thiserror::Error)]
pub(super) enum AmqpError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server's own message.
    #[error("{0}")]
    Refused(String),
    #[error("it does not speak AMQP 0-9-1")]
    NoAmqp,
}

/// A method's class and number.
pub(super) type Method = (u16, u16);

/// Logs in, opens the virtual host and disconnects. Returns the server's version.
pub(super) async fn login(stream: TcpStream, user: &str, password: &str, vhost: &str) -> Result<String, AmqpError> {
    let (mut stream, version) = open(stream, user, password, vhost).await?;
    send(&mut stream, 0, CLOSE, &[&200u16.to_be_bytes()[..], &short("done"), &[0, 0, 0, 0]].concat()).await?;
    expect(&mut stream, CLOSE_OK).await?;
    Ok(version)
}

/// Logs in and opens the virtual host. Returns the connection, which has no heartbeats, and the server's version.
pub(super) async fn open(mut stream: TcpStream, user: &str, password: &str, vhost: &str) -> Result<(TcpStream, String), AmqpError> {
    stream.write_all(&HEADER).await?;
    let start = expect(&mut stream, START).await?;
    let answer = [
        table(&[("authentication_failure_close", &[b't', 1])]),
        short("PLAIN"),
        long(format!("\0{user}\0{password}").as_bytes()),
        short("en_US"),
    ];
    send(&mut stream, 0, START_OK, &answer.concat()).await?;
    let limits = expect(&mut stream, TUNE).await?;
    let limits = [limits.get(..6).ok_or(AmqpError::NoAmqp)?, &[0, 0]].concat();
    send(&mut stream, 0, TUNE_OK, &limits).await?;
    send(&mut stream, 0, OPEN, &[short(vhost), short(""), vec![0]].concat()).await?;
    expect(&mut stream, OPEN_OK).await?;
    Ok((stream, version(&start).unwrap_or_default()))
}

/// The arguments of the method that must come next.
pub(super) async fn expect(stream: &mut TcpStream, wanted: Method) -> Result<Vec<u8>, AmqpError> {
    match method(stream).await? {
        (found, arguments) if found == wanted => Ok(arguments),
        _ => Err(AmqpError::NoAmqp),
    }
}

/// The next method with its arguments; an error if the server closes the connection or the channel.
pub(super) async fn method(stream: &mut TcpStream) -> Result<(Method, Vec<u8>), AmqpError> {
    let (METHOD, mut body) = frame(stream).await? else { return Err(AmqpError::NoAmqp) };
    if body.len() < 4 {
        return Err(AmqpError::NoAmqp);
    }
    let method = (u16::from_be_bytes([body[0], body[1]]), u16::from_be_bytes([body[2], body[3]]));
    let arguments = body.split_off(4);
    match method {
        CLOSE | CHANNEL_CLOSE => Err(AmqpError::Refused(words(&arguments))),
        method => Ok((method, arguments)),
    }
}

/// The next frame that is no heartbeat: its type and content.
pub(super) async fn frame(stream: &mut TcpStream) -> Result<(u8, Vec<u8>), AmqpError> {
    loop {
        let mut head = [0; 7];
        stream.read_exact(&mut head).await?;
        if head.starts_with(b"AMQP") {
            return Err(AmqpError::NoAmqp);
        }
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        if size > LARGEST {
            return Err(AmqpError::NoAmqp);
        }
        let mut body = vec![0; size as usize + 1];
        stream.read_exact(&mut body).await?;
        if body.pop() != Some(FRAME_END) {
            return Err(AmqpError::NoAmqp);
        }
        if head[0] != HEARTBEAT {
            return Ok((head[0], body));
        }
    }
}

pub(super) async fn send(stream: &mut TcpStream, channel: u16, method: Method, arguments: &[u8]) -> io::Result<()> {
    let body = [&method.0.to_be_bytes()[..], &method.1.to_be_bytes(), arguments].concat();
    stream.write_all(&framed(METHOD, channel, &body)).await
}

pub(super) fn framed(kind: u8, channel: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend(channel.to_be_bytes());
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame.push(FRAME_END);
    frame
}

/// Why the server closes: a number, and its message.
fn words(arguments: &[u8]) -> String {
    let length = arguments.get(2).copied().unwrap_or_default() as usize;
    String::from_utf8_lossy(arguments.get(3..3 + length).unwrap_or_default()).into_owned()
}

/// `version` among the server's properties, which begin with two bytes of the protocol's version.
fn version(start: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"\x07versionS";
    let at = start.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let length = u32::from_be_bytes(start.get(at..at + 4)?.try_into().ok()?) as usize;
    Some(String::from_utf8_lossy(start.get(at + 4..at + 4 + length)?).into_owned())
}

pub(super) fn short(text: &str) -> Vec<u8> {
    let bytes = &text.as_bytes()[..text.len().min(255)];
    [&[bytes.len() as u8][..], bytes].concat()
}

pub(super) fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

/// A client's properties with these capabilities: without the first, a server closes the connection silently on a wrong password.
fn table(capabilities: &[(&str, &[u8])]) -> Vec<u8> {
    let inner: Vec<u8> = capabilities.iter().flat_map(|(name, value)| [short(name), value.to_vec()].concat()).collect();
    let properties = [short("capabilities"), vec![b'F'], long(&inner), short("product"), vec![b'S'], long(b"devenv")].concat();
    long(&properties)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that plays its part of the script and ignores what it reads.
    async fn against(answers: Vec<Vec<u8>>) -> Result<String, AmqpError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            for answer in answers {
                let _ = stream.read(&mut buffer).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        let result = login(TcpStream::connect(("127.0.0.1", port)).await.unwrap(), "app", "secret", "app").await;
        server.await.unwrap();
        result
    }

    fn answer(method: Method, arguments: &[u8]) -> Vec<u8> {
        framed(METHOD, 0, &[&method.0.to_be_bytes()[..], &method.1.to_be_bytes(), arguments].concat())
    }

    #[tokio::test]
    async fn a_refusal_is_reported_in_the_servers_words() {
        let start = answer(START, b"\0\x09\0\0\0\x12\x07versionS\0\0\0\x054.0.5");
        let refusal = answer(CLOSE, &[&403u16.to_be_bytes()[..], &short("ACCESS_REFUSED - login was refused"), &[0; 4]].concat());
        let error = against(vec![start, refusal]).await.unwrap_err();
        assert_eq!(error.to_string(), "ACCESS_REFUSED - login was refused");
    }

    #[tokio::test]
    async fn a_server_of_another_protocol_is_known() {
        let error = against(vec![b"AMQP\x00\x01\x00\x00".to_vec()]).await.unwrap_err();
        assert!(matches!(error, AmqpError::NoAmqp), "{error}");
        let error = against(vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()]).await.unwrap_err();
        assert!(matches!(error, AmqpError::NoAmqp), "{error}");
    }

    #[test]
    fn the_version_is_found_among_the_servers_properties() {
        assert_eq!(version(b"\0\x09\0\0\0\x12\x07versionS\0\0\0\x054.0.5rest").as_deref(), Some("4.0.5"));
        assert_eq!(version(b"\0\x09"), None);
    }
}
