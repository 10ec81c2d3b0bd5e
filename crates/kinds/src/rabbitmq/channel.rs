//! An AMQP 0-9-1 channel: declares queues, publishes messages with confirms, and reads messages without removing them.

use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::amqp::{AmqpError, BODY, CONTENT, METHOD, Method, expect, frame, framed, long, method, open, send, short};

const NUMBER: u16 = 1;
const CHANNEL_OPEN: Method = (20, 10);
const CHANNEL_OPEN_OK: Method = (20, 11);
const QUEUE_DECLARE: Method = (50, 10);
const QUEUE_DECLARE_OK: Method = (50, 11);
const QUEUE_DELETE: Method = (50, 40);
const QUEUE_DELETE_OK: Method = (50, 41);
const QOS: Method = (60, 10);
const QOS_OK: Method = (60, 11);
const PUBLISH: Method = (60, 40);
const RETURN: Method = (60, 50);
const GET: Method = (60, 70);
const GET_OK: Method = (60, 71);
const GET_EMPTY: Method = (60, 72);
const ACK: Method = (60, 80);
const NACK: Method = (60, 120);
const CONFIRM: Method = (85, 10);
const CONFIRM_OK: Method = (85, 11);

const BASIC: u16 = 60;
const PASSIVE: u8 = 1;
const DURABLE: u8 = 2;
const MANDATORY: u8 = 1;
/// The flag of the only message property that is sent, `delivery_mode`: kept on the disk.
const DELIVERY_MODE: u16 = 1 << 12;
const PERSISTENT: u8 = 2;

/// One channel on a connection of its own, which ends with this. It is unusable after an error.
pub(super) struct Channel {
    stream: TcpStream,
    /// The number of messages since [`Self::confirm`].
    published: u64,
}

/// The broker's answer to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Confirmation {
    Accepted,
    Refused(&'static str),
}

impl Channel {
    pub(super) async fn open(port: u16, user: &str, password: &str, vhost: &str) -> Result<Self, AmqpError> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (mut stream, _) = open(stream, user, password, vhost).await?;
        send(&mut stream, NUMBER, CHANNEL_OPEN, &short("")).await?;
        expect(&mut stream, CHANNEL_OPEN_OK).await?;
        Ok(Self { stream, published: 0 })
    }

    /// A request that changes nothing.
    pub(super) async fn ask(&mut self) -> Result<(), AmqpError> {
        self.call(QOS, &[0; 7], QOS_OK).await.map(drop)
    }

    /// Declares a durable queue of this type.
    pub(super) async fn declare(&mut self, queue: &str, kind: &str) -> Result<(), AmqpError> {
        let arguments = [short("x-queue-type"), vec![b'S'], long(kind.as_bytes())].concat();
        let declare = [vec![0, 0], short(queue), vec![DURABLE], long(&arguments)].concat();
        self.call(QUEUE_DECLARE, &declare, QUEUE_DECLARE_OK).await.map(drop)
    }

    /// The number of messages in the queue that wait for a consumer.
    pub(super) async fn waiting(&mut self, queue: &str) -> Result<u32, AmqpError> {
        let declare = [vec![0, 0], short(queue), vec![PASSIVE], long(&[])].concat();
        let answer = self.call(QUEUE_DECLARE, &declare, QUEUE_DECLARE_OK).await?;
        let name = usize::from(*answer.first().ok_or(AmqpError::NoAmqp)?);
        let count = answer.get(name + 1..name + 5).and_then(|bytes| bytes.try_into().ok()).ok_or(AmqpError::NoAmqp)?;
        Ok(u32::from_be_bytes(count))
    }

    /// From now on the broker confirms each message.
    pub(super) async fn confirm(&mut self) -> Result<(), AmqpError> {
        self.published = 0;
        self.call(CONFIRM, &[0], CONFIRM_OK).await.map(drop)
    }

    /// Publishes a message that is kept on the disk, and awaits its confirmation.
    pub(super) async fn publish(&mut self, queue: &str, body: &[u8]) -> Result<Confirmation, AmqpError> {
        let mut header = Vec::new();
        header.extend(BASIC.to_be_bytes());
        header.extend([0, 0]);
        header.extend((body.len() as u64).to_be_bytes());
        header.extend(DELIVERY_MODE.to_be_bytes());
        header.push(PERSISTENT);
        let publish = [&PUBLISH.0.to_be_bytes()[..], &PUBLISH.1.to_be_bytes(), &[0, 0], &short(""), &short(queue), &[MANDATORY]].concat();
        // In one write: three small packets would wait for one another.
        let frames = [framed(METHOD, NUMBER, &publish), framed(CONTENT, NUMBER, &header), framed(BODY, NUMBER, body)].concat();
        self.stream.write_all(&frames).await?;
        self.published += 1;
        let mut returned = false;
        loop {
            let (found, arguments) = method(&mut self.stream).await?;
            match found {
                ACK | NACK => {
                    let tag = arguments.get(..8).and_then(|bytes| bytes.try_into().ok()).ok_or(AmqpError::NoAmqp)?;
                    if u64::from_be_bytes(tag) < self.published {
                        continue;
                    }
                    return Ok(match (found, returned) {
                        (NACK, _) => Confirmation::Refused("the broker could not keep the message"),
                        (_, true) => Confirmation::Refused("no queue took the message"),
                        _ => Confirmation::Accepted,
                    });
                }
                RETURN => {
                    returned = true;
                    self.content().await?;
                }
                _ => return Err(AmqpError::NoAmqp),
            }
        }
    }

    /// Gets the next message of the queue. All return to the queue when this channel ends.
    pub(super) async fn get(&mut self, queue: &str) -> Result<Option<Vec<u8>>, AmqpError> {
        send(&mut self.stream, NUMBER, GET, &[vec![0, 0], short(queue), vec![0]].concat()).await?;
        match method(&mut self.stream).await?.0 {
            GET_EMPTY => Ok(None),
            GET_OK => self.content().await.map(Some),
            _ => Err(AmqpError::NoAmqp),
        }
    }

    pub(super) async fn delete(&mut self, queue: &str) -> Result<(), AmqpError> {
        self.call(QUEUE_DELETE, &[vec![0, 0], short(queue), vec![0]].concat(), QUEUE_DELETE_OK).await.map(drop)
    }

    /// The message after a method: its size, then as many frames as needed.
    async fn content(&mut self) -> Result<Vec<u8>, AmqpError> {
        let (CONTENT, header) = frame(&mut self.stream).await? else { return Err(AmqpError::NoAmqp) };
        let size = header.get(4..12).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes).ok_or(AmqpError::NoAmqp)?;
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            let (BODY, piece) = frame(&mut self.stream).await? else { return Err(AmqpError::NoAmqp) };
            body.extend(piece);
        }
        Ok(body)
    }

    async fn call(&mut self, asked: Method, arguments: &[u8], wanted: Method) -> Result<Vec<u8>, AmqpError> {
        send(&mut self.stream, NUMBER, asked, arguments).await?;
        expect(&mut self.stream, wanted).await
    }
}
