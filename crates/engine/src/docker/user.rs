//! The user of a container's program: the engine accepts a name or a number, and the container's passwd file defines names.

use std::io::Read;

use super::{
    client::Client,
    containers,
    wire::{Call, segment},
};
use crate::EngineError;

const USERS: &str = "/etc/passwd";

pub(super) async fn number(client: &Client, id: &str) -> Result<u32, EngineError> {
    let document = containers::document(client, id).await?;
    let Some(document) = document else { return Err(EngineError::NotFound { what: "container", name: id.to_owned() }) };
    let user = document.user().split(':').next().unwrap_or_default();
    if user.is_empty() {
        return Ok(0);
    }
    if let Ok(number) = user.parse() {
        return Ok(number);
    }
    let users = file(client, id, USERS).await?;
    // The engine refuses to start a container with an unknown user.
    Ok(find(&String::from_utf8_lossy(&users), user).unwrap_or(0))
}

/// The content of a file in a container that need not run; `None` if there is no such file.
async fn file(client: &Client, id: &str, path: &str) -> Result<Vec<u8>, EngineError> {
    let action = format!("read {path} of the container");
    let call = Call::get(&action, format!("/containers/{}/archive", segment(id))).with("path", path);
    let archive = match client.wire.open(call).await {
        Ok(response) => client.wire.body(response, &action).await?,
        Err(EngineError::NotFound { .. } | EngineError::Refused { status: 404, .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    let read = tar::Archive::new(archive.as_ref()).entries().and_then(|mut entries| match entries.next() {
        Some(entry) => entry?.read_to_end(&mut content),
        None => Ok(0),
    });
    read.map(|_| content).map_err(|error| EngineError::Protocol { action, message: error.to_string() })
}

fn find(users: &str, name: &str) -> Option<u32> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_in_the_containers_own_list() {
        let users = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbroken\n";
        assert_eq!(find(users, "app"), Some(1000));
        assert_eq!(find(users, "root"), Some(0));
        assert_eq!(find(users, "nobody"), None);
    }
}
