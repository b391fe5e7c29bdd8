//! Plugins as an operator names them: on the command line and in files, with their configuration, grants and limits.
//!
//! Owns the way from what is written (`table`, `flags`) over what is wanted, read and checked (`wanted`, `grant`), to what is loaded
//! (`load`). Must not know where in a role plugins stand.

pub mod cache;
pub mod flags;
mod grant;
pub mod load;
pub mod sources;
pub mod table;
pub mod wanted;

pub use flags::PluginFlags;
pub use load::{Loader, Pack};
pub use sources::Sources;
pub use table::PluginTable;
pub use wanted::Wanted;

#[cfg(test)]
mod tests;
