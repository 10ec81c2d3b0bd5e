//! Ports and subnets of the host: which an environment may use, and which program uses a port already.

mod forward;
mod front;
mod peer;
mod port_owner;
mod ports;
mod subnets;
mod tunnel;

pub(crate) use forward::{dial, forward};
pub(crate) use front::{Clients, Connect, Front, Gate, Server};
pub(crate) use port_owner::{Holder, Listening, holder_of, listening_on};
pub(crate) use ports::{PortError, PortReservations, is_free, shadowed_by};
pub(crate) use subnets::{SubnetError, choose_subnet, host_routes, overlaps, part_of};
pub(crate) use tunnel::Tunnel;
