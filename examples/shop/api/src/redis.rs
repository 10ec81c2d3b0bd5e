//! As much of Redis's protocol as the shop needs.

use std::io;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// Appends to a list, at an address like `redis://default:SECRET@127.0.0.1:6379/0`.
pub async fn push(url: &str, list: &str, value: &str) -> io::Result<()> {
    let wrong = || io::Error::other("REDIS_URL is not an address");
    let (login, address) = url.trim_start_matches("redis://").split_once('@').ok_or_else(wrong)?;
    let (user, password) = login.split_once(':').ok_or_else(wrong)?;
    let mut stream = BufReader::new(TcpStream::connect(address.split('/').next().ok_or_else(wrong)?).await?);
    for command in [&["AUTH", user, password], &["RPUSH", list, value]] {
        let mut text = format!("*{}\r\n", command.len());
        for word in command {
            text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.get_mut().write_all(text.as_bytes()).await?;
        let mut reply = String::new();
        stream.read_line(&mut reply).await?;
        if reply.starts_with('-') {
            return Err(io::Error::other(reply.trim().to_owned()));
        }
    }
    Ok(())
}
