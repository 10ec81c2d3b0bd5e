//! Ports that other programs use: the error names the port and the program.

use std::net::TcpListener;

use crate::corner::{Corner, docker};

fn profile(port: u16) -> String {
    format!("  cache:\n    ports: {{ 6379: {port} }}\n    redis: {{}}\n")
}

fn error_text(corner: &Corner, line: &[&str]) -> String {
    let ended = corner.devenv(&[line, &["--json"]].concat()).expect(1);
    ended.stdout + &ended.stderr
}

#[test]
fn a_fixed_port_that_another_program_holds_is_named_with_its_pid() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let corner = Corner::with(&profile(port));
    let error_text = error_text(&corner, &["up", "test"]);
    assert!(error_text.contains(&port.to_string()) && error_text.contains(&std::process::id().to_string()), "{error_text}");

    drop(listener);
    let status = corner.up("test");
    assert_eq!(status["services"][0]["ports"][0]["host"], port);
}

#[test]
fn a_fixed_port_that_another_environment_has_is_named_with_its_service() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let corner = Corner::with(&profile(port));
    corner.up("test");
    let project = corner.project().display().to_string();
    let error_text = error_text(&corner, &["up", "test", "--instance", "other"]);
    assert!(error_text.contains(&port.to_string()) && error_text.contains(&format!("devenv down --project {project}")), "{error_text}");
}

#[test]
fn ports_are_published_on_loopback_alone() {
    let corner = Corner::new();
    let status = corner.up("data");
    for service in status["services"].as_array().unwrap() {
        let inspected = docker(&["inspect", service["container"].as_str().unwrap()]).json();
        let ports = inspected[0]["NetworkSettings"]["Ports"].as_object().unwrap().clone();
        let hosts: Vec<String> =
            ports.values().filter_map(|hosts| hosts.as_array()).flatten().map(|host| host["HostIp"].as_str().unwrap().to_owned()).collect();
        assert!(!hosts.is_empty() && hosts.iter().all(|host| host == "127.0.0.1" || host == "::1"), "{hosts:?}");
    }
}
