//! The page in the browser: who gets in, and how long it is served. What it shows is tested in a browser (`tests/ui`).

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::world::{World, until};

/// An HTTP answer as text; `None` if nobody listens.
fn ask(address: &str, method: &str, path: &str, headers: &[&str], body: &str) -> Option<String> {
    let mut connection = TcpStream::connect(address).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
    connection.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// The address and the path of the page that a command prints.
fn place(line: &str) -> (String, String) {
    let document: Value = serde_json::from_str(line).unwrap();
    let (address, path) = document["url"].as_str().unwrap().strip_prefix("http://").unwrap().split_once('/').unwrap();
    (address.to_owned(), format!("/{path}"))
}

fn cookie_of(answer: &str) -> String {
    let line = answer.lines().find(|line| line.to_lowercase().starts_with("set-cookie:")).unwrap();
    format!("cookie: {}", line["set-cookie:".len()..].trim().split(';').next().unwrap())
}

#[test]
fn the_page_belongs_to_one_browser_and_ends_with_its_command() {
    let world = World::new();
    let daemon = world.start();
    daemon.expect(0, "up shop");
    let mut ui = daemon.spawn("ui --no-open --json");
    let (address, path) = place(&ui.first_line());
    assert!(address.starts_with("127.0.0.1:"), "{address}");

    let json = "content-type: application/json";
    let status = |answer: Option<String>| answer.unwrap()[9..12].to_owned();
    assert_eq!(status(ask(&address, "GET", "/", &[], "")), "403");
    let entered = ask(&address, "GET", &path, &[], "").unwrap();
    assert!(entered.starts_with("HTTP/1.1 303") && entered.contains("HttpOnly; SameSite=Strict"), "{entered}");
    assert_eq!(status(ask(&address, "GET", &path, &[], "")), "403");
    let cookie = cookie_of(&entered);
    let page = ask(&address, "GET", "/", &[&cookie], "").unwrap();
    assert!(page.contains("text/html") && page.contains("content-security-policy: default-src 'none'"), "{page}");
    assert_eq!(status(ask(&address, "POST", "/api/v1/environments", &[json], "{}")), "403");
    assert_eq!(status(ask(&address, "POST", "/api/v1/environments", &[&cookie], "{}")), "403");
    let known = ask(&address, "POST", "/api/v1/environments", &[&cookie, json], "{}").unwrap();
    assert!(known.contains(r#""profile":"shop""#), "{known}");
    // What the page has no use for is not there, and a refusal is a document.
    let refused = ask(&address, "POST", "/api/v1/daemon/stop", &[&cookie, json], "{}").unwrap();
    assert!(refused.starts_with("HTTP/1.1 200") && refused.contains("no such route"), "{refused}");

    ui.signal(Signal::INT);
    assert_eq!(ui.ended().code, Some(130));
    until("nobody listens", || TcpStream::connect(&address).is_err());
}

#[test]
fn an_open_page_goes_on_with_the_next_daemon() {
    let world = World::new();
    let daemon = world.start();
    let mut ui = daemon.spawn("ui --no-open --json");
    let (address, path) = place(&ui.first_line());
    let cookie = cookie_of(&ask(&address, "GET", &path, &[], "").unwrap());
    drop(daemon);
    let _next = world.start();
    until("the page is served again", || {
        ask(&address, "GET", "/", &[&cookie], "").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    ui.signal(Signal::TERM);
    assert_eq!(ui.ended().code, Some(143));
}
