//! Where topics end, and how far consumer groups have got.

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Answer, Connection, WireError, check, put_array, put_string};

/// An offset in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offset {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// The offset that the next record of each partition gets; partitions that this broker does not lead are left out.
    pub async fn ends(&mut self, topics: &[(String, u32)]) -> Result<Vec<Offset>, WireError> {
        self.listed(topics, LATEST).await
    }

    /// The offset of the oldest record that each partition still has.
    pub async fn starts(&mut self, topics: &[(String, u32)]) -> Result<Vec<Offset>, WireError> {
        self.listed(topics, EARLIEST).await
    }

    async fn listed(&mut self, topics: &[(String, u32)], which: i64) -> Result<Vec<Offset>, WireError> {
        let mut body = BytesMut::new();
        body.put_i32(-1);
        put_array(&mut body, topics, |body, (topic, partitions)| {
            put_string(body, topic);
            put_array(body, &(0..*partitions).collect::<Vec<_>>(), |body, partition| {
                body.put_u32(*partition);
                body.put_i64(which);
            });
        });
        let mut answer = self.call(2, 1, body).await?;
        offsets(&mut answer, |answer| {
            let (partition, code) = (answer.int()?, answer.short()?);
            answer.long()?;
            Ok((partition, answer.long()?, code))
        })
    }

    /// The offsets that the group has committed.
    pub async fn committed(&mut self, group: &str) -> Result<Vec<Offset>, WireError> {
        let mut body = BytesMut::new();
        put_string(&mut body, group);
        body.put_i32(-1);
        let mut answer = self.call(9, 2, body).await?;
        let found = offsets(&mut answer, |answer| {
            let (partition, offset) = (answer.int()?, answer.long()?);
            answer.nullable()?;
            Ok((partition, offset, answer.short()?))
        })?;
        check(|| format!("the offsets of the group `{group}`"), answer.short()?)?;
        Ok(found)
    }
}

/// By topic, those that exist.
fn offsets(answer: &mut Answer, mut read: impl FnMut(&mut Answer) -> Result<(i32, i64, i16), WireError>) -> Result<Vec<Offset>, WireError> {
    let topics = answer.array(|answer| {
        let topic = answer.string()?;
        Ok((topic, answer.array(&mut read)?))
    })?;
    let found = topics.into_iter().flat_map(|(topic, partitions)| {
        let there = partitions.into_iter().filter(|(_, offset, code)| *code == 0 && *offset >= 0);
        there.map(move |(partition, offset, _)| Offset { topic: topic.clone(), partition, offset })
    });
    Ok(found.collect())
}
