//! Lines in the host's log, beside the plugin's name, the hook and the exchange.
//!
//! ```no_run
//! use guest_sdk::log::{debug, info};
//!
//! let user = "anna";
//! info!("{user} has signed in");
//! debug!(user, attempts = 3; "signed in");
//! ```
//! What stands before the `;` are fields: a variable, or `name = value`. 2 KiB a line and 100 lines a second are kept by
//! default, what is more is counted.

pub use crate::{
    __debug as debug, __error as error, __info as info, __trace as trace, __warn as warn,
    bindings::plugin::log::Level,
};

use crate::host::log;

/// Writes a line. The macros are more pleasant.
pub fn write(level: Level, message: &str, fields: &[(String, String)]) {
    log::write(level, message, fields);
}

/// Whether a line of this level would be kept. The macros ask for themselves.
#[must_use]
pub fn enabled(level: Level) -> bool {
    log::enabled(level)
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    // What is usually off is asked about first: it spares the work of making the line.
    (maybe $level:ident, $($line:tt)+) => {
        if $crate::log::enabled($crate::log::Level::$level) {
            $crate::__log!($level, $($line)+);
        }
    };
    ($level:ident, $($name:ident $(= $value:expr)?),+ $(,)? ; $($format:tt)+) => {
        $crate::log::write(
            $crate::log::Level::$level,
            &::std::format!($($format)+),
            &[$((
                ::std::string::String::from(::std::stringify!($name)),
                $crate::__log!(@value $name $($value)?),
            )),+],
        )
    };
    ($level:ident, $($format:tt)+) => {
        $crate::log::write($crate::log::Level::$level, &::std::format!($($format)+), &[])
    };
    (@value $name:ident) => { ::std::string::ToString::to_string(&$name) };
    (@value $name:ident $value:expr) => { ::std::string::ToString::to_string(&$value) };
}

/// Writes a line of level `trace`.
#[doc(hidden)]
#[macro_export]
macro_rules! __trace { ($($line:tt)+) => { $crate::__log!(maybe Trace, $($line)+) }; }

/// Writes a line of level `debug`.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug { ($($line:tt)+) => { $crate::__log!(maybe Debug, $($line)+) }; }

/// Writes a line of level `info`.
#[doc(hidden)]
#[macro_export]
macro_rules! __info { ($($line:tt)+) => { $crate::__log!(Info, $($line)+) }; }

/// Writes a line of level `warn`.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn { ($($line:tt)+) => { $crate::__log!(Warn, $($line)+) }; }

/// Writes a line of level `error`.
#[doc(hidden)]
#[macro_export]
macro_rules! __error { ($($line:tt)+) => { $crate::__log!(Error, $($line)+) }; }
