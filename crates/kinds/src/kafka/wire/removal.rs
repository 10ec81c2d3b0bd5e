//! Lists topics and groups by their prefix, and deletes them.

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{ADMIN_MILLISECONDS, Answer, Connection, Outcome, WireError, check, put_array, put_string};

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub async fn delete_topics(&mut self, topics: &[String]) -> Result<Vec<Outcome>, WireError> {
        let mut body = BytesMut::new();
        put_array(&mut body, topics, |body, topic| put_string(body, topic));
        body.put_i32(ADMIN_MILLISECONDS);
        let mut answer = self.call(20, 1, body).await?;
        outcomes(&mut answer)
    }

    /// All consumer groups that this broker coordinates.
    pub async fn groups(&mut self) -> Result<Vec<String>, WireError> {
        let mut answer = self.call(16, 1, BytesMut::new()).await?;
        answer.int()?;
        check(|| "cannot list the groups".to_owned(), answer.short()?)?;
        answer.array(|answer| {
            let group = answer.string()?;
            answer.string()?;
            Ok(group)
        })
    }

    pub async fn delete_groups(&mut self, groups: &[String]) -> Result<Vec<Outcome>, WireError> {
        let mut body = BytesMut::new();
        put_array(&mut body, groups, |body, group| put_string(body, group));
        let mut answer = self.call(42, 0, body).await?;
        outcomes(&mut answer)
    }
}

fn outcomes(answer: &mut Answer) -> Result<Vec<Outcome>, WireError> {
    answer.int()?;
    answer.array(|answer| Ok(Outcome { name: answer.string()?, code: answer.short()?, message: None }))
}
