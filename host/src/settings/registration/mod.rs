//! Who may register at a proxy: `[registration]`, files of keys and of invitations, and the command that makes invitations.

mod invitations;
mod invite;
mod ledger;
mod rules;
mod table;
#[cfg(test)]
mod tests;

pub use invite::{InviteArgs, InviteError, invite};
pub use rules::{Door, Given, NobodyMay, Said};
pub use table::{HostnameFlag, KeyFlag, RegistrationTable};
