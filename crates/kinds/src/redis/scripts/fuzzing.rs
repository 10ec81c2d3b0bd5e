//! The doors for `fuzz/`, which alone builds with this: the commands and the keys of a data set.

use super::{
    divide::{Outside, divided, names},
    lines::key_commands,
};
use crate::script::{Script, lines::lines};

/// A file of commands, in lines or in the protocol's form.
pub fn commands(script: &Script) {
    if names(script).is_ok() {
        let outside = Outside::from([("CONFIG".to_owned(), true)]);
        let _ = divided(script, &outside, 1, &mut |_| true);
    }
}

/// A file of keys.
pub fn keys(script: &Script) {
    let _ = lines(script, |number, line| key_commands(script, number, line).map(drop));
}
