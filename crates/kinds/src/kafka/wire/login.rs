//! Logging in, and the users of a broker that asks for a password.

use bytes::{BufMut, BytesMut};
use sha2::Sha512;
use tokio::net::TcpStream;

use super::{Answer, Connection, WireError, check, put_string};
use crate::kafka::login::Login;

/// Kafka's number of SCRAM-SHA-512.
const SCRAM_SHA_512: i8 = 2;
/// The fewest that Kafka takes; the passwords are random.
const ROUNDS: u32 = 4096;
/// Kafka's answer to a question about a user that is not there.
const NO_SUCH_USER: i16 = 91;

impl Connection {
    /// A connection that is logged in, where the broker asks for that.
    pub async fn open(stream: TcpStream, login: Option<&Login>) -> Result<Self, WireError> {
        let mut connection = Self::new(stream);
        if let Some(login) = login {
            connection.log_in(login).await?;
        }
        Ok(connection)
    }

    async fn log_in(&mut self, login: &Login) -> Result<(), WireError> {
        let mut body = BytesMut::new();
        put_string(&mut body, "PLAIN");
        let code = self.call(17, 1, body).await?.short()?;
        check(|| "the broker does not take a password".to_owned(), code)?;
        let words = format!("\0{}\0{}", login.user, login.password);
        let mut body = BytesMut::new();
        body.put_i32(words.len() as i32);
        body.put_slice(words.as_bytes());
        let mut answer = self.call(36, 0, body).await?;
        let code = answer.short()?;
        let message = answer.nullable()?.unwrap_or_default();
        check(|| format!("cannot log in as `{}` ({message})", login.user), code)
    }

    /// Those of the users who can log in by SCRAM-SHA-512.
    pub async fn scram_users(&mut self, users: &[&str]) -> Result<Vec<String>, WireError> {
        let mut body = compact_body();
        put_length(&mut body, users.len());
        for user in users {
            put_compact(&mut body, user.as_bytes());
            body.put_u8(0);
        }
        body.put_u8(0);
        let mut answer = self.call(50, 0, body).await?;
        answer.tags()?;
        answer.int()?;
        let code = answer.short()?;
        answer.compact()?;
        check(|| "cannot read the users of the broker".to_owned(), code)?;
        let found = answer.compact_array(|answer| {
            let (user, code) = (answer.compact()?.unwrap_or_default(), answer.short()?);
            answer.compact()?;
            let mechanisms = answer.compact_array(|answer| {
                let mechanism = answer.byte()?;
                answer.int()?;
                answer.tags()?;
                Ok(mechanism)
            })?;
            answer.tags()?;
            if code != NO_SUCH_USER {
                check(|| format!("cannot read the user `{user}`"), code)?;
            }
            Ok((user, mechanisms))
        })?;
        Ok(found.into_iter().filter(|(_, mechanisms)| mechanisms.contains(&SCRAM_SHA_512)).map(|(user, _)| user).collect())
    }

    /// Has these users log in by SCRAM-SHA-512 with these passwords, which do not leave this process: the broker keeps what it would
    /// have computed from them.
    pub async fn set_scram_users(&mut self, users: &[Login]) -> Result<(), WireError> {
        let mut body = compact_body();
        put_length(&mut body, 0);
        put_length(&mut body, users.len());
        for Login { user, password } in users {
            let salt: [u8; 32] = rand::random();
            let salted = pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password.as_bytes(), &salt, ROUNDS);
            put_compact(&mut body, user.as_bytes());
            body.put_i8(SCRAM_SHA_512);
            body.put_u32(ROUNDS);
            put_compact(&mut body, &salt);
            put_compact(&mut body, &salted);
            body.put_u8(0);
        }
        body.put_u8(0);
        let mut answer = self.call(51, 0, body).await?;
        answer.tags()?;
        answer.int()?;
        let outcomes = answer.compact_array(|answer| {
            let (user, code, message) = (answer.compact()?.unwrap_or_default(), answer.short()?, answer.compact()?.unwrap_or_default());
            answer.tags()?;
            Ok((user, code, message))
        })?;
        outcomes
            .into_iter()
            .try_for_each(|(user, code, message)| check(|| format!("cannot set the password of `{user}` ({message})"), code))
    }
}

/// In the compact layout a request's own head ends with its tags, of which there are none.
fn compact_body() -> BytesMut {
    BytesMut::from(&[0][..])
}

/// One more than the number of items, seven bits a byte.
fn put_length(body: &mut BytesMut, length: usize) {
    let mut rest = length + 1;
    while rest >= 0x80 {
        body.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    body.put_u8(rest as u8);
}

fn put_compact(body: &mut BytesMut, bytes: &[u8]) {
    put_length(body, bytes.len());
    body.put_slice(bytes);
}

impl Answer {
    fn number(&mut self) -> Result<usize, WireError> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?.cast_unsigned();
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(WireError::Malformed)
    }

    fn compact(&mut self) -> Result<Option<String>, WireError> {
        let Some(length) = self.number()?.checked_sub(1) else { return Ok(None) };
        if length > self.0.len() {
            return Err(WireError::Malformed);
        }
        Ok(Some(String::from_utf8_lossy(&self.0.split_to(length)).into_owned()))
    }

    fn compact_array<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, WireError>) -> Result<Vec<T>, WireError> {
        let length = self.number()?.saturating_sub(1);
        (0..length).map(|_| item(self)).collect()
    }

    /// Fields that later versions have added.
    fn tags(&mut self) -> Result<(), WireError> {
        for _ in 0..self.number()? {
            self.number()?;
            let length = self.number()?;
            if length > self.0.len() {
                return Err(WireError::Malformed);
            }
            drop(self.0.split_to(length));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn lengths_and_texts_are_read_as_they_are_written_and_cut_ones_are_malformed() {
        for length in [0, 1, 126, 127, 128, 300, 20_000] {
            let mut body = BytesMut::new();
            put_compact(&mut body, "x".repeat(length).as_bytes());
            let whole = body.freeze();
            assert_eq!(Answer(whole.clone()).compact().unwrap().unwrap().len(), length);
            assert!(Answer(whole.slice(..whole.len() - 1)).compact().is_err(), "{length}");
        }
        assert_eq!(Answer(Bytes::from_static(&[0])).compact().unwrap(), None);
        for wild in [&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[2, 1]] {
            let wild = Bytes::copy_from_slice(wild);
            assert!(Answer(wild.clone()).compact_array(Answer::short).is_err(), "{wild:?}");
            assert!(Answer(wild).tags().is_err());
        }
    }
}
