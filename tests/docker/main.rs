//! The real binary, real servers in real containers, real clients.
//!
//! Each test has its own state, runtime and project directory, so all run side by side; each leaves nothing behind, which
//! its corner checks. `DEVENV_BIN` names another binary than the one that cargo built.

mod clients;
mod corner;

mod chaos;
mod ci;
mod commands;
mod compose;
mod cookbook;
mod data;
mod dependencies;
mod encrypted_clients;
mod examples;
mod guide;
mod images;
mod instances;
mod interrupted;
mod kinds;
mod lifecycle;
mod load;
mod networks;
mod places;
mod planted;
mod ports;
mod prometheus;
mod recovery;
mod reload;
mod remote;
mod secrets;
mod shapes;
mod shipped;
mod sleep;
mod testing;
