//! The state machine of one environment: one task, the sole owner of its state.
//!
//! # Theory of operation
//!
//! Commands, engine events, the ends of operations and timers all arrive as one stream of inputs. Each input changes the
//! [`state`]; then [`plan`] is asked what to do next, purely, and each answer is started as an operation ([`execute`]).
//! Each service has at most one operation in progress, so nothing races. Nothing is polled: a service starts as soon as the
//! input is handled by which the last thing it waited for became ready.
//!
//! Callers see a [`View`] in a watch channel, published after each input; commands that wait read it.

mod actor;
mod backoff;
mod execute;
mod failure;
mod handle;
mod plan;
mod state;
mod swap;
mod timeline;
mod view;
mod waits;

pub(crate) use actor::{Setup, begin};
pub(crate) use execute::{
    Effects, Leaving, Observed, ObservedProcess, OperationError, Progress, ReadinessUpdate, ServiceRuntime, Subject, labels, network_name,
};
pub(crate) use failure::{Evidence, Exit};
pub(crate) use handle::{CommandError, Handle, Reload, ServiceAction};
pub(crate) use plan::preview_new;
pub(crate) use state::Instance;
pub(crate) use view::{BlockedService, FrontedService, View};
