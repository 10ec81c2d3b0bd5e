//! What the image's entrypoint runs when there is no data yet: the roles, databases and extensions that devenv provisions.

use devenv_spec::{FileSpec, Template};

use super::{SUPERUSER, USER};
use crate::postgres::spec::PostgresProvision;

const PATH: &str = "/docker-entrypoint-initdb.d/10-databases.sql";

/// For `psql`, as the superuser.
pub(super) fn script(provision: &PostgresProvision) -> FileSpec {
    let mut text = Template::default();
    for role in &provision.roles {
        text =
            text.then(format!("CREATE ROLE {} LOGIN PASSWORD '", identifier(&role.name))).then_secret(role.password.clone()).then("';\n");
    }
    for database in &provision.databases {
        let name = identifier(&database.name);
        // The image has made this one.
        if database.name != SUPERUSER {
            text = text.then(format!("CREATE DATABASE {name} OWNER {};\n", identifier(&database.owner)));
        }
        text = text.then(format!("REVOKE CONNECT, TEMP ON DATABASE {name} FROM PUBLIC;\n"));
        for (setting, value) in &database.settings {
            text = text.then(format!("ALTER DATABASE {name} SET {} TO '{}';\n", identifier(setting), value.replace('\'', "''")));
        }
        text = text.then(format!("\\connect {name}\nALTER SCHEMA public OWNER TO {};\n", identifier(&database.owner)));
        for extension in &database.extensions {
            text = text.then(format!("CREATE EXTENSION IF NOT EXISTS {} CASCADE;\n", identifier(&extension.name)));
        }
    }
    FileSpec::private(PATH, USER, text)
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
